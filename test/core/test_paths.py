"""The package's files are found in the source tree and in a workspace's share folder."""

import pytest

from maskact_ros import paths
from maskact_ros.paths import PathError, shared


def test_a_file_of_the_source_tree_is_found():
    assert shared("config/robot.yaml").is_file()


def test_a_file_of_an_installed_package_is_found_in_any_of_the_workspaces(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "_SOURCE", tmp_path / "site-packages")
    monkeypatch.setenv("AMENT_PREFIX_PATH", f"{tmp_path / 'overlay'}:{tmp_path / 'underlay'}")
    installed = tmp_path / "underlay/share/maskact_ros/config/robot.yaml"
    installed.parent.mkdir(parents=True)
    installed.touch()
    assert shared("config/robot.yaml") == installed


def test_a_file_that_is_nowhere_gives_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setenv("AMENT_PREFIX_PATH", str(tmp_path))
    with pytest.raises(PathError, match=r"config/absent\.yaml is in none of .*share/maskact_ros/.*workspace sourced"):
        shared("config/absent.yaml")
