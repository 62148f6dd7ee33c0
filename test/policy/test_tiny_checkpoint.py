"""The tiny checkpoint of the tests with nodes, which is committed, is what its command makes."""

import torch
from safetensors.torch import load_file
from support.make_tiny import TINY, make

from maskact_ros.core.checkpoint import WEIGHTS, CheckpointInfo

COMMITTED = TINY / "checkpoint"


def test_it_is_whole_and_small():
    CheckpointInfo.read(COMMITTED).verify()
    assert sum(path.stat().st_size for path in COMMITTED.iterdir()) < 500_000


def test_it_is_what_its_command_makes(tmp_path):
    """A change of the checkpoint's format, or of how weights are drawn: run test/support/make_tiny.py again."""
    made = make(tmp_path / "made").folder
    assert {path.name for path in made.iterdir()} == {path.name for path in COMMITTED.iterdir()}
    for name in ("config.json", "backbone.json", "stats.json"):
        assert (COMMITTED / name).read_text() == (made / name).read_text(), name
    ours, anew = load_file(COMMITTED / WEIGHTS), load_file(made / WEIGHTS)
    assert ours.keys() == anew.keys()
    for name, tensor in ours.items():  # another processor may round the last bit of a drawn number otherwise
        torch.testing.assert_close(anew[name], tensor, rtol=1e-5, atol=1e-7)
