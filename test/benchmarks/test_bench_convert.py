"""The benchmark of the conversion, as a user runs it, on a few seconds of recording."""

import json

import pytest

from benchmarks.__main__ import main


def run(out, *options):
    with pytest.raises(SystemExit) as ended:
        main(["convert", "--seconds", "2", "--rounds", "1", "--out", str(out), *options])
    assert ended.value.code == 0
    return json.loads(out.read_text(encoding="utf-8"))


@pytest.mark.parametrize("images", ["video", "png"])
@pytest.mark.extended
def test_conversion_script_and_limits_have_a_row_each(tmp_path, images):
    result = run(tmp_path / "convert.json", "--images", images)
    rows = {row["part"]: row for row in result["rows"]}
    assert list(rows) == ["convert", "baseline", "read", "encode"]
    assert all(row["images"] == images and row["median_ms"] > 0 for row in result["rows"])
    assert rows["baseline"]["speedup_over_baseline"] == 1
    assert rows["convert"]["speedup_over_baseline"] > 0
    limit_ms = rows["read"]["median_ms"] + rows["encode"]["median_ms"]
    assert rows["convert"]["share_of_limit"] == pytest.approx(limit_ms / rows["convert"]["median_ms"], rel=0.01)
    assert result["peak_memory_mib"] > 10
    assert result["complete"]


@pytest.mark.parametrize(
    ("flag", "value", "allowed"),
    [("--seconds", "0.5", "2 to 3600"), ("--rounds", "0", "1 to 1000"), ("--out", "no/such/x", "a file in a folder")],
)
def test_a_value_that_is_not_allowed_is_refused_before_anything_is_measured(flag, value, allowed, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["convert", flag, value])
    assert ended.value.code == 1
    assert capsys.readouterr().err.startswith(f"benchmarks: {flag} is {value}; allowed: {allowed}")
