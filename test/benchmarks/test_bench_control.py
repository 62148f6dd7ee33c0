"""`maskact bench control`: the three loops really run, and what is printed says what was measured."""

import json
import os
import shutil
import subprocess
import sys

import pytest

from maskact_ros.core.errors import MaskACTError
from maskact_ros.tools.bench import c_loop
from maskact_ros.tools.bench.control import ControlArguments, _aims
from maskact_ros.tools.bench.control_rows import Row

COLUMNS = {"loop", "rate_hz", "scheduler", "p50_us", "p99_us", "p999_us", "max_us", "missed_share", "periods"}


def bench(*arguments, **environment):
    command = [sys.executable, "-m", "maskact_ros.cli", "bench", "control", *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=110, env=os.environ | environment
    )


@pytest.mark.extended
def test_two_seconds_of_each_loop_give_a_row_each_a_file_and_a_plot(tmp_path):
    out, picture = tmp_path / "control.json", tmp_path / "lateness.png"
    done = bench("--rates=200", "--seconds=2", "--scheduler=normal", "--json", f"--out={out}", f"--plot={picture}")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    rows = {row["loop"]: row for row in result["rows"]}
    expected = {"maskact", "rclpy_timer"} | ({"c_nanosleep"} if shutil.which("cc") or shutil.which("gcc") else set())
    assert rows.keys() == expected
    for row in rows.values():
        assert row.keys() >= COLUMNS
        assert (row["rate_hz"], row["scheduler"]) == (200.0, "normal")
        assert 0 <= row["p50_us"] <= row["p99_us"] <= row["p999_us"] <= row["max_us"]
        assert row["periods"] == pytest.approx(400, abs=100)  # a stall at an end of the slice moves it
        assert row["missed"] == round(row["missed_share"] * row["periods"])
    assert result["complete"]
    assert result["machine"]["cores"] >= 1
    assert json.loads(out.read_text()) == result
    assert picture.stat().st_size > 10_000


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--rates=5",), "--rates is 5; allowed: numbers from 10 to 1000"),
        (("--rates=fast",), "--rates is fast"),
        (("--seconds=0",), "--seconds is 0"),
        (("--scheduler=deadline",), "--scheduler is deadline; allowed: fifo, normal"),
        (("--plot=x.doc",), "--plot is x.doc"),
    ],
)
def test_what_cannot_be_measured_is_refused_in_one_sentence(arguments, said):
    done = bench(*arguments)
    assert done.returncode == 1
    assert done.stderr.startswith(f"maskact bench: {said}")
    assert done.stderr.count("\n") == 1


def test_without_a_compiler_the_reason_is_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(MaskACTError, match="there is no C compiler"):
        c_loop.compile_loop(tmp_path)


def row(loop, scheduler, p99_us, missed, periods=30_000):
    return Row(
        loop=loop,
        rate_hz=500.0,
        scheduler=scheduler,
        p50_us=50.0,
        p99_us=p99_us,
        p999_us=p99_us,
        max_us=p99_us,
        missed_share=missed / periods,
        missed=missed,
        periods=periods,
        core_share=0.1,
    )


@pytest.mark.parametrize(("p99_us", "missed", "met"), [(170.0, 9, [True, True]), (170.5, 10, [False, False])])
def test_under_fifo_we_are_compared_with_c(p99_us, missed, met):
    rows = [row("maskact", "fifo", p99_us, missed), row("c_nanosleep", "fifo", 70.0, 2)]
    assert [aim.met for aim in _aims(rows)] == met


@pytest.mark.parametrize(("missed", "met"), [(50, True), (51, False)])
def test_without_fifo_we_are_compared_with_the_rclpy_timer(missed, met):
    rows = [row("maskact", "normal", 5000.0, missed), row("rclpy_timer", "normal", 5000.0, 100)]
    assert [aim.met for aim in _aims(rows)] == [met]


def test_rates_and_schedulers_are_read_from_lists():
    arguments = ControlArguments.parse("200,500.5", 3.0, "cpu", "normal")
    assert arguments.rates_hz == (200.0, 500.5)
    assert arguments.schedulers == ("normal",)
