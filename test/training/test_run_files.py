"""A run's own files, damaged: what --resume and the report read is checked, and refused in a sentence."""

import json
import os

import numpy as np
import pytest
from support.fuzz_entrances import ENTRANCES

from maskact_ros.core.errors import MaskACTError
from maskact_ros.training.evaluation.report import read_evaluation
from maskact_ros.training.evaluation.report_tables import draw
from maskact_ros.training.run.run_folder import Progressed, RunFolder
from maskact_ros.training.run.run_log import RunLog


@pytest.fixture
def folder(tmp_path):
    """A run.json and an evaluation.json, among others."""
    ENTRANCES["JSON"]().write(tmp_path)
    return tmp_path


def edit(path, section=None, **entries):
    values = json.loads(path.read_text())
    (values if section is None else values[section]).update(entries)
    path.write_text(json.dumps(values))


def refused(read, *words):
    with pytest.raises(MaskACTError) as caught:
        read()
    sentence = str(caught.value)
    assert all(word in sentence for word in words), sentence
    assert "\n" not in sentence
    assert len(sentence) < 800


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        ({"steps": "many"}, "steps is 'many'; allowed: an integer"),
        ({"steps": True}, "steps is True; allowed: an integer"),
        ({"steps": 2**63}, "--steps is 9223372036854775808; allowed"),
        ({"datasets": "/data"}, "datasets is '/data'; allowed: a list of paths"),
        ({"datasets": [1]}, "datasets is [1]; allowed: a list of paths"),
        ({"config": None}, "config is None; allowed: a path"),
        ({"augment": []}, "augment is []; allowed: an object"),
        ({"augment": {"preset": ["full"]}}, "preset is ['full']; allowed: none"),
        ({"learning": 1}, "learning is missing or unknown"),
        ({"ema": "0.9"}, "ema is '0.9'; allowed: a number"),
    ],
)
def test_settings_of_a_wrong_type_are_one_sentence(folder, entries, words):
    assert RunFolder(folder).settings().steps == 9
    edit(folder / "run.json", "settings", **entries)
    refused(RunFolder(folder).settings, str(folder / "run.json"), words)


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        ({"policy": 5}, "policy is 5; allowed: an object"),
        ({"statistics": None}, "statistics: allowed: a mapping"),
        ({"backbone": "large"}, "backbone is 'large'; allowed: an object"),
    ],
)
def test_a_policy_of_a_wrong_type_is_one_sentence(folder, entries, words):
    RunFolder(folder).spec(["a"])
    edit(folder / "run.json", **entries)
    refused(lambda: RunFolder(folder).spec(["a"]), str(folder / "run.json"), words)


def test_a_run_whose_dimensions_its_state_cannot_have_is_refused(folder):
    (folder / "state.safetensors").write_bytes(bytes(1000))
    refused(lambda: RunFolder(folder).spec(["a"]), "need at least", "there are 1000")


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"step": -1, "best_loss": 1}', '{"step": "1", "best_loss": null}'])
def test_a_state_that_does_not_say_how_far_it_is_is_one_sentence(folder, text):
    refused(lambda: Progressed.parse(text, folder / "state.safetensors"), "state.safetensors")
    assert Progressed.parse('{"step": 3, "best_loss": null}', folder) == Progressed(step=3)


@pytest.mark.parametrize("line", ["[1]", "{", '{"step": "1", "about": "training"}', '{"step": 1, "about": 5}'])
def test_a_log_of_something_else_is_one_sentence(folder, line):
    (folder / "log.jsonl").write_text(line + "\n")
    refused(lambda: RunLog(folder, 10), "log.jsonl")


def test_a_class_with_dollars_is_drawn_in_a_runs_curves(folder):
    with RunLog(folder, 0) as log:
        log.add(1, "held-out", {"total": 1.0, "iou": {"cube $\\frac{": 0.5, "a$b$": 0.25}})
        log.draw()
    assert (folder / "curves.png").stat().st_size > 1000


@pytest.mark.parametrize(
    "entries",
    [
        {"ci95": [0.1]},
        {"ci95": ["a", "b"]},
        {"ci95": [-3, 9]},
        {"episodes": 0, "seeds": [], "solved": [], "successes": 0},
        {"episodes": 200_000_000},
        {"seeds": [0, 1, "2"]},
        {"solved": [7]},
        {"successes": 3},
        {"mask_iou": {"robot": "good", "mean": 1}},
        {"mask_iou": {"robot": 0.5}},
        {"time_limit_s": None},
        {"through_ros": "no"},
        {"shift": ["none"]},
        {"median_seconds": "5"},
    ],
)
def test_an_evaluation_of_wrong_types_or_sums_is_one_sentence(folder, entries):
    path = folder / "evaluation.json"
    assert read_evaluation(path).successes == 2
    edit(path, **entries)
    refused(lambda: read_evaluation(path), str(path), "not an evaluation")


def test_a_pipe_for_a_runs_file_is_not_waited_for(folder):
    (folder / "evaluation.json").unlink()
    os.mkfifo(folder / "evaluation.json")
    refused(lambda: read_evaluation(folder / "evaluation.json"), "is a named pipe")


def test_a_policys_name_with_dollars_is_drawn(folder):
    edit(folder / "evaluation.json", checkpoint="$\\alpha{")
    draw([read_evaluation(folder / "evaluation.json")], folder / "success.png")
    assert np.fromfile(folder / "success.png", np.uint8).size > 1000


def test_evaluations_of_ensembling_alone_are_drawn_without_bars(folder):
    edit(folder / "evaluation.json", temporal_ensemble_coeff=0.1)
    draw([read_evaluation(folder / "evaluation.json")], folder / "success.png")
    assert (folder / "success.png").stat().st_size > 1000
