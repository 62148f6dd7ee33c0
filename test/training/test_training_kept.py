"""What training and its neighbours write costs nobody a file, and a cache from a stranger is not believed."""

import json
from dataclasses import replace

import numpy as np
import pytest
from support.small_run import LENGTHS, settings_of, write_dataset

from maskact_ros.core.errors import MaskACTError
from maskact_ros.core.geometry import ImageGeometry
from maskact_ros.core.outputs import MARK
from maskact_ros.data.datasets.dataset import Dataset
from maskact_ros.tools import isolation
from maskact_ros.tools.isolation import IsolatedDomain
from maskact_ros.training.errors import TrainingError
from maskact_ros.training.evaluation.record_demos import DemoRequest, _check_partial, _is_there
from maskact_ros.training.run import frames as frames_module
from maskact_ros.training.run import train
from maskact_ros.training.run.augment import PRESETS
from maskact_ros.training.run.features import FeatureFile
from maskact_ros.training.run.frames import open_frames
from maskact_ros.training.run.run_folder import RunFolder
from maskact_ros.training.run.start import initial_model

GEOMETRY = ImageGeometry(mode="letterbox", interpolation="area")
ROWS = sum(LENGTHS)


@pytest.fixture
def dataset(tmp_path):
    return Dataset.open(write_dataset(tmp_path / "dataset"))


@pytest.fixture
def cached(dataset):
    """The folder of its frames, as another machine might have made it."""
    open_frames(dataset, dataset.folder / ".cache", GEOMETRY, 48)
    (folder,) = (dataset.folder / ".cache").iterdir()
    return folder


def truth(dataset, tmp_path):
    return open_frames(dataset, tmp_path / "elsewhere", GEOMETRY, 48)


def edit(path, change):
    array = np.load(path)
    change(array)
    np.save(path, array)


def about_with(folder, **changes):
    values = json.loads((folder / "about.json").read_text())
    (folder / "about.json").write_text(json.dumps({k: v for k, v in (values | changes).items() if v is not None}))


FORGERIES = {
    "one frame": lambda folder: edit(folder / "rgb.npy", lambda a: a[13].__ixor__(255)),
    "black frames": lambda folder: edit(folder / "rgb.npy", lambda a: a.fill(0)),
    "other masks": lambda folder: edit(folder / "masks.npy", lambda a: np.add(a, 1, out=a)),
    "frames of another size": lambda folder: np.save(folder / "rgb.npy", np.zeros((ROWS, 32, 32, 3), np.uint8)),
    "frames of another type": lambda folder: np.save(folder / "rgb.npy", np.zeros((ROWS, 48, 48, 3), np.float32)),
    "a torn array": lambda folder: (folder / "rgb.npy").write_bytes((folder / "rgb.npy").read_bytes()[:4000]),
    "no origin": lambda folder: about_with(folder, made_from=None),
    "another origin": lambda folder: about_with(folder, made_from="0" * 64),
    "no masks": lambda folder: about_with(folder, masks=False),
    "a class too few": lambda folder: about_with(folder, largest_class=1),
    "a class that is no number": lambda folder: about_with(folder, largest_class="2"),
}


@pytest.mark.parametrize("forgery", FORGERIES)
def test_a_cache_that_is_not_what_the_pictures_give_is_decoded_anew(dataset, cached, tmp_path, capsys, forgery):
    FORGERIES[forgery](cached)
    found = open_frames(dataset, cached.parent, GEOMETRY, 48)
    assert "decoded frames that are not used, as " in capsys.readouterr().out
    expected = truth(dataset, tmp_path)
    assert (found.rgb == expected.rgb).all()
    assert (found.masks == expected.masks).all()
    assert found.largest_class == expected.largest_class
    open_frames(dataset, cached.parent, GEOMETRY, 48)
    assert capsys.readouterr().out == ""


def test_the_cache_of_another_dataset_under_this_ones_name_is_not_used(dataset, cached, tmp_path, capsys):
    other = Dataset.open(write_dataset(tmp_path / "other"))
    open_frames(other, other.folder / ".cache", GEOMETRY, 48)
    (theirs,) = (other.folder / ".cache").iterdir()
    for path in theirs.iterdir():
        (cached / path.name).write_bytes(path.read_bytes())
    edit(cached / "rgb.npy", lambda a: np.invert(a, out=a))
    assert (open_frames(dataset, cached.parent, GEOMETRY, 48).rgb == truth(dataset, tmp_path).rgb).all()
    assert "not used" in capsys.readouterr().out


def test_pictures_that_changed_under_a_cache_are_decoded_anew(dataset, cached, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(frames_module, "_COMPARED", 0)  # so that only the origin can tell
    again = Dataset.open(write_dataset(tmp_path / "again", masks=True))
    (file,) = (dataset.folder / "data").rglob("*.parquet")
    (new,) = (again.folder / "data").rglob("*.parquet")
    open_frames(dataset, cached.parent, GEOMETRY, 48)
    assert capsys.readouterr().out == ""
    file.write_bytes(new.read_bytes() + b"\0")
    with pytest.raises(MaskACTError):  # its pictures are read again, and torn
        open_frames(dataset, cached.parent, GEOMETRY, 48)


def test_a_cache_that_is_a_link_or_holds_somebodys_file_is_left_alone(dataset, cached, tmp_path):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "thesis")
    with pytest.raises(MaskACTError, match="link: is a link to .*thesis"):  # noqa: RUF043
        open_frames(dataset, tmp_path / "link", GEOMETRY, 48)
    (cached / "thesis.tex").touch()
    about_with(cached, made_from="")
    with pytest.raises(TrainingError, match=r"holds thesis\.tex beside a cache of frames.*--cache takes another"):
        open_frames(dataset, cached.parent, GEOMETRY, 48)
    assert (cached / "thesis.tex").exists()
    assert list((tmp_path / "thesis").iterdir()) == []


