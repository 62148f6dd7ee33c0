"""Nobody's data is deleted: an output replaces only what is ours, whole, and never through a link."""

import os
from pathlib import Path

import pytest

from maskact_ros.core.errors import MaskACTError
from maskact_ros.core.folders import alone, clear_leftovers, complete_or_absent
from maskact_ros.core.outputs import MARK, Kind, OutputError, check_file, open_own, output_path, replaced_file


def read_marker(folder):
    if (folder / "marker").read_text() != "ours":
        raise MaskACTError("its marker is somebody's")


BOX = Kind(name="a box", marker="marker", read=read_marker, files=r"marker|parts/\d+\.bin")


def box(folder, content=b"old"):
    (folder / "parts").mkdir(parents=True)
    (folder / "marker").write_text("ours")
    (folder / "parts" / "0.bin").write_bytes(content)
    return folder


def write(folder, content=b"new", **options):
    with complete_or_absent(folder, BOX, **options) as partial:
        (partial / "parts").mkdir()
        (partial / "marker").write_text("ours")
        (partial / "parts" / "0.bin").write_bytes(content)


def content_of(folder):
    return (folder / "parts" / "0.bin").read_bytes()


def everything_in(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_ours_is_replaced_on_request_only(tmp_path):
    box(tmp_path / "box")
    with pytest.raises(OutputError, match="box: exists already; --overwrite replaces it"):
        write(tmp_path / "box")
    assert content_of(tmp_path / "box") == b"old"
    write(tmp_path / "box", overwrite=True)
    assert content_of(tmp_path / "box") == b"new"
    assert os.listdir(tmp_path) == ["box"]


@pytest.mark.parametrize(
    ("left", "reason"),
    [
        ({"chapter_7.tex": "years"}, "is not a box, as it has no marker"),
        ({"marker": "theirs", "parts/0.bin": ""}, r"is not a box \(its marker is somebody's\)"),
        ({"marker": "ours", "notes.md": ""}, r"holds notes\.md beside a box"),
        ({"marker": "ours", "parts/raw/7.bin": ""}, r"holds parts/raw/7\.bin beside a box"),
        ({"marker": "ours", **{f"{n}.csv": "" for n in range(5)}}, r"holds 0\.csv, 1\.csv, 2\.csv and 2 more beside"),
    ],
)
def test_what_is_not_all_ours_stays_and_is_named(tmp_path, left, reason):
    for name, text in left.items():
        (tmp_path / "box" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "box" / name).write_text(text)
    before = everything_in(tmp_path)
    with pytest.raises(
        OutputError, match=rf"box: exists and {reason}.*; allowed: a folder that is not there, or a box"
    ):
        write(tmp_path / "box", overwrite=True)
    assert everything_in(tmp_path) == before


def test_a_file_in_the_place_of_a_folder_stays(tmp_path):
    (tmp_path / "box").write_text("years of work")
    with pytest.raises(OutputError, match="box: exists and is not a box"):
        write(tmp_path / "box", overwrite=True)
    assert (tmp_path / "box").read_text() == "years of work"


def test_an_empty_folder_has_nothing_to_lose(tmp_path):
    (tmp_path / "box").mkdir()
    with pytest.raises(OutputError, match="exists already"):
        write(tmp_path / "box")
    write(tmp_path / "box", overwrite=True)
    assert content_of(tmp_path / "box") == b"new"


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("box", "is what is read"),
        ("box/parts", "holds what is read, .*/box/parts"),
        (".", "lies in what is read"),
        ("link", "is what is read"),  # which leads to it
    ],
)
def test_neither_a_source_nor_a_folder_above_or_below_it_is_replaced(tmp_path, source, reason):
    box(tmp_path / "box")
    (tmp_path / "link").symlink_to(tmp_path / "box")
    with pytest.raises(OutputError, match=f"box: exists and {reason}"):
        write(tmp_path / "box", overwrite=True, sources=[tmp_path / source])
    assert content_of(tmp_path / "box") == b"old"


def test_a_source_elsewhere_is_not_in_the_way(tmp_path):
    box(tmp_path / "box")
    write(tmp_path / "box", overwrite=True, sources=[tmp_path / "box_2", Path("/") / "nowhere"])
    assert content_of(tmp_path / "box") == b"new"


def test_nothing_is_written_through_a_link(tmp_path):
    box(tmp_path / "theirs")
    (tmp_path / "box").symlink_to(tmp_path / "theirs")
    for writing in (lambda: write(tmp_path / "box", overwrite=True), lambda: output_path(tmp_path / "box")):
        with pytest.raises(OutputError, match=r"box: is a link to .*theirs, and nothing is written through a link"):
            writing()
    assert content_of(tmp_path / "theirs") == b"old"


