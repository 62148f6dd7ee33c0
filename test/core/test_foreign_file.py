"""Whatever a library raises over a file is one sentence with the file's name, and a claim is held against its size."""

import struct

import pytest

from maskact_ros.core.errors import MaskACTError
from maskact_ros.core.foreign_file import check_claim, reading


class TheirError(MaskACTError):
    """What a reader of a format raises."""


@pytest.mark.parametrize(
    ("problem", "words"),
    [
        (KeyError("no such object"), "no such object"),
        (RuntimeError("first line\n  second line"), "first line second line"),
        (MemoryError(), "MemoryError"),
        (struct.error("unpack requires 4 bytes"), "unpack requires 4 bytes"),
        (OSError(5, "Input/output error"), "Input/output error"),
        (ValueError("x" * 5000), "xxx..."),
    ],
)
def test_whatever_a_library_raises_is_one_sentence(tmp_path, problem, words):
    (tmp_path / "file").touch()
    with pytest.raises(TheirError) as caught, reading(tmp_path / "file", "a format", TheirError):
        raise problem
    sentence = str(caught.value)
    assert sentence.startswith(f"{tmp_path / 'file'}: cannot be read as a format (")
    assert words in sentence
    assert len(sentence) < 500


def test_our_own_errors_and_a_users_interrupt_pass(tmp_path):
    (tmp_path / "file").touch()
    for error in (TheirError("file: no column"), KeyboardInterrupt()):
        with pytest.raises(type(error)) as caught, reading(tmp_path / "file", "a format", TheirError):
            raise error
        assert caught.value is error


@pytest.mark.parametrize(("place", "words"), [("absent", "No such file"), ("", "Is a directory")])
def test_what_is_no_file_is_an_error_of_the_format(tmp_path, place, words):
    with pytest.raises(TheirError, match=words), reading(tmp_path / place, "a format", TheirError):
        pytest.fail("the library is not reached")


def test_a_file_may_claim_a_hundred_times_its_size_and_no_more(tmp_path):
    (tmp_path / "file").write_bytes(bytes(2**20))
    check_claim(tmp_path / "file", 100 * 2**20, "column a", TheirError)
    for claimed in (100 * 2**20 + 1, -1):
        with pytest.raises(TheirError, match=rf"file: claims {claimed} bytes of column a; allowed .*: 104857600"):
            check_claim(tmp_path / "file", claimed, "column a", TheirError)
