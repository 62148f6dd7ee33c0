"""What `Dataset.open` promises the trainer: the rows as they were written, and pictures that belong to them."""

import json

import numpy as np
import pytest
from support import foreign, written

from maskact_ros.core.documents import read_json
from maskact_ros.core.errors import MaskACTError
from maskact_ros.data.datasets.dataset import Dataset, read_report
from maskact_ros.data.datasets.lerobot_meta import write_report


@pytest.fixture(scope="module")
def video_dataset(tmp_path_factory):
    return foreign.write(tmp_path_factory.mktemp("video"))


@pytest.fixture(scope="module")
def png_dataset(tmp_path_factory):
    return foreign.write(tmp_path_factory.mktemp("png"), video=False)


def test_rows_of_all_files_come_in_order(video_dataset):
    dataset = Dataset.open(video_dataset)
    np.testing.assert_array_equal(dataset.states, foreign.rows()["observation.state"])
    np.testing.assert_array_equal(dataset.actions, foreign.rows()["action"])
    np.testing.assert_array_equal(dataset.stamps_ns, foreign.rows()["stamp_ns"])
    assert dataset.states.dtype == dataset.actions.dtype == np.float32
    assert [(e.index, e.start, e.length) for e in dataset.episodes] == [(0, 0, 5), (1, 5, 7), (2, 12, 24)]
    assert dataset.mask_classes == foreign.CLASSES
    assert dataset.robot.joint_names == foreign.JOINTS
    assert dataset.fps == foreign.FPS


@pytest.mark.parametrize("kind", ["video_dataset", "png_dataset"])
def test_every_episode_has_the_pictures_and_masks_of_its_own_rows(kind, request):
    dataset = Dataset.open(request.getfixturevalue(kind))
    lossy = 6 if kind == "video_dataset" else 0
    for episode in reversed(dataset.episodes):
        frames = list(dataset.frames(episode.index))
        assert len(frames) == episode.length
        for row, frame in enumerate(frames, start=episode.start):
            difference = np.abs(frame.rgb.astype(int) - foreign.picture(row))
            assert difference[:, 40:].max() <= lossy // 2  # the grey part tells neighbouring rows apart
            assert np.median(difference) <= lossy
            np.testing.assert_array_equal(frame.mask, foreign.mask(row))


def test_a_dataset_has_an_identity_that_one_of_the_same_rows_has_not(tmp_path):
    datasets = [Dataset.open(written.write(tmp_path / name)) for name in ("one", "other")]
    assert len({dataset.identity for dataset in datasets}) == 2
    assert all(len(dataset.identity) == 32 for dataset in datasets)
    assert Dataset.open(tmp_path / "one").identity == datasets[0].identity


def test_a_dataset_that_does_not_tell_its_identity_has_an_empty_one(video_dataset):
    assert Dataset.open(video_dataset).identity == ""


def test_the_report_of_many_episodes_is_read(tmp_path):
    ages = {"p50": 1.0, "p95": 2.0, "max": 3.0}
    told = {
        "source": "bag",
        "frames": 300,
        "start_ns": 1_700_000_000_000_000_000,
        "duration_s": 10.0,
        "rate_hz": 30.0,
        "ended_by": "no picture",
        "age_ms": {"state": ages, "action": ages},
    }
    folder = foreign.write(tmp_path)
    write_report(folder, {"bags": [], "episodes": [{"index": index, **told} for index in range(5000)]})
    assert read_report(folder).of(4999)["index"] == 4999
    assert Dataset.open(folder).episodes[0].source == "bag"


def test_what_a_user_hands_in_may_still_not_be_of_any_size(tmp_path):
    (tmp_path / "large.json").write_text(json.dumps({"values": list(range(100_000))}))
    with pytest.raises(MaskACTError, match="too large; allowed: 100000 values"):
        read_json(tmp_path / "large.json")
    assert len(read_json(tmp_path / "large.json", any_size=True)["values"]) == 100_000


def test_a_dataset_without_masks_has_none(tmp_path):
    dataset = Dataset.open(foreign.write(tmp_path, masks=False))
    assert dataset.mask_classes is None
    assert next(dataset.frames(1)).mask is None


def test_statistics_are_those_of_the_rows(video_dataset):
    dataset = Dataset.open(video_dataset)
    states = foreign.rows()["observation.state"].astype(float)
    np.testing.assert_allclose(dataset.statistics.state.mean, states.mean(axis=0))
    np.testing.assert_allclose(dataset.statistics.state.std, states.std(axis=0))
    np.testing.assert_allclose(dataset.statistics.action.max, foreign.rows()["action"].max(axis=0))


def test_an_episode_that_is_not_there_is_named(video_dataset):
    with pytest.raises(MaskACTError, match="episode 3; allowed: 0 to 2"):
        next(Dataset.open(video_dataset).frames(3))
