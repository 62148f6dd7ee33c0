"""The report runs what is missing, keeps what is there, and puts its tables between a document's marks."""

import json
from dataclasses import asdict, replace

import numpy as np
import pytest
from test_evaluate import save_tiny_policy

from maskact_ros.cli import main
from maskact_ros.core.errors import MaskACTError
from maskact_ros.core.parallel import Workers
from maskact_ros.training.evaluation.report import (
    BEGIN,
    END,
    SCENES,
    cells_of,
    collect,
    engines,
    named,
    read_evaluation,
)
from maskact_ros.training.evaluation.report_tables import NONE, draw, markdown
from maskact_ros.training.evaluation.success_rate import EpisodeResult, Evaluation, EvaluationError

SEEDS = range(4)


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    return {
        "maskact": save_tiny_policy(folder / "maskact").folder,
        "action_only": save_tiny_policy(folder / "action_only", use_mask=False).folder,
    }


def pretended(setup, seeds):
    """An evaluation in which the policy with masks solves all, and the other one no seed below 3."""
    confusion = np.diag([90, 5, 3, 2]) if "maskact" in setup.checkpoint else None
    results = [
        EpisodeResult(seed=seed, success="maskact" in setup.checkpoint or seed == 3, seconds=6.5, confusion=confusion)
        for seed in seeds
    ]
    return Evaluation.of(setup, results)


def interrupted(setup, seeds):
    """As if Ctrl-C had ended it."""
    return pretended(setup, seeds[:1])


@pytest.fixture
def unwanted():
    def measure(setup, seeds):
        raise AssertionError(f"{setup} was there already")

    return measure


def test_every_policy_is_measured_in_every_scene_and_the_first_one_with_ensembling(checkpoints):
    names = [cell.name for cell in cells_of(checkpoints)]
    expected = {f"{policy}-{shift}" for policy in checkpoints for shift in SCENES}
    assert set(names) == expected | {"maskact-none-ensemble-0.01", "maskact-none-ensemble-0.1"}
    assert len(names) == 14


def test_what_is_stored_is_not_run_again(checkpoints, tmp_path, unwanted):
    cells = cells_of(checkpoints)
    first = collect(cells, SEEDS, tmp_path, pretended)
    assert collect(cells, SEEDS, tmp_path, unwanted) == first
    assert not [path for path in tmp_path.iterdir() if path.suffix != ".json"]


def test_what_is_asked_differently_is_run_again(checkpoints, tmp_path):
    cells = cells_of(checkpoints)
    collect(cells, SEEDS, tmp_path, pretended)
    stored = tmp_path / "action_only-light.json"
    values = json.loads(stored.read_text())
    stored.write_text(json.dumps(values | {"weights_hash": "of yesterday's"}))
    run = []

    def measure(setup, seeds):
        run.append(setup.shift)
        return pretended(setup, seeds)

    collect(cells, SEEDS, tmp_path, measure)
    assert run == ["light"]
    collect(cells, range(5), tmp_path, measure)
    assert len(run) == 15


def test_an_interrupted_evaluation_is_not_stored(checkpoints, tmp_path):
    cells = cells_of(checkpoints)
    assert len(collect(cells[:3], SEEDS, tmp_path, pretended)) == 3
    assert len(collect(cells, SEEDS, tmp_path, interrupted)) == 3
    assert len(list(tmp_path.iterdir())) == 3


def test_a_file_that_is_no_evaluation_is_named(tmp_path):
    path = tmp_path / "maskact-none.json"
    path.write_text('{"episodes": 3}')
    with pytest.raises(EvaluationError, match=r"maskact-none\.json: not an evaluation"):
        read_evaluation(path)


def test_tables_hold_success_intervals_masks_and_the_paired_difference(checkpoints, tmp_path):
    text = markdown(collect(cells_of(checkpoints), SEEDS, tmp_path, pretended))
    assert "4 episodes a cell, seeds 0 to 3" in text
    row = "| light | 4 of 4 | 51 to 100 % | 6.5 | 1.000 | 1 of 4 | 5 to 70 % | 6.5 | NONE | 3 / 0 | 0.250 |"
    assert row.replace("NONE", NONE) in text
    assert "| as in training | maskact | 1.000 | 1.000 | 1.000 | 1.000 | 1.000 |" in text
    assert "| maskact | 0.01 | 4 of 4 | 51 to 100 % | 6.5 |" in text
    assert "| action_only | 0.01" not in text


def test_every_backend_and_precision_is_measured_in_the_training_scene_and_compared(checkpoints, tmp_path):
    run_by = engines(["torch", "onnxruntime"], ["fp32", "int8"])
    assert run_by == [("torch", "fp32"), ("onnxruntime", "fp32"), ("onnxruntime", "int8")]
    cells = cells_of(checkpoints, run_by)
    assert len(cells) == 18
    assert {cell.name for cell in cells[14:]} == {
        f"{policy}-none-onnxruntime-{precision}" for policy in checkpoints for precision in ("fp32", "int8")
    }
    found = collect(cells, SEEDS, tmp_path, pretended)
    text = markdown(found)
    assert "| maskact | torch | fp32 | 4 of 4 | 51 to 100 % | 6.5 | 1.000 | NONE | NONE |".replace("NONE", NONE) in text
    assert "| maskact | onnxruntime | int8 | 4 of 4 | 51 to 100 % | 6.5 | 1.000 | 0 / 0 | 1.000 |" in text
    assert "backend torch, fp32." in text
    assert text.replace(text[text.index("\n\nBackends and precisions") :], "\n") == markdown(found[:14])
    draw(found, tmp_path / "picture.png")


