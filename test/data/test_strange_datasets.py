"""Datasets that lie, ask for more than there is, or hold text where numbers belong: a sentence, and nobody waits.

What `validate` finds, the trainer is not given either.
"""

import json
import os
import shutil
import struct
import zlib

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from support import foreign, written
from test_dataset_validate import DATA, VIDEO, edit, findings, rewrite, torn

from maskact_ros import cli
from maskact_ros.core.errors import MaskACTError
from maskact_ros.data.datasets.dataset import Dataset

EPISODES = "meta/episodes/chunk-000/file-000.parquet"
REPORT = "meta/maskact/report.json"
TASKS = "meta/tasks.parquet"


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    return written.write(tmp_path_factory.mktemp("sound") / "dataset")


@pytest.fixture
def dataset(sound, tmp_path):
    return shutil.copytree(sound, tmp_path / "dataset")


def replace_column(path, name, values):
    table = pq.read_table(path)
    pq.write_table(table.set_column(table.schema.get_field_index(name), name, values), path)


def pattern(name, text):
    return lambda folder: edit(folder / "meta/info.json", **{name: text})


def repeated(rows):
    """As many rows as nobody recorded: all the same, so that the file stays small."""

    def damage(folder):
        first = pq.read_table(folder / DATA).column("index")[0]
        pq.write_table(pa.table({"index": pa.chunked_array([pa.repeat(first, rows)])}), folder / DATA)

    return damage


def wide(folder):
    """A row of 30 million numbers, which are all the same."""
    lists = pa.LargeListArray.from_arrays(np.array([0, *[30_000_000] * 36]), pa.repeat(pa.scalar(1.0), 30_000_000))
    replace_column(folder / DATA, "action", lists)


def of_type(array):
    return lambda folder: replace_column(folder / DATA, "stamp_ns", array)


def png_of(width, height):
    header = b"IHDR" + struct.pack(">II", width, height) + bytes([8, 0, 0, 0, 0])
    parts = (header, b"IDAT" + zlib.compress(bytes(1000)), b"IEND")
    chunks = (struct.pack(">I", len(p) - 4) + p + struct.pack(">I", zlib.crc32(p)) for p in parts)
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def huge_mask(folder):
    cells = pq.read_table(folder / DATA).column("observation.masks.top").to_pylist()
    cells[3] = {"bytes": png_of(60_000, 50_000), "path": None}
    replace_column(folder / DATA, "observation.masks.top", pa.array(cells, foreign.pngs([]).type))


def pipe(name):
    def damage(folder):
        (folder / name).unlink()
        os.mkfifo(folder / name)

    return damage


def playlist(folder):
    """A file that names another one, which ffmpeg would open."""
    (folder / VIDEO).rename((folder / VIDEO).with_name("other.mp4"))
    (folder / VIDEO).write_text("ffconcat version 1.0\nfile 'other.mp4'\n")


