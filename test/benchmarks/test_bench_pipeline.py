"""`maskact bench pipeline`: how notes become stages, and a short real run through the three nodes."""

import json
import subprocess
import sys

import pytest

from maskact_ros.tools.bench.pipeline_stages import BUSY, MODEL, STAGES, overhead_ms, stages_of

MS = 1_000_000
STAMP_NS = 1_800_000_000_000_000_000


def bench(*arguments):
    command = [sys.executable, "-m", "maskact_ros.cli", "bench", "pipeline", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=170)


def noted(stamp_ns=STAMP_NS, waits_ms=0):
    """What the three processes note of an image that waits so long for a busy encoder."""
    begun_ns = stamp_ns + (3 + waits_ms) * MS
    encoder = {"images": stamp_ns + 2 * MS, "image_age_at_encode_at": begun_ns, "prepare": 1.0, "encoder": 30.0}
    encoder |= {"mask_head": 10.0, "features": begun_ns + 43 * MS, "done": begun_ns + 44 * MS}
    received_ns = begun_ns + 44 * MS
    inference = {"features": received_ns, "image_age_at_plan_at": received_ns + MS, "plan": 20.0}
    inference |= {"chunks": received_ns + 23 * MS, "done": received_ns + 24 * MS}
    publisher = {"chunks": received_ns + 24 * MS, "tick": received_ns + 25 * MS, "commands": received_ns + 26 * MS}
    return {stamp_ns: encoder}, {stamp_ns: inference}, {stamp_ns: publisher}


def commands_around(stamp_ns):
    return [(stamp_ns + ms * MS, stamp_ns + ms * MS + MS // 2) for ms in range(0, 200, 2)]


def test_the_stages_of_an_image_add_up_to_its_way_from_capture_to_command():
    (image,) = stages_of(*noted(), commands_around(STAMP_NS))
    assert set(image) == set(STAGES)
    # The tick was 72 ms after the capture; the first command from then on was sent at 72 and arrived at 72.5.
    assert sum(image.values()) == pytest.approx(72.5)
    (overhead,) = overhead_ms([image])
    assert overhead == pytest.approx(72.5 - 30.0 - 10.0 - 20.0)
    assert {name for name in (*MODEL, *BUSY) if image[name]} == {"encoder", "mask head", "ACT"}


def test_waiting_for_a_busy_model_is_the_model_s_time():
    later_ns = STAMP_NS + 20 * MS
    notes = [first | second for first, second in zip(noted(), noted(later_ns, waits_ms=25), strict=True)]
    _, waited = stages_of(*notes, commands_around(STAMP_NS))
    assert waited["encoder busy"] == pytest.approx(25)  # received at 22, the first image was done at 47
    assert waited["image waits"] == pytest.approx(1)
    first, second = overhead_ms(stages_of(*notes, commands_around(STAMP_NS)))
    assert second == pytest.approx(first, abs=2.0)  # the phase of the commands


@pytest.mark.parametrize("process", range(3))
def test_an_image_that_was_dropped_on_the_way_is_not_counted(process):
    notes = list(noted())
    notes[process] = {}
    assert stages_of(*notes, commands_around(STAMP_NS)) == []


def test_an_image_after_the_last_command_is_not_counted():
    assert stages_of(*noted(), commands_around(STAMP_NS)[:10]) == []


@pytest.mark.parametrize(
    ("argument", "said"),
    [
        ("--camera=big", "--camera is big; allowed: width and height, such as 640x480"),
        ("--rate=2000", "--rate is 2000; allowed: a number from 10 to 1000"),
        ("--camera-rate=-1", "--camera-rate is -1; allowed: a number from 0 to 1000"),
        ("--seconds=0", "--seconds is 0; allowed: a number > 0"),
        ("--backbone=resnet", "resnet"),
        ("--plot=x.doc", "--plot is x.doc"),
    ],
)
def test_what_cannot_be_measured_is_refused_in_one_sentence(argument, said):
    done = bench(argument)
    assert done.returncode == 1
    assert said in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.extended
def test_a_short_run_says_where_the_time_goes(tmp_path):
    out, picture = tmp_path / "pipeline.json", tmp_path / "stages.png"
    done = bench(
        "--seconds=3",
        "--backbone=tiny",
        "--image-size=64",
        "--profile=on",
        "--json",
        f"--out={out}",
        f"--plot={picture}",
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    (row,) = result["rows"]
    assert (row["part"], row["backbone"], row["image_size"], row["profile"]) == ("pipeline", "tiny", 64, True)
    assert row["images"] >= 3
    assert set(row["stages_ms"]) == set(STAGES)
    assert 0 < row["overhead_ms"]["p50"] <= row["overhead_ms"]["p95"] <= row["overhead_ms"]["p99"]
    assert result["overhead_ms"] == row["overhead_ms"]
    assert result["complete"]
    assert json.loads(out.read_text()) == result
    assert picture.stat().st_size > 5_000