def test_a_backend_alone_is_measured_in_every_scene(checkpoints):
    cells = cells_of(checkpoints, engines(["onnxruntime"], ["int8"]))
    assert len(cells) == 14
    assert {(cell.setup.backend, cell.setup.precision) for cell in cells} == {("onnxruntime", "int8")}
    assert cells[0].name == "maskact-none-onnxruntime-int8"


@pytest.mark.parametrize(
    ("backends", "precisions", "words"),
    [
        (["jax"], ["fp32"], "the backend is 'jax'; allowed: torch, onnxruntime"),
        (["torch", "onnxruntime"], ["int8"], "precision is 'int8' with the backend torch"),
        (["torch"], ["fp8"], "precision is 'fp8'; allowed: fp32"),
    ],
)
def test_a_backend_that_cannot_be_measured_is_refused(backends, precisions, words):
    with pytest.raises(MaskACTError, match=words):
        engines(backends, precisions)


def test_a_result_of_before_precisions_is_one_of_fp32(checkpoints, tmp_path):
    evaluation = pretended(cells_of(checkpoints)[0].setup, SEEDS)
    path = tmp_path / "old.json"
    path.write_text(json.dumps({name: value for name, value in asdict(evaluation).items() if name != "precision"}))
    assert read_evaluation(path) == evaluation


def test_one_policy_alone_is_compared_with_nobody(checkpoints, tmp_path):
    cells = [cell for cell in cells_of(checkpoints) if cell.policy == "action_only"]
    text = markdown(collect(cells, SEEDS, tmp_path, pretended))
    assert "McNemar" not in text
    assert "IoU of" not in text


def test_bars_stand_where_nothing_was_solved(checkpoints, tmp_path):
    found = collect(cells_of(checkpoints), SEEDS, tmp_path, pretended)
    none = [replace(e, successes=0, ci95=(0.0, 0.49), solved=()) for e in found]
    draw(none, tmp_path / "picture.png")
    assert (tmp_path / "picture.png").stat().st_size > 5000


def test_the_document_keeps_what_is_around_the_report(checkpoints, tmp_path, capsys):
    out, document = tmp_path / "results", tmp_path / "results.md"
    collect(cells_of(checkpoints), SEEDS, out, pretended)
    document.write_text(f"# Results\n\n{BEGIN}\nold\n{END}\n\nMore.\n")
    words = [f"{name}={folder}" for name, folder in checkpoints.items()]
    for _ in range(2):
        with pytest.raises(SystemExit) as end:
            main(["report", "--checkpoints", *words, "--episodes", "4", "--out", str(out), "--document", str(document)])
        assert end.value.code == 0
    text = document.read_text()
    assert text.startswith(f"# Results\n\n{BEGIN}\n4 episodes")
    assert text.endswith(f"![success in each scene](results/success.png)\n{END}\n\nMore.\n")
    assert "old" not in text
    assert capsys.readouterr().out.count("| light | 4 of 4") == 2


def test_an_interrupted_report_is_printed_and_leaves_the_document_as_it_was(checkpoints, tmp_path, capsys, monkeypatch):
    out, document = tmp_path / "results", tmp_path / "results.md"
    collect(cells_of(checkpoints)[:5], SEEDS, out, pretended)
    whole = f"# Results\n\n{BEGIN}\nall of yesterday's cells\n{END}\n"
    document.write_text(whole)
    monkeypatch.setattr(
        "maskact_ros.training.evaluation.report.measure", lambda setup, seeds, workers: interrupted(setup, seeds)
    )
    words = [f"{name}={folder}" for name, folder in checkpoints.items()]
    with pytest.raises(SystemExit) as end:
        main(["report", "--checkpoints", *words, "--episodes", "4", "--out", str(out), "--document", str(document)])
    assert end.value.code == 130
    assert "| as in training | 4 of 4" in capsys.readouterr().out
    assert document.read_text() == whole
    assert not (out / "success.png").exists()


def test_the_workers_that_are_given_evaluate(checkpoints, tmp_path, monkeypatch):
    given = []
    monkeypatch.setattr(
        "maskact_ros.training.evaluation.report.measure",
        lambda setup, seeds, workers: given.append(workers) or pretended(setup, seeds),
    )
    words = ["--checkpoints", f"a={checkpoints['maskact']}", "--episodes", "4", "--out", str(tmp_path)]
    with pytest.raises(SystemExit) as end:
        main(["report", *words, "--cluster", "tcp://host:8786"])
    assert end.value.code == 0
    assert set(given) == {Workers(cluster="tcp://host:8786")}


def test_a_document_without_marks_is_refused_before_anything_is_run(checkpoints, tmp_path, capsys):
    document = tmp_path / "results.md"
    document.write_text("# Results\n")
    with pytest.raises(SystemExit):
        main(["report", "--checkpoints", f"a={checkpoints['maskact']}", "--document", str(document)])
    assert "has no lines <!-- report --> and <!-- /report -->" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["maskact"], ["=here"], ["a=x", "a=y"], ["a b=x"]], ids=str)
def test_names_that_are_none_are_refused(words):
    with pytest.raises(EvaluationError, match="allowed: NAME=DIR"):
        named(words)


def test_a_stored_evaluation_is_read_as_it_was_written(checkpoints, tmp_path):
    evaluation = pretended(cells_of(checkpoints)[0].setup, SEEDS)
    path = tmp_path / "one.json"
    path.write_text(json.dumps(asdict(evaluation)))
    assert read_evaluation(path) == evaluation
