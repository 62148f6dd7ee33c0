"""Paths that users give; the package's files in the source tree and in a workspace's share folder."""

import errno
import os
from pathlib import Path

import pytest

from maskact_ros.core import paths
from maskact_ros.core.paths import PathError, read_bytes, regular_size, resolve_path, shared


def test_a_given_path_is_expanded_and_resolved_whether_something_is_there_or_not(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert resolve_path("~/link/absent") == resolve_path("link/absent") == tmp_path / "real" / "absent"
    (tmp_path / "file").touch()
    assert resolve_path("file/below") == tmp_path / "file" / "below"


def test_a_given_path_is_relative_to_its_base_unless_it_is_absolute(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "me"))
    assert resolve_path("dino", base=tmp_path) == tmp_path / "dino"
    assert resolve_path("~/dino", base=tmp_path) == tmp_path / "me" / "dino"


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("~nosuchuser/x", "no path"),
        ("a" * 300, "cannot be reached (File name too long)"),
        ("a\0b", "no path"),
        ("\ud800", "no path"),
    ],
)
def test_what_cannot_be_a_path_is_one_sentence(path, words):
    with pytest.raises(PathError) as caught:
        resolve_path(path)
    assert words in str(caught.value)
    str(caught.value).encode()


def test_links_in_a_circle_are_one_sentence(tmp_path):
    (tmp_path / "a").symlink_to(tmp_path / "b")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    with pytest.raises(PathError, match=r"a: cannot be reached|no path"):
        resolve_path(tmp_path / "a")


def test_somebody_elses_folder_is_one_sentence(tmp_path, monkeypatch):
    def refuse(path, **_):
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(Path, "stat", refuse)  # who runs tests as root may enter any folder
    with pytest.raises(PathError, match=r"private: cannot be reached \(Permission denied\)"):
        resolve_path(tmp_path / "private")


def test_what_cannot_be_read_is_one_sentence(tmp_path):
    with pytest.raises(PathError, match=r"absent: cannot be read \(No such file or directory\)"):
        read_bytes(tmp_path / "absent")
    with pytest.raises(PathError, match=r"cannot be read \(Is a directory\)"):
        read_bytes(tmp_path)


@pytest.mark.parametrize("read", [read_bytes, regular_size])
def test_only_regular_files_are_read_and_nobody_is_waited_for(tmp_path, read):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(PathError, match=r"pipe: is a named pipe; allowed: a regular file"):
        read(tmp_path / "pipe")
    with pytest.raises(PathError, match=r"/dev/zero: is a device; allowed: a regular file"):
        read(Path("/dev/zero"))
    (tmp_path / "link").symlink_to(tmp_path / "pipe")
    with pytest.raises(PathError, match=r"link: is a named pipe"):
        read(tmp_path / "link")


def test_a_file_that_is_larger_than_allowed_is_not_read(tmp_path):
    (tmp_path / "file").write_bytes(b"12345")
    assert read_bytes(tmp_path / "file", most=5) == b"12345"
    with pytest.raises(PathError, match=r"file: has 5 bytes; allowed: at most 4"):
        read_bytes(tmp_path / "file", most=4)


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
