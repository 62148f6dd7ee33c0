"""All benchmarks in one: each in a process of its own, what fails says why, and the documentation is made of it."""

import json
import signal
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import pytest

import maskact_ros
from benchmarks import all as everything
from benchmarks import train_rows
from benchmarks.__main__ import main
from benchmarks.all import Run
from benchmarks.table import put_into
from benchmarks.table_overview import overview
from benchmarks.table_text import on_a_card, steps_on_a_card, tables
from maskact_ros.core.errors import MaskACTError
from maskact_ros.tools.bench import pipeline
from maskact_ros.tools.bench.machine import Machine

ROOT = Path(maskact_ros.__file__).parents[1]
SMALL = {
    "hardware": Run(quick=("--rounds", "1", "--size", "64", "--memory-mib", "1", "--device", "cpu")),
    "model": Run(
        quick=(
            *("--backbone", "tiny", "--image-size", "48", "--chunk", "6", "--dim-model", "32", "--rounds", "1"),
            *("--device", "cpu", "--backends", "torch", "--precisions", "fp32", "--background", "0.5"),
        )
    ),
    "motion": Run(quick=("--repeat", "0")),  # is refused
    "convert": Run(quick=("--seconds", "2", "--rounds", "1", "--no-baseline")),
}


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """What a run of all wrote, on sizes small enough for a test."""
    file = tmp_path_factory.mktemp("all") / "all.json"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(everything, "RUNS", SMALL)
        with pytest.raises(SystemExit) as ended:
            main(["all", "--quick", "--out", str(file)])
    assert ended.value.code == 0
    return file


@pytest.fixture
def result(file):
    return json.loads(file.read_text(encoding="utf-8"))


@pytest.mark.extended
def test_results_are_where_one_looks_for_them(result):
    assert result["machine"]["cores"] >= 1
    assert result["hardware"]["gemm_gflops"]["fp32"] > 0
    assert [row["part"] for row in result["rows"] if row["backend"] == "torch" and row["background"] is None] == [
        *("encoder", "mask_head", "act", "model", "rest", "step", "label_mask")
    ]
    assert {row["part"] for row in result["convert"]["rows"]} == {"convert", "read", "encode"}
    assert result["complete"]
    assert result["quick"]
    assert "machine" not in result["convert"]  # once is enough


@pytest.mark.extended
def test_what_fails_says_why_in_its_place_and_the_others_go_on(result):
    assert result["motion"] == "not measured: --repeat is 0; allowed: 1 to 1000"
    assert result["convert"]["complete"]


def test_only_what_was_asked_for_is_measured(tmp_path, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["all", "--only", "nothing"])
    assert ended.value.code == 1
    assert capsys.readouterr().err.startswith("benchmarks: --only is nothing; allowed: hardware, model, ")


@pytest.mark.extended
def test_after_an_interruption_there_is_what_was_measured_until_then(tmp_path):
    out = tmp_path / "all.json"
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks", "all", "--only", "motion,convert", "--out", str(out)],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    assert process.stderr is not None
    assert process.stderr.readline().startswith("python -m benchmarks motion")
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=100) == 130
    process.stderr.close()
    result = json.loads(out.read_text(encoding="utf-8"))
    assert not result["complete"]
    assert result["convert"] == "not measured: interrupted"
    assert result["motion"] == "not measured: interrupted" or result["motion"]["repetitions"] < 5


@pytest.mark.extended
def test_the_documentation_has_a_place_for_each_table_and_the_plot_is_drawn(file, result, tmp_path):
    document, plot = tmp_path / "performance.md", tmp_path / "performance.png"
    document.write_text((ROOT / "docs" / "performance.md").read_text(encoding="utf-8"))
    for _ in range(2):  # and they are found again
        with pytest.raises(SystemExit) as ended:
            main(["table", str(file), "--into", str(document), "--plot", str(plot)])
        assert ended.value.code == 0
    assert plot.stat().st_size > 10_000
    written = document.read_text(encoding="utf-8")
    for text in tables(result, result).values():
        assert text in written
    assert written.count("](performance.png)") == 1


def test_a_document_without_places_is_refused():
    with pytest.raises(MaskACTError, match="has 0 places for the table model; allowed: 1"):
        put_into("nothing", {"model": "x"}, "doc.md")


