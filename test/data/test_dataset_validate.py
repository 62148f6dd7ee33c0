"""`maskact validate` calls a sound dataset sound, and finds each fault at its file, episode and row."""

import json
import shutil

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support import foreign, written

from maskact_ros import cli
from maskact_ros.core.errors import MaskACTError
from maskact_ros.data.datasets.dataset import Dataset
from maskact_ros.data.inspection.findings import Finding
from maskact_ros.data.inspection.validate import validate

DATA = "data/chunk-000/file-000.parquet"
VIDEO = "videos/observation.images.top/chunk-000/file-000.mp4"


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sound")
    return {kind: written.write(folder / kind, pictures=kind) for kind in ("video", "png")}


@pytest.fixture
def video(sound, tmp_path):
    return shutil.copytree(sound["video"], tmp_path / "video")


@pytest.fixture
def png(sound, tmp_path):
    return shutil.copytree(sound["png"], tmp_path / "png")


def findings(folder):
    return [str(item) for item in validate(folder) if isinstance(item, Finding)]


def rewrite(path, column, change):
    """The parquet file with `change(values)` in place of a column's values."""
    table = pq.read_table(path)
    at, kind = table.schema.get_field_index(column), table.schema.field(column).type
    values = table.column(column).to_pylist()
    pq.write_table(table.set_column(at, column, pa.array(change(values), kind)), path)


def edit(path, **entries):
    path.write_text(json.dumps(json.loads(path.read_text()) | entries))


def with_value(row, value):
    return lambda values: [value if i == row else old for i, old in enumerate(values)]


def a_png(labels):
    return {"bytes": cv2.imencode(".png", labels)[1].tobytes(), "path": None}


@pytest.mark.parametrize("kind", ["video", "png"])
def test_what_the_writer_writes_is_sound(sound, kind, capsys):
    assert findings(sound[kind]) == []
    with pytest.raises(SystemExit) as done:
        cli.main(["validate", str(sound[kind])])
    assert done.value.code == 0
    assert "sound; 3 episodes, 36 rows at 10 Hz" in capsys.readouterr().out


def empty_file(folder):
    """One more data file, after the others, without a row."""
    pq.write_table(pq.read_table(folder / DATA).slice(0, 0), folder / "data/chunk-000/file-001.parquet")


def no_rows_at_all(folder):
    pq.write_table(pq.read_table(folder / DATA).slice(0, 0), folder / DATA)


