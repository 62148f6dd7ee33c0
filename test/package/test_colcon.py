"""`colcon build` of a clean copy, as a user's workspace does it."""

import os
import subprocess
import sys

import pytest
from support.source_tree import PACKAGE, ROOT, committed_files, copy_source

from maskact_ros import __version__

pytestmark = pytest.mark.extended

EXECUTABLES = {"camera_encoder", "inference", "action_publisher", "sim_robot", "expert", "maskact"}


def environment(home):
    """This process's, without workspaces that are sourced already; PYTHONPATH would hide what was built."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("COLCON_", "AMENT_")) and k != "PYTHONPATH"}
    return {**kept, "COLCON_HOME": str(home)}


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    workspace = tmp_path_factory.mktemp("workspace")
    copy_source(workspace / "src" / "maskact_ros")
    command = [sys.executable, "-m", "colcon", "build"]
    done = subprocess.run(
        command, cwd=workspace, env=environment(workspace), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return workspace


@pytest.fixture(scope="module")
def prefix(workspace):
    return workspace / "install" / "maskact_ros"


def in_workspace(workspace, command):
    """Run a shell command with the workspace sourced."""
    script = f". install/local_setup.sh && {command}"
    return subprocess.run(
        ["sh", "-c", script], cwd=workspace, env=environment(workspace), capture_output=True, text=True, check=False
    )


def test_ros2_run_finds_the_executables(prefix):
    installed = {path.name for path in (prefix / "lib" / "maskact_ros").iterdir() if os.access(path, os.X_OK)}
    assert installed == EXECUTABLES


def test_the_package_is_in_the_resource_index(prefix):
    assert (prefix / "share" / "ament_index" / "resource_index" / "packages" / "maskact_ros").is_file()
    assert (prefix / "share" / "maskact_ros" / "package.xml").is_file()


@pytest.mark.parametrize("folder", ["launch", "config", "models"])
def test_every_shared_file_is_installed(prefix, folder):
    source = {path.relative_to(ROOT) for path in committed_files() if path.is_relative_to(ROOT / folder)}
    assert {path for path in source if not (prefix / "share" / "maskact_ros" / path).is_file()} == set()


def test_every_file_of_the_python_package_is_installed(prefix):
    (installed,) = prefix.glob("lib/python3*/site-packages/maskact_ros")
    source = {path.relative_to(PACKAGE) for path in committed_files() if path.is_relative_to(PACKAGE)}
    assert {path for path in source if not (installed / path).is_file()} == set()


def test_a_sourced_workspace_runs_what_was_built(workspace, prefix):
    done = in_workspace(workspace, f"{sys.executable} -c 'import maskact_ros; print(maskact_ros.__file__)'")
    assert done.stdout.startswith(str(prefix)), done.stdout + done.stderr


def test_an_installed_executable_runs(workspace, prefix):
    done = in_workspace(workspace, f"{prefix}/lib/maskact_ros/maskact --help")
    assert done.returncode == 0, done.stderr
    assert "maskact" in done.stdout


def test_maskact_is_on_the_path_of_a_sourced_workspace(workspace, prefix):
    done = in_workspace(workspace, "command -v maskact && cd / && maskact --version")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [str(prefix / "bin" / "maskact"), f"maskact {__version__}"]


def test_only_maskact_is_on_the_path_as_the_nodes_are_for_ros2_run(prefix):
    assert [path.name for path in (prefix / "bin").iterdir()] == ["maskact"]