STRANGE = {
    "a width": (pattern("data_path", "data/chunk-{chunk_index:0123456789d}/f.parquet"), "allowed: LeRobot's patterns"),
    "an attribute": (pattern("video_path", "{video_key.__class__}"), "video_path is '{video_key.__class__}'; allowed"),
    "another field": (pattern("data_path", "data/{nobody}.parquet"), "with {chunk_index}, {file_index}"),
    "a way out": (pattern("video_path", "../../{video_key}.mp4"), "a path inside of the dataset"),
    "an absolute path": (pattern("video_path", "/etc/{video_key}"), "a path inside of the dataset"),
    "no pattern": (pattern("data_path", 5), "data_path is 5"),
    "a frame rate": (pattern("fps", 10**18), "fps is 1000000000000000000; allowed: a number > 0 and <= 10000"),
    "rows": (repeated(5_000_000), f"{DATA}: claims 5000000 rows in "),
    "numbers": (wide, f"{DATA}: claims 240000280 bytes of column action"),
    "texts": (of_type(pa.array(["noon"] * 36)), "stamp_ns is of type string; allowed: numbers"),
    "a structure": (of_type(pa.array([{"s": 1}] * 36)), "stamp_ns is of type struct"),
    "nothing": (of_type(pa.nulls(36)), "36 of 36 rows are empty"),
    "no number": (of_type(pa.array([float("nan")] * 36)), "row 0, episode 0, frame 0: stamp_ns is nan; allowed: nano"),
    "no end": (of_type(pa.array([1e9] * 35 + [float("inf")])), "row 35, episode 2, frame 23: stamp_ns is inf; allowed"),
    "a date": (of_type(pa.array([-(2**63)] + [0] * 35)), "stamp_ns is -9223372036854775808; allowed: nanoseconds"),
    "two stamps": (of_type(pa.array([[1, 2]] * 36)), "stamp_ns has 2 numbers a row; allowed: 1"),
    "an episode's text": (
        lambda f: replace_column(f / EPISODES, "length", pa.array(["5", "7", "24"])),
        f"{EPISODES}: column length is of type string; allowed: numbers",
    ),
    "a negative length": (
        lambda f: replace_column(f / EPISODES, "length", pa.array([5, -7, 24])),
        f"{EPISODES}: column length: row 1 is -7; allowed: 0 to 2^53",
    ),
    "an endless episode": (
        lambda f: replace_column(
            f / EPISODES, "videos/observation.images.top/to_timestamp", pa.array([0.5, float("inf"), 3.6])
        ),
        "to_timestamp has what is no time",
    ),
    "a reach into the next": (
        lambda f: replace_column(f / EPISODES, "dataset_to_index", pa.array([6, 12, 36])),
        "episode 0: length is 5, but it goes from row 0 to 6",
    ),
    "torn tasks": (lambda f: torn(f / TASKS), f"{TASKS}: cannot be read as parquet"),
    "no tasks": (lambda f: (f / TASKS).unlink(), f"{TASKS}: cannot be read (No such file"),
    "no texts": (
        lambda f: pq.write_table(pa.table({"task_index": [0]}), f / TASKS),
        f"{TASKS}: no column of texts; it has task_index",
    ),
    "another task": (
        lambda f: pq.write_table(pa.table({"task_index": [3], "task": ["lift"]}), f / TASKS),
        f"{TASKS}: has no task 0, which rows have",
    ),
    "a torn contract": (
        lambda f: (f / "meta/maskact/contract.yaml").write_text("task: [lift"),
        "meta/maskact/contract.yaml: not YAML",
    ),
    "a contract of nothing": (
        lambda f: (f / "meta/maskact/contract.yaml").write_text(""),
        "meta/maskact/contract.yaml: is no mapping",
    ),
    "a huge mask": (huge_mask, "row 3 (episode 0, frame 3) is 60000x50000; allowed: at most 67108864 pixels"),
    "a pipe of rows": (pipe(DATA), f"{DATA}: is a named pipe; allowed: a regular file"),
    "a pipe of pictures": (pipe(VIDEO), f"{VIDEO}: is a named pipe; allowed: a regular file"),
    "a pipe of words": (pipe(REPORT), f"{REPORT}: is a named pipe; allowed: a regular file"),
    "a list of videos": (playlist, f"{VIDEO}: cannot be decoded at all"),
}


@pytest.mark.parametrize("name", STRANGE)
def test_what_is_strange_is_found(name, dataset):
    damage, expected = STRANGE[name]
    damage(dataset)
    found = findings(dataset)
    assert any(expected in finding for finding in found), found
    assert all(len(finding) < 800 for finding in found)


@pytest.mark.parametrize(
    "name", ["a width", "rows", "numbers", "no number", "no end", "a date", "a reach into the next"]
)
def test_the_trainer_is_not_given_what_is_strange(name, dataset):
    STRANGE[name][0](dataset)
    with pytest.raises(MaskACTError) as caught:
        Dataset.open(dataset)
    assert str(dataset) in str(caught.value)


