"""A damaged checkpoint given to nodes that run: refused in one sentence, never executed, and the policy goes on."""

import pickle
import shutil

import pytest
from support.asking import all_values, ask
from support.chain import Chain
from support.soundness import story
from test_checkpoints import Bomb, flip, vouch_for

pytestmark = pytest.mark.extended


@pytest.fixture(scope="module")
def running(tmp_path_factory, policy, robot):
    with Chain.start(tmp_path_factory.mktemp("chain"), policy, robot) as opened:
        yield opened


@pytest.fixture
def chain(running):
    running.move()
    yield running
    running.settle()


def test_a_damaged_checkpoint_is_refused_and_the_policy_in_force_goes_on(chain, make_policy, tmp_path, phase):
    kind = phase.pick(["truncated", "flipped", "a pickle", "a pickle that is vouched for"])
    damaged = shutil.copytree(make_policy(seed=1), tmp_path / "damaged")
    weights, trace = damaged / "model.safetensors", tmp_path / "executed"
    if kind == "truncated":
        weights.write_bytes(weights.read_bytes()[: weights.stat().st_size * int(phase.random.integers(10)) // 10])
    elif kind == "flipped":
        flip(weights, int(phase.random.integers(8 * weights.stat().st_size)))
    else:
        weights.write_bytes(pickle.dumps(Bomb(trace)))
        if kind == "a pickle that is vouched for":
            vouch_for(damaged)
    node = phase.random.choice(["camera_encoder", "inference"])
    paths = {name: all_values(chain.probe, name)["policy_path"] for name in chain.vision.programs}
    phase.let_it_move()
    known = len(chain.arm.states)
    answer = ask(chain.probe, node, policy_path=str(damaged))
    if answer.successful:  # it is loaded beside the one in force, and refused then
        report = chain.probe.wait_for_problem(node, str(damaged))
        assert "\n" not in report.message
    else:
        assert "\n" not in answer.reason
    chain.arm.wait_for_commands(100)
    assert "decelerating" not in chain.rungs_since(known), story(chain.arm.states[known:])
    chain.vision.wait_for_chunks(3)
    assert {name: all_values(chain.probe, name)["policy_path"] for name in chain.vision.programs} == paths
    assert not trace.exists()
