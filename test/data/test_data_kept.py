"""What convert, import and inspect are told to write never costs anybody a file."""

import shutil

import h5py
import numpy as np
import pytest
import yaml
from support import bags, foreign

from maskact_ros import cli
from maskact_ros.data.datasets.dataset import Dataset
from maskact_ros.data.datasets.pictures import video_frames


def run(capsys, *words):
    """The exit code, and what was said on stderr."""
    with pytest.raises(SystemExit) as done:
        cli.main([str(word) for word in words])
    return done.value.code, capsys.readouterr().err


def snapshot(folder):
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture
def setup(tmp_path):
    for name in ("one", "two"):
        bags.write(tmp_path / "bags" / name, bags.recording(6))
    bags.contract(tmp_path)
    return tmp_path


def convert(capsys, setup, out, source="bags"):
    words = ["--contract", setup / "contract.yaml", "--out", out, "--overwrite"]
    return run(capsys, "convert", setup / source, *words)


@pytest.mark.parametrize(
    ("source", "out", "reason"),
    [
        ("bags/one", "bags/one", "is what is read"),
        ("bags/one/one.mcap", "bags/one", "what is read"),
        ("bags", "bags", "holds what is read"),
        ("bags", ".", "holds what is read"),
        ("bags", "thesis", "is not a dataset"),
        ("bags", "link", "is a link"),
        ("bags", "thesis/chapter.tex", "is not a dataset"),
    ],
)
def test_convert_deletes_neither_its_bags_nor_what_is_not_ours(setup, capsys, source, out, reason):
    (setup / "thesis").mkdir()
    (setup / "thesis" / "chapter.tex").write_text("years of work")
    (setup / "link").symlink_to(setup / "thesis")
    if not (setup / source).exists():
        source = str(next((setup / "bags/one").glob("*.mcap")).relative_to(setup))
    before = snapshot(setup)
    code, told = convert(capsys, setup, setup / out, source)
    assert code == 1
    assert told.startswith("maskact convert: ")
    assert reason in told
    assert told.count("\n") == 1
    assert snapshot(setup) == before


def test_convert_replaces_its_own_dataset_with_the_caches_in_it(setup, capsys):
    assert convert(capsys, setup, setup / "out")[0] == 0
    before = Dataset.open(setup / "out").identity
    cache = setup / "out" / ".cache" / "frames-0123456789abcdef-stretch-linear-48"
    cache.mkdir(parents=True)
    for name in ("rgb.npy", "masks.npy", "about.json"):
        (cache / name).touch()
    (setup / "out" / ".cache" / "features-x.f16").touch()
    assert convert(capsys, setup, setup / "out")[0] == 0
    assert Dataset.open(setup / "out").identity != before
    assert not (setup / "out" / ".cache").exists()


@pytest.mark.parametrize("name", ["results.ods", "meta/thesis.tex", "videos/holiday.mp4", ".cache/notes.txt"])
def test_a_file_of_somebodys_in_a_dataset_keeps_it(setup, capsys, name):
    assert convert(capsys, setup, setup / "out")[0] == 0
    (setup / "out" / name).parent.mkdir(exist_ok=True)
    (setup / "out" / name).write_text("years of work")
    before = snapshot(setup)
    code, told = convert(capsys, setup, setup / "out")
    assert code == 1
    assert f"out: exists and holds {name} beside a dataset" in told
    assert snapshot(setup) == before


def test_a_dataset_of_somebody_else_is_never_replaced(setup, capsys):
    foreign.write(setup / "lerobot", ours=False)
    before = snapshot(setup)
    code, told = convert(capsys, setup, setup / "lerobot")
    assert code == 1
    assert "lerobot: exists and is not a dataset, as it has no meta/maskact/report.json" in told
    assert snapshot(setup) == before


def test_the_folder_of_parts_is_not_taken_from_anybody(setup, capsys):
    (setup / "thesis" / "chapters").mkdir(parents=True)
    (setup / ".out.parts").symlink_to(setup / "thesis")
    code, told = convert(capsys, setup, setup / "out")
    assert (code, ".out.parts: is a link" in told) == (1, True)
    (setup / ".out.parts").unlink()
    (setup / ".out.parts" / "chapters").mkdir(parents=True)
    code, told = convert(capsys, setup, setup / "out")
    assert (code, "chapters: is in the way" in told) == (1, True)
    assert (setup / "thesis" / "chapters").is_dir()
    assert (setup / ".out.parts" / "chapters").is_dir()