@pytest.mark.parametrize("forgery", ["noise", "zeros", "one row", "nan", "longer", "the partial file"])
def test_features_that_are_not_the_backbones_are_computed_anew(dataset, tmp_path, monkeypatch, capsys, forgery):
    monkeypatch.setattr("maskact_ros.training.run.features._COMPARED", ROWS)
    settings = settings_of(
        tmp_path, dataset.folder, "x", policy={"freeze_backbone": True}, augment=PRESETS["none"], cache=tmp_path / "c"
    )
    model, _ = initial_model(settings, [dataset])
    geometry, size = model.spec.geometry, model.spec.config.image_size
    file = FeatureFile.of(model, open_frames(dataset, settings.cache, geometry, size), settings.cache)
    expected = np.array(file.open())
    content = bytearray(file.path.read_bytes())
    row = len(content) // ROWS
    noise = np.random.default_rng(1).normal(0, 1, len(content) // 2).astype(np.float16).tobytes()
    changed = {
        "noise": noise,
        "zeros": bytes(len(content)),
        "one row": content[: 5 * row] + noise[:row] + content[6 * row :],
        "nan": b"\xff\x7f" * (len(content) // 2),
        "longer": content + noise[:row],
        "the partial file": noise[: 6 * row],
    }[forgery]
    if forgery == "the partial file":
        file.path.unlink()
        file._partial.write_bytes(changed)
    else:
        file.path.write_bytes(changed)
    capsys.readouterr()
    np.testing.assert_allclose(file.open().astype(np.float32), expected.astype(np.float32), atol=1e-2)
    if forgery != "the partial file":
        assert "features that are not used" in capsys.readouterr().out


# the folder of a run


@pytest.mark.parametrize("name", ["checkpoint", "best", "log.jsonl", "curves.png", "state.safetensors", "tensorboard"])
def test_a_run_takes_no_name_from_anybody(tmp_path, dataset, name):
    run = tmp_path / "run"
    run.mkdir()
    (run / name).write_text("years of work")
    (run / "notes.txt").write_text("may stay")
    with pytest.raises(TrainingError, match=rf"run: holds {name}, which a run would replace"):
        train.train(settings_of(tmp_path, dataset.folder, "run", steps=1))
    assert (run / name).read_text() == "years of work"
    (run / name).unlink()
    RunFolder(run).check_new()


def test_a_run_is_not_written_into_what_it_reads(tmp_path, dataset):
    settings = replace(settings_of(tmp_path, dataset.folder, "run"), out=dataset.folder)
    with pytest.raises(TrainingError, match="dataset: is what the run reads"):
        train.train(settings)


@pytest.mark.parametrize("name", ["log.jsonl", "state.safetensors", "curves.png", "checkpoint"])
def test_a_run_that_somebody_sent_is_not_resumed_through_its_links(tmp_path, dataset, name):
    settings = settings_of(tmp_path, dataset.folder, "run", steps=1)
    train.train(settings)
    (tmp_path / "thesis").write_text("years of work")
    (settings.out / name).rename(tmp_path / "aside")
    (settings.out / name).symlink_to(tmp_path / "thesis")
    with pytest.raises(MaskACTError, match=f"{name}: is a link"):
        train.train(train.resumed(settings.out), resume=True)
    assert (tmp_path / "thesis").read_text() == "years of work"


def test_a_kill_between_two_checkpoints_gives_the_old_one_back(tmp_path, dataset):
    settings = settings_of(tmp_path, dataset.folder, "run", steps=5)
    train.train(settings)
    run = RunFolder(settings.out)
    run.checkpoint.rename(settings.out / f".checkpoint.{'ef' * 16}.replaced")
    run.clear()
    assert (run.checkpoint / "manifest.json").is_file()


# demonstrations, and the temporary folder


@pytest.mark.parametrize("names", [["metadata.yaml", "thesis.tex"], ["episode_000007.mcap", "episode_000007_0.mcap"]])
def test_what_only_looks_like_a_damaged_bag_is_not_recorded_anew(tmp_path, names):
    bag = tmp_path / "episode_000007"
    bag.mkdir()
    for name in names:
        (bag / name).touch()
    (bag / "metadata.yaml").write_text("not: [a bag")
    with pytest.raises(MaskACTError, match="beside a bag of record-demos"):
        _is_there(bag, {})
    (tmp_path / "episode_000008").symlink_to(bag)
    with pytest.raises(MaskACTError, match="episode_000008: is a link"):
        _is_there(tmp_path / "episode_000008", {})


def test_the_working_folder_of_record_demos_is_not_taken_from_anybody(tmp_path):
    request = DemoRequest(out=tmp_path, episodes=1)
    (tmp_path / ".partial").mkdir()
    (tmp_path / ".partial" / "episode_000007").mkdir()
    _check_partial(request.out / ".partial")
    (tmp_path / ".partial" / "thesis.tex").touch()
    with pytest.raises(MaskACTError, match=r"thesis\.tex: is in the way"):
        _check_partial(request.out / ".partial")


def test_a_link_in_the_temporary_folder_is_not_followed(tmp_path, monkeypatch):
    monkeypatch.setattr(isolation.tempfile, "gettempdir", lambda: str(tmp_path))
    (tmp_path / "thesis.tex").write_text(f"years of work {MARK}")
    first = IsolatedDomain()
    (lock,) = tmp_path.glob("*.lock")
    first.close()
    lock.unlink()
    lock.symlink_to(tmp_path / "thesis.tex")
    second = IsolatedDomain()
    assert second.id != first.id
    second.close()
    assert (tmp_path / "thesis.tex").read_text() == f"years of work {MARK}"