def test_an_episode_that_begins_before_the_one_before_has_ended_is_found(dataset):
    edit(dataset / REPORT, episodes=[{"source": "monday", "frames": n} for n in foreign.LENGTHS])
    assert findings(dataset) == []
    rewrite(dataset / DATA, "stamp_ns", lambda stamps: [s - 3 * 10**8 * (i >= 5) for i, s in enumerate(stamps)])
    told = "meta/episodes, episode 1: begins 0.200 s before episode 0 of the same recording ends, by stamp_ns"
    assert told in findings(dataset)
    edit(dataset / REPORT, episodes=[{"source": str(n), "frames": n} for n in foreign.LENGTHS])
    assert told not in findings(dataset), "two recordings, such as two robots', may overlap"


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        ({"episodes": {"0": {}}}, "episodes is {'0': {}}; allowed: a list of objects"),
        ({"episodes": [{"frames": "5"}] * 3}, "episodes[0]: frames is '5'; allowed: a whole number >= 0"),
        ({"episodes": [{"frames": 5, "age_ms": {"state": {"p50": "old"}}}]}, "episodes[0]: age_ms is"),
        ({"episodes": [{"source": 7}]}, "episodes[0]: source is 7; allowed: a text"),
        ({"bags": [{"gaps": [{"seconds": None}]}]}, "bags[0]: gaps is"),
        ({"bags": [{"dropped": ["no mask"]}]}, "bags[0]: dropped is ['no mask']; allowed: an object"),
        ({"bags": [{"recorded_s": True}]}, "bags[0]: recorded_s is True; allowed: a number"),
        ({"bags": [{}, {"losses": "all"}]}, "bags[1]: losses is 'all'; allowed: a list of texts"),
    ],
)
def test_a_report_with_words_where_numbers_belong_is_one_sentence(dataset, tmp_path, capsys, entries, words):
    edit(dataset / REPORT, **entries)
    assert any(words in finding for finding in findings(dataset)), findings(dataset)
    with pytest.raises(SystemExit) as done:
        cli.main(["inspect", str(dataset), "--html", str(tmp_path / "page.html")])
    assert done.value.code == 1
    assert words in capsys.readouterr().err


def test_episodes_that_share_all_rows_are_told_and_not_decoded_again_and_again(dataset):
    table = pq.read_table(dataset / EPISODES)
    pq.write_table(pa.concat_tables([table.slice(2, 1)] * 300), dataset / EPISODES)
    found = findings(dataset)
    assert found[-1] == "meta/episodes: the pictures are not looked at, as episodes of 7200 rows share them"


def test_names_with_dollars_are_drawn_as_they_are(dataset, tmp_path):
    path = dataset / "meta/maskact/robot.yaml"
    robot = yaml.safe_load(path.read_text())
    names = ["lift $\\frac{", "a$b$c\\$d"]
    for joint, name in zip(robot["joints"], names, strict=True):
        joint["name"] = name
    path.write_text(yaml.safe_dump(robot))
    with pytest.raises(SystemExit) as done:
        cli.main(["inspect", str(dataset), "--html", str(tmp_path / "page.html")])
    assert done.value.code == 0
    assert all(name in (tmp_path / "page.html").read_text() for name in names)


def test_a_video_of_frames_that_are_too_large_is_not_decoded(dataset, monkeypatch):
    monkeypatch.setattr("maskact_ros.data.datasets.pictures.MOST_PIXELS", foreign.WIDTH * foreign.HEIGHT - 1)
    assert f"{VIDEO}: its frames are 64x48; allowed: at most 3071 pixels" in findings(dataset)


def test_a_text_of_a_dataset_may_be_long_and_the_finding_is_short(dataset):
    info = json.loads((dataset / "meta/info.json").read_text())
    info["features"]["n" * 90_000] = {"dtype": "video", "shape": [1]}
    (dataset / "meta/info.json").write_text(json.dumps(info))
    found = findings(dataset)
    assert len(found) == 1
    assert len(found[0]) < 3000