def test_a_link_within_ours_is_not_ours(tmp_path):
    (tmp_path / "thesis").mkdir()
    (box(tmp_path / "box") / "parts" / "1.bin").symlink_to(tmp_path / "thesis")
    with pytest.raises(OutputError, match=r"holds parts/1\.bin beside a box"):
        write(tmp_path / "box", overwrite=True)


def test_a_link_on_the_way_is_followed(tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "home").symlink_to(tmp_path / "disk")
    write(output_path(tmp_path / "home" / "box"))
    assert content_of(tmp_path / "disk" / "box") == b"new"


def test_the_old_one_stays_until_the_new_one_is_whole(tmp_path):
    box(tmp_path / "box")
    with pytest.raises(KeyboardInterrupt), complete_or_absent(tmp_path / "box", BOX, overwrite=True):
        raise KeyboardInterrupt
    assert content_of(tmp_path / "box") == b"old"
    assert os.listdir(tmp_path) == ["box"]


def test_what_was_put_there_meanwhile_stays(tmp_path):
    box(tmp_path / "box")
    with (
        pytest.raises(OutputError, match=r"holds thesis\.tex beside a box"),
        complete_or_absent(tmp_path / "box", BOX, overwrite=True),
    ):
        (tmp_path / "box" / "thesis.tex").touch()
    assert (tmp_path / "box" / "thesis.tex").exists()


def test_a_kill_between_the_old_one_and_the_new_one_loses_neither_until_it_is_undone(tmp_path):
    box(tmp_path / f".box.{'ab' * 16}.replaced")  # as it was renamed
    (tmp_path / f".box.{'cd' * 16}").mkdir()
    (tmp_path / ".box.notes").mkdir()
    clear_leftovers(tmp_path / "box")
    assert content_of(tmp_path / "box") == b"old"
    assert sorted(os.listdir(tmp_path)) == [".box.notes", "box"]


def test_a_lock_is_never_taken_through_a_link_nor_emptied(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "lock").symlink_to(tmp_path / "thesis.tex")
    with pytest.raises(OutputError, match="lock: is a link"), alone(tmp_path / "work", "not reached"):
        pass
    (tmp_path / "other").symlink_to(tmp_path)
    with pytest.raises(OutputError, match="other: is a link"), alone(tmp_path / "other", "not reached"):
        pass
    os.close(open_own(tmp_path / "thesis.tex"))
    assert (tmp_path / "thesis.tex").read_text() == "years of work"


def test_a_pipe_is_no_lock(tmp_path):
    os.mkfifo(tmp_path / "lock")
    with pytest.raises(OutputError, match="lock: is no file"):
        open_own(tmp_path / "lock")


def test_a_file_of_ours_is_replaced_whole_and_one_of_others_never(tmp_path):
    path = tmp_path / "page.html"
    for text in ("first", "second"):
        with replaced_file(path, "a page") as partial:
            partial.write_text(f"{text} {MARK}")
    assert path.read_text() == f"second {MARK}"
    with pytest.raises(ZeroDivisionError), replaced_file(path, "a page") as partial:
        partial.write_text(f"half {MARK} {1 / 0}")
    assert path.read_text() == f"second {MARK}"
    path.write_text("years of work")
    with pytest.raises(OutputError, match=r"page\.html: exists and is not a page that maskact wrote"):
        check_file(path, "a page")
    with pytest.raises(OutputError, match="not a page that maskact wrote"), replaced_file(path, "a page"):
        pass
    assert path.read_text() == "years of work"
    assert os.listdir(tmp_path) == ["page.html"]


@pytest.mark.parametrize("leading_to", ["thesis.tex", "nowhere"])
def test_a_file_that_is_a_link_stays_one(tmp_path, leading_to):
    (tmp_path / "thesis.tex").write_text(MARK)
    (tmp_path / "page.html").symlink_to(tmp_path / leading_to)
    with pytest.raises(OutputError, match=r"page\.html: is a link"), replaced_file(tmp_path / "page.html", "a page"):
        pass
    assert sorted(os.listdir(tmp_path)) == ["page.html", "thesis.tex"]


def test_a_folder_or_no_folder_in_the_place_of_a_file_is_said(tmp_path):
    (tmp_path / "page.html").mkdir()
    with pytest.raises(OutputError, match=r"page\.html: exists and is a folder"):
        check_file(tmp_path / "page.html", "a page")
    with pytest.raises(OutputError, match="there is no folder"):
        check_file(tmp_path / "none" / "page.html", "a page")
