"""What `make wheel` builds is whole: installed without the source tree, it has its command and converts."""

import os
import subprocess
import sys
import sysconfig
import tarfile
from zipfile import ZipFile

import pytest
from support import bags
from support.source_tree import ROOT, committed_files, copy_source

from maskact_ros import __version__

pytestmark = pytest.mark.extended


def run(*command, cwd):
    """Without PYTHONPATH, which would hide what was installed."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(command, cwd=cwd, env=kept, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def dist(tmp_path_factory):
    source = tmp_path_factory.mktemp("source")
    copy_source(source)
    run(sys.executable, "setup.py", "-q", "sdist", cwd=source)
    run(sys.executable, "setup.py", "-q", "bdist_wheel", cwd=source)
    return source / "dist"


@pytest.fixture(scope="module")
def wheel(dist):
    (found,) = dist.glob("*.whl")
    return found


def test_the_wheel_holds_the_package_and_its_files_and_nothing_else(wheel):
    names = ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names}
    assert tops == {"maskact_ros", f"maskact_ros-{__version__}.data", f"maskact_ros-{__version__}.dist-info"}
    assert {f"maskact_ros/{file.relative_to(ROOT / 'maskact_ros')}" for file in committed_files() if package(file)} == {
        name for name in names if name.startswith("maskact_ros/")
    }


def test_its_command_is_made_from_the_entry_point_alone(wheel):
    names = ZipFile(wheel).namelist()
    assert any(name.endswith("entry_points.txt") for name in names)
    assert not [name for name in names if name.endswith("/maskact")]


def package(file):
    return file.is_relative_to(ROOT / "maskact_ros")


def test_the_source_distribution_builds_the_same_wheel(dist, wheel, tmp_path):
    (archive,) = dist.glob("*.tar.gz")
    with tarfile.open(archive) as opened:
        opened.extractall(tmp_path, filter="data")
    (unpacked,) = tmp_path.iterdir()
    run(sys.executable, "setup.py", "-q", "bdist_wheel", cwd=unpacked)
    (again,) = unpacked.glob("dist/*.whl")
    assert sorted(ZipFile(again).namelist()) == sorted(ZipFile(wheel).namelist())


def test_installed_in_an_empty_environment_it_shows_its_help_and_converts_a_bag(wheel, tmp_path):
    """The libraries that it needs are those of the tests; of this package the environment has the wheel only."""
    place = tmp_path / "environment"
    run(sys.executable, "-m", "venv", "--without-pip", str(place), cwd=tmp_path)
    (packages,) = place.glob("lib/python*/site-packages")
    pip = (sys.executable, "-m", "pip", "--python", str(place), "install", "-q", "--no-deps", "--no-index")
    run(*pip, str(wheel), cwd=tmp_path)
    packages.joinpath("libraries.pth").write_text(sysconfig.get_path("purelib"))
    maskact = str(place / "bin" / "maskact")

    assert "convert" in run(str(place / "bin" / "python"), maskact, "--help", cwd=tmp_path)
    where = run(str(place / "bin" / "python"), "-c", "import maskact_ros; print(maskact_ros.__file__)", cwd=tmp_path)
    assert where.startswith(str(place))
    bags.write(tmp_path / "bags" / "one", bags.recording(20))
    bags.contract(tmp_path)
    arguments = ("convert", "bags", "--contract", "contract.yaml", "--out", "dataset")
    run(str(place / "bin" / "python"), maskact, *arguments, cwd=tmp_path)
    assert (tmp_path / "dataset" / "meta" / "info.json").is_file()
