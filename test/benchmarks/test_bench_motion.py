"""The motion benchmark, as a user runs it: ours is within limits, far smoother, and no later."""

import json

import pytest

from benchmarks.__main__ import main


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    out = tmp_path_factory.mktemp("motion") / "motion.json"
    plot = out.with_suffix(".png")
    with pytest.raises(SystemExit) as ended:
        main(["motion", "--repeat", "1", "--handovers", "20", "--out", str(out), "--plot", str(plot)])
    assert ended.value.code == 0
    assert plot.stat().st_size > 10_000
    return json.loads(out.read_text(encoding="utf-8"))


def test_ours_is_within_limits_at_a_fifth_of_the_jerk_and_no_later_than_a_policy_period(result):
    rows = {row["method"]: row for row in result["rows"]}
    assert rows["maskact"]["limit_violations"] == 0
    assert rows["maskact"]["rms_jerk"] <= rows["replace"]["rms_jerk"] / 5
    assert rows["maskact"]["rms_jerk"] <= rows["replace_limited"]["rms_jerk"] / 5
    assert abs(rows["maskact"]["delay_s"]) <= result["policy_period_s"]
    assert rows["replace"]["limit_violations"] > 0  # or there would be nothing to show


@pytest.mark.parametrize(
    ("flag", "value", "allowed"),
    [
        ("--out", "no/such/folder/x.json", "a file in a folder that exists"),
        ("--plot", "x.txt", "a file ending in .png"),
    ],
)
def test_where_figures_could_not_be_written_nothing_is_measured(flag, value, allowed, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["motion", flag, value])
    assert ended.value.code == 1
    assert capsys.readouterr().err.startswith(f"benchmarks: {flag} is {value}; allowed: {allowed}")


@pytest.mark.parametrize(("flag", "value"), [("--handovers", "0"), ("--noise", "nan"), ("--rate", "5")])
def test_a_value_that_is_not_allowed_is_one_sentence(flag, value, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["motion", flag, value])
    assert ended.value.code == 1
    assert capsys.readouterr().err.startswith(f"benchmarks: {flag} is {value}; allowed: ")