@pytest.mark.extended
def test_a_table_says_what_was_not_measured(result):
    assert "not measured: --repeat is 0" in overview(result)
    assert overview(result).count("not measured") >= 2  # there is no row of a ViT-S at 480 either
    assert on_a_card(result).count("not measured") == 6
    nothing = result | {"rows": [], "model": "not measured: it ended with 1", "hardware": "not measured: why"}
    assert "not measured: it ended with 1" in overview(nothing)
    assert tables(nothing, nothing)["model"] == "not measured: it ended with 1"


@pytest.mark.extended
def test_a_card_s_table_has_its_figures(result):
    of = {"device": "cuda", "backbone": "vits16", "image_size": 224}
    rows = [row | of for row in result["rows"] if row["background"] is None]
    text = on_a_card(result | {"rows": rows})
    assert text.startswith(result["machine"]["cpu"])
    assert steps_on_a_card(result | {"rows": rows}).count("not measured") == 5
    assert "| ViT-S/16, 224 | torch, fp32 |" in text


def test_a_file_of_another_kind_is_refused(tmp_path, capsys):
    (tmp_path / "x.json").write_text('{"rows": []}')
    with pytest.raises(SystemExit) as ended:
        main(["table", str(tmp_path / "x.json")])
    assert ended.value.code == 1
    assert "is not what benchmarks all --out wrote; it has no hardware" in capsys.readouterr().err


@pytest.mark.extended
def test_the_pipeline_s_table_has_overhead_and_stages(result):
    percentiles = pipeline.Percentiles(p50=4.0, p95=6.04, p99=7.0)
    computing = pipeline.Percentiles(p50=1.0, p95=2.0, p99=3.0)
    row = pipeline.Row(
        part="pipeline",
        backbone="tiny",
        image_size=480,
        profile=True,
        images=90,
        overhead_ms=percentiles,
        model_ms=computing,
        stages_ms={"decode": percentiles},
    )
    measured = pipeline.PipelineResult(
        machine=Machine.here(),
        camera="640x480",
        camera_rate_hz=0.0,
        control_rate_hz=500.0,
        precision="fp32",
        load="none",
        complete=True,
        overhead_ms=percentiles,
        profile_gain={"tiny": 3.0},
        rows=[row],
    )
    with_pipeline = result | {"pipeline": asdict(measured)}
    assert "6.0 ms" in overview(with_pipeline)
    shown = "| tiny, 480 | with | 90 | 1.0 / 2.0 / 3.0 | 4.0 / 6.0 / 7.0 | decode 4.0 |"
    assert shown in tables(with_pipeline, result)["pipeline"]


@pytest.mark.extended
def test_training_s_table_has_each_way_and_the_whole_its_fastest(result):
    row = train_rows.Row(
        part="train",
        variant="frozen",
        backend="torch",
        precision="fp32",
        stage="stage2",
        device="cpu",
        backbone="dinov3_vits16",
        image_size=224,
        batch_size=4,
        median_ms=1000.0,
        p95_ms=1100.0,
        spread=0.1,
        samples_per_s=4.0,
        gflop=100.0,
        share_of_gemm=0.5,
        speedup_over_baseline=2.0,
    )
    cached = replace(row, variant="frozen_cached", precision="bf16", speedup_over_baseline=3.0)
    plain = replace(row, backend="baseline", speedup_over_baseline=1.0)
    measured = train_rows.TrainResult(
        machine=Machine.here(),
        hardware=train_rows.Limits(device="cpu", threads=2, gemm_gflops={"fp32": 250.0}),
        compiled=False,
        steps=10,
        complete=True,
        rows=[plain, row, cached],
        left_out=["bf16: why"],
    )
    with_training = result | {"train": asdict(measured)}
    assert "(frozen_cached, bf16) | 3.00 × | ≥ 2 × |" in overview(with_training)
    assert "training with LoRA, times as fast as the baseline | not measured |" in overview(with_training)
    text = tables(with_training, result)["train"]
    assert "| frozen | torch, fp32 | 50.0 % | 4.0 | 2.00 × |" in text
    assert "- not measured: bf16: why" in text