# Each: which dataset, what happens to it, and what must be said.
CORRUPTIONS = {
    "index": (
        lambda f: rewrite(f / DATA, "index", with_value(8, 99)),
        f"{DATA}, row 8, episode 1, frame 3: index is 99; allowed: 8",
    ),
    "frame_index": (
        lambda f: rewrite(f / DATA, "frame_index", with_value(3, 7)),
        "row 3, episode 0, frame 3: frame_index is 7",
    ),
    "episode_index": (
        lambda f: rewrite(f / DATA, "episode_index", with_value(6, 0)),
        "row 6, episode 1, frame 1: episode_index is 0",
    ),
    "timestamp": (
        lambda f: rewrite(f / DATA, "timestamp", with_value(9, 0.41)),
        "row 9, episode 1, frame 4: timestamp is 0.41; allowed: 0.4",
    ),
    "stamps that jump": (
        lambda f: rewrite(f / DATA, "stamp_ns", lambda v: [s + (i > 14) * 10**8 for i, s in enumerate(v)]),
        "row 15, episode 2, frame 3: stamp_ns is 0.2000 s after the row before; allowed: about 0.1000 s",
    ),
    "state": (
        lambda f: rewrite(f / DATA, "observation.state", with_value(7, [float("nan"), 0.0])),
        "row 7, episode 1, frame 2: observation.state is [nan, 0.0]; allowed: finite",
    ),
    "action": (
        lambda f: rewrite(f / DATA, "action", with_value(0, [0.0, float("inf")])),
        "row 0, episode 0, frame 0: action is [0.0, inf]",
    ),
    "statistics": (
        lambda f: rewrite(f / DATA, "observation.state", with_value(7, [5.0, 0.0])),
        "meta/stats.json: max of observation.state, element 0, is 0.35; the rows' is 5",
    ),
    "no statistics": (lambda f: (f / "meta/stats.json").write_text("{}"), "meta/stats.json: there are none of action"),
    "mask ids": (
        lambda f: rewrite(f / DATA, "observation.masks.top", with_value(13, a_png(foreign.mask(13) + 1))),
        "observation.masks.top of row 13 (episode 2, frame 1): has class id 3; allowed: 0 to 2 (background, arm, cube)",
    ),
    "mask size": (
        lambda f: rewrite(f / DATA, "observation.masks.top", with_value(13, a_png(np.zeros((24, 32), np.uint8)))),
        "of row 13 (episode 2, frame 1): is 32x24; allowed: 64x48",
    ),
    "mask colours": (
        lambda f: rewrite(f / DATA, "observation.masks.top", with_value(13, a_png(foreign.picture(13)))),
        "of row 13 (episode 2, frame 1) has colours; allowed: class ids",
    ),
    "totals": (
        lambda f: edit(f / "meta/info.json", total_frames=35),
        "meta/info.json: total_frames is 35; there are 36",
    ),
    "rate": (
        lambda f: edit(f / "meta/info.json", fps=20),
        "meta/info.json: fps is 20, but the robot's policy_rate_hz 10",
    ),
    "no robot": (
        lambda f: (f / "meta/maskact/robot.yaml").unlink(),
        "it has no meta/maskact/robot.yaml; maskact import makes",
    ),
    "no contract": (lambda f: (f / "meta/maskact/contract.yaml").unlink(), "meta/maskact/contract.yaml: missing"),
    "report": (
        lambda f: edit(f / "meta/maskact/report.json", episodes=[{"frames": 4}] * 3),
        "report.json, episode 0: 4 frames; the dataset has 5",
    ),
    "identity": (lambda f: edit(f / "meta/maskact/report.json", id=5), "meta/maskact/report.json: id is 5; allowed: a"),
    "episode length": (
        lambda f: rewrite(f / "meta/episodes/chunk-000/file-000.parquet", "length", with_value(1, 6)),
        "meta/episodes, episode 1: length is 6, but it goes from row 5 to 12",
    ),
    "episode start": (
        lambda f: rewrite(f / "meta/episodes/chunk-000/file-000.parquet", "dataset_from_index", with_value(2, 11)),
        "meta/episodes, episode 2: begins at row 11; allowed: 12",
    ),
    "empty file": (empty_file, "data/chunk-000/file-001.parquet: has no rows; allowed: at least 1"),
    "no rows": (no_rows_at_all, f"{DATA}: has no rows; allowed: at least 1"),
    "rate of the stamps": (
        lambda f: rewrite(f / DATA, "stamp_ns", lambda v: [s * 12 // 10 for s in v]),
        f"{DATA}, episode 2: its rows come at 8.33 Hz by stamp_ns; fps is 10",
    ),
    "torn data": (lambda f: torn(f / DATA), f"{DATA}: cannot be read as parquet"),
    "older format": (
        lambda f: edit(f / "meta/info.json", codebase_version="v2.1"),
        "codebase_version is 'v2.1'; allowed: v3.0",
    ),
}


def torn(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_a_fault_is_found_where_it_is(name, video):
    corrupt, expected = CORRUPTIONS[name]
    corrupt(video)
    assert any(expected in finding for finding in findings(video)), findings(video)


def test_a_video_with_too_few_frames_is_found(video):
    foreign.write_video(video / VIDEO, range(30))
    assert findings(video) == [
        f"{VIDEO}: 30 frames can be read, but its episodes need 36, so that episodes 2 lack some"
    ]


def test_a_missing_video_is_found(video):
    (video / VIDEO).unlink()
    assert f"{VIDEO}: cannot be read (No such file or directory)" in findings(video)


def test_a_video_of_another_rate_is_found(video, monkeypatch):
    monkeypatch.setattr(foreign, "FPS", 5)
    foreign.write_video(video / VIDEO, range(36))
    assert any("frame 2 is where frame 1 belongs, at 10 frames/s" in finding for finding in findings(video))


def test_a_torn_picture_is_found(png):
    cut = {"bytes": a_png(foreign.picture(3))["bytes"][:60], "path": None}
    rewrite(png / DATA, "observation.images.top", with_value(3, cut))
    assert any("observation.images.top of row 3 (episode 0, frame 3)" in finding for finding in findings(png))


def test_several_faults_are_all_found(video):
    rewrite(video / DATA, "index", with_value(8, 99))
    rewrite(video / DATA, "action", with_value(20, [float("nan"), 0.0]))
    (video / VIDEO).unlink()
    told = "\n".join(findings(video))
    assert "index is 99" in told
    assert "action is [nan, 0.0]" in told
    assert "cannot be read (No such file" in told


def test_a_faulty_dataset_gives_exit_code_1(video, capsys):
    (video / VIDEO).unlink()
    with pytest.raises(SystemExit) as done:
        cli.main(["validate", str(video)])
    assert done.value.code == 1
    assert "findings" in capsys.readouterr().out


def test_a_rate_within_its_tolerance_and_of_short_episodes_is_not_told(video):
    for spread, told in ((1.048, 0), (1.058, 1)):  # episodes of 0.5, 0.7 and 2.4 s
        shutil.copytree(video, video.with_name(f"{spread}"))
        stretched = video.with_name(f"{spread}")
        rewrite(stretched / DATA, "stamp_ns", lambda v, spread=spread: [round(s * spread) for s in v])
        assert sum("its rows come at" in finding for finding in findings(stretched)) == told


def test_a_jump_is_told_once_and_not_as_a_wrong_rate_too(video):
    CORRUPTIONS["stamps that jump"][0](video)
    assert not any("its rows come at" in finding for finding in findings(video))


@pytest.mark.parametrize(
    "name",
    ["empty file", "no rows", "state", "torn data", "older format", "no robot", "rate", "episode start", "action"],
)
def test_the_trainer_is_not_given_a_faulty_dataset(name, video):
    CORRUPTIONS[name][0](video)
    with pytest.raises(MaskACTError) as error:
        Dataset.open(video)
    assert "\n" not in str(error.value)
    assert str(video) in str(error.value)


def test_a_folder_that_is_no_dataset_is_called_so(tmp_path):
    with pytest.raises(MaskACTError, match=r"no dataset, it has no meta/info\.json; allowed: a LeRobotDataset v3\.0"):
        Dataset.open(tmp_path)
    with pytest.raises(MaskACTError, match="no such folder"):
        Dataset.open(tmp_path / "nowhere")
