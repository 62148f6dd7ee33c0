"""Batches follow from seed and step, chunks end with their episode, frames are decoded once, as the nodes see them."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch
from support.small_run import LENGTHS, mask_of, picture_of, write_dataset

from maskact_ros.core.geometry import ImageGeometry
from maskact_ros.data.datasets.dataset import Dataset
from maskact_ros.training.errors import TrainingError
from maskact_ros.training.run import frames as frames_module
from maskact_ros.training.run.augment import PRESETS
from maskact_ros.training.run.batches import Batches, Prefetcher, Rows, also_trained_on, rows_of, split_episodes
from maskact_ros.training.run.frames import fingerprint, open_frames

GEOMETRY = ImageGeometry(mode="letterbox", interpolation="area")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return Dataset.open(write_dataset(tmp_path_factory.mktemp("data") / "dataset"))


@pytest.fixture(scope="module")
def rows(dataset, tmp_path_factory):
    return Rows.of([dataset], [open_frames(dataset, tmp_path_factory.mktemp("cache"), GEOMETRY, 48)])


def batches_of(rows, **changes):
    values = {
        "rows": rows,
        "training_rows": np.arange(sum(LENGTHS)),
        "chunk_size": 4,
        "augmentation": PRESETS["full"],
        "seed": 5,
        "batch_size": 6,
    }
    return Batches(**values | changes)


def same(one, two):
    pairs = [(getattr(one, name), getattr(two, name)) for name in one.__dataclass_fields__]
    return all(a is b if a is None or b is None else torch.equal(a, b) for a, b in pairs)


def test_a_cached_frame_is_what_the_geometry_makes_of_the_picture(rows):
    for row in (0, LENGTHS[0], sum(LENGTHS) - 1):
        rgb, mask = rows.picture(row)
        assert (rgb == GEOMETRY.to_model(picture_of(row), 48)).all()
        assert (mask == GEOMETRY.labels_to_model(mask_of(row), 48)).all()


def test_frames_are_decoded_once_for_all_runs(dataset, tmp_path, monkeypatch):
    first = open_frames(dataset, tmp_path, GEOMETRY, 32)
    monkeypatch.setattr(frames_module, "_decode", None)
    again = open_frames(dataset, tmp_path, GEOMETRY, 32)
    assert (first.rgb == again.rgb).all()
    assert again.largest_class == 2
    with pytest.raises(TypeError):
        open_frames(dataset, tmp_path, ImageGeometry(), 32)


def test_the_same_rows_under_another_look_do_not_share_their_frames(dataset, tmp_path):
    looks = [replace(dataset, identity=identity) for identity in ("", "one", "other")]
    for look in (*looks, *looks):
        open_frames(look, tmp_path, GEOMETRY, 32)
    assert len(list(tmp_path.iterdir())) == 3


def test_what_was_decoded_before_datasets_had_an_identity_is_still_found(dataset):
    assert fingerprint(replace(dataset, identity="")) == "4f188c22fddee4ed"


def test_a_cache_is_complete_or_absent(dataset, tmp_path, monkeypatch):
    def failing(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(ImageGeometry, "labels_to_model", failing)
    with pytest.raises(KeyboardInterrupt):
        open_frames(dataset, tmp_path, GEOMETRY, 48)
    assert list(tmp_path.iterdir()) == []


def test_a_disk_without_room_for_the_frames_is_said_before_the_work(dataset, tmp_path, monkeypatch):
    monkeypatch.setattr(frames_module.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 10}))
    with pytest.raises(TrainingError, match=r"they need 0\.0 GiB .* --cache takes another folder"):
        open_frames(dataset, tmp_path, GEOMETRY, 48)
    assert list(tmp_path.iterdir()) == []


def test_a_chunk_is_what_follows_and_its_end_is_padded_and_marked(rows):
    actions, is_pad = rows.chunks(np.array([0, LENGTHS[0] - 2, LENGTHS[0]]), 4)
    one_on = np.array([1, 2, 3, 4]) / 10
    np.testing.assert_allclose(actions[0, :, 0], one_on)
    last = LENGTHS[0] / 10
    np.testing.assert_allclose(actions[1, :, 0], [last - 0.1, last, last, last])
    np.testing.assert_allclose(actions[2, :, 0], one_on + last)
    assert is_pad.tolist() == [[False] * 4, [False, False, True, True], [False] * 4]


def test_chunks_do_not_reach_into_the_next_dataset(dataset, rows):
    both = Rows.of([dataset, dataset], [rows.frames[0]] * 2)
    total = sum(LENGTHS)
    assert (both.chunks(np.array([total - 1]), 3)[1] == [[False, True, True]]).all()
    assert (both.picture(total + 2)[0] == rows.picture(2)[0]).all()
    assert len(both.episodes) == 2 * len(LENGTHS)


def test_every_row_is_seen_once_before_any_is_seen_again(rows):
    batches = batches_of(rows, training_rows=np.arange(3, 21))
    epochs = [np.concatenate([batches.step_rows(3 * e + step) for step in range(3)]) for e in range(2)]
    assert [sorted(epoch) for epoch in epochs] == [list(range(3, 21))] * 2
    assert epochs[0].tolist() != epochs[1].tolist()


def test_a_step_has_the_same_batch_however_it_is_made(rows):
    batches = batches_of(rows)
    expected = [batches.make(step) for step in range(5)]
    with Prefetcher(batches, range(2, 5), workers=1) as prefetcher:
        assert all(same(batch, expected[step]) for step, batch in prefetcher)
    with ThreadPoolExecutor(3) as pool:
        assert same(batches.make(1, pool), expected[1])
    assert not same(expected[0], batches_of(rows, seed=6).make(0))


def test_processes_share_the_batch_that_one_would_make(rows):
    whole = batches_of(rows).make(3)
    shares = [batches_of(rows, process=process, processes=2).make(3) for process in range(2)]
    for process, share in enumerate(shares):
        assert torch.equal(share.images, whole.images[process::2])
        assert torch.equal(share.actions, whole.actions[process::2])


def test_an_error_while_a_batch_is_made_reaches_the_trainer(rows):
    batches = batches_of(rows, augmentation=None)
    with Prefetcher(batches, range(3), workers=1) as prefetcher, pytest.raises(AttributeError):
        next(iter(prefetcher))


def test_a_prefetcher_ends_though_nobody_takes_its_batches(rows):
    with Prefetcher(batches_of(rows), range(1000), workers=1) as prefetcher:
        next(iter(prefetcher))
    assert not prefetcher._thread.is_alive()


@pytest.mark.parametrize(
    ("episodes", "share", "held_out"), [(20, 0.1, 2), (3, 0.01, 1), (2, 0.9, 1), (5, 0, 0), (1, 0.5, 0)]
)
def test_held_out_episodes_are_the_seeds(episodes, share, held_out):
    bags = [f"bag {number}" for number in range(episodes)]
    training, kept = split_episodes(bags, share, seed=1)
    assert len(kept) == held_out
    assert sorted([*training, *kept]) == list(range(episodes))
    for sources in (bags, [""] * episodes, ["one bag"] * episodes):
        assert split_episodes(sources, share, seed=1)[1].tolist() == kept.tolist()


def test_held_out_episodes_that_are_trained_on_in_another_dataset_are_found(dataset, rows, tmp_path):
    frames = [open_frames(dataset, tmp_path / str(number), GEOMETRY, 48) for number in (0, 1)]
    count, twice = len(LENGTHS), Rows.of([dataset, dataset], frames)
    assert also_trained_on(twice, np.arange(count), np.array([count + 1])) == [count + 1]
    assert also_trained_on(rows, np.arange(1, count), np.array([0])) == []


def test_held_out_episodes_of_a_seed_are_those_of_runs_that_were_begun_before():
    kept = split_episodes([f"bag {number}" for number in range(40)], 0.1, seed=3)[1]
    assert kept.tolist() == [17, 23, 30, 32]


@pytest.mark.parametrize("pieces", [[3] * 20, [1, 7, 2, 2, 9, 1, 1, 4], [30, 30], [1, 50]], ids=str)
@pytest.mark.parametrize("seed", range(5))
def test_episodes_of_one_bag_are_held_out_together_or_not_at_all(pieces, seed):
    sources = [f"bag {number}" for number, episodes in enumerate(pieces) for _ in range(episodes)]
    training, kept = split_episodes(sources, 0.1, seed)
    assert sorted([*training, *kept]) == list(range(len(sources)))
    assert {sources[episode] for episode in training}.isdisjoint(sources[episode] for episode in kept)
    assert 1 <= len(kept) <= max(round(0.1 * len(sources)), min(pieces))


def test_a_run_knows_what_its_episodes_were_made_from(rows):
    assert rows.sources == ("made up",) * len(LENGTHS)


def test_rows_of_episodes_are_all_of_them_and_no_other(rows):
    assert rows_of(rows.episodes[[0, 2]]).tolist() == [
        *range(LENGTHS[0]),
        *range(LENGTHS[0] + LENGTHS[1], sum(LENGTHS)),
    ]