@pytest.fixture
def robot(tmp_path):
    path = tmp_path / "robot.yaml"
    path.write_text(yaml.safe_dump(foreign.ROBOT))
    return path


@pytest.mark.parametrize(("out", "reason"), [("ours", "is what is read"), ("ours/meta", "lies in what is read")])
def test_import_does_not_delete_its_source(tmp_path, capsys, robot, out, reason):
    foreign.write(tmp_path / "ours")
    before = snapshot(tmp_path)
    code, told = run(capsys, "import", tmp_path / "ours", "--out", tmp_path / out, "--robot", robot, "--overwrite")
    assert (code, reason in told) == (1, True), told
    assert snapshot(tmp_path) == before


def test_inspect_replaces_its_own_page_only(tmp_path, capsys):
    foreign.write(tmp_path / "ours")
    page, thesis = tmp_path / "page.html", tmp_path / "thesis.html"
    for _ in range(2):
        assert run(capsys, "inspect", tmp_path / "ours", "--html", page)[0] in (0, None)
    thesis.write_text("<p>years of work</p>")
    for target in (thesis, tmp_path / "ours" / "meta" / "info.json"):
        before = target.read_bytes()
        code, told = run(capsys, "inspect", tmp_path / "ours", "--html", target)
        assert (code, "is not a page that maskact wrote" in told) == (1, True), told
        assert target.read_bytes() == before


# HDF5 can borrow from other files.


@pytest.fixture
def demos(tmp_path):
    """A demonstration whose images are still to be written, and a secret of the same size."""
    shape = (4, *foreign.picture(0).shape)
    np.full(shape, 77, np.uint8).tofile(tmp_path / "secret.bin")
    with h5py.File(tmp_path / "secret.h5", "w") as file:
        file["images"] = np.full(shape, 77, np.uint8)
        file.create_group("demo")["images"] = file["images"]
    path = tmp_path / "demos.hdf5"
    with h5py.File(path, "w") as file:
        file.create_group("data/demo_0")["joints"] = foreign.rows()["observation.state"][:4]
    return path, shape


def borrow(file, how, shape, folder):
    demo, secret = file["data/demo_0"], str(folder / "secret.h5")
    if how == "external storage":
        demo.create_dataset("images", shape, "u1", external=[(str(folder / "secret.bin"), 0, h5py.h5f.UNLIMITED)])
    elif how == "a virtual dataset":
        layout = h5py.VirtualLayout(shape, "u1")
        layout[:] = h5py.VirtualSource(secret, "images", shape)
        demo.create_virtual_dataset("images", layout)
    elif how == "a link into":
        demo["images"] = h5py.ExternalLink(secret, "/images")
    else:
        file["elsewhere"] = h5py.ExternalLink(secret, "/")
        demo["images"] = h5py.SoftLink("/elsewhere/demo/images")


@pytest.mark.parametrize("how", ["external storage", "a virtual dataset", "a link into", "a soft link"])
def test_an_hdf5_file_that_borrows_from_other_files_is_refused(demos, robot, tmp_path, capsys, how):
    path, shape = demos
    with h5py.File(path, "a") as file:
        borrow(file, how, shape, tmp_path)
    code, told = run(capsys, "import", path, "--out", tmp_path / "out", "--robot", robot)
    assert code == 1
    assert "demos.hdf5: " in told
    assert "data/demo_0/images is " in told
    assert "allowed: data in the file itself" in told
    assert not (tmp_path / "out").exists()


def test_a_playlist_that_is_called_a_video_opens_no_other_file(tmp_path):
    foreign.write(tmp_path / "ours")
    real = next((tmp_path / "ours" / "videos").rglob("*.mp4"))
    shutil.copy(real, tmp_path / "secret.mp4")
    for text in ("ffconcat version 1.0\nfile secret.mp4\n", "#EXTM3U\n#EXTINF:9,\nsecret.mp4\n#EXT-X-ENDLIST\n"):
        (tmp_path / "video.mp4").write_text(text)
        with pytest.raises(Exception, match="cannot be decoded"):
            list(video_frames(tmp_path / "video.mp4", first=0, count=1, fps=10))
