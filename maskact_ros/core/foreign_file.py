"""The boundary between us and the libraries that read other people's files.

In: a file's path, the name of its format, and what a library makes of it inside of a `with` block. Out: one sentence
with the file's name, whatever the library raises; and the same for a size that a file claims and does not have.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from maskact_ros.core.documents import shortened
from maskact_ros.core.errors import MaskACTError
from maskact_ros.core.paths import PathError, regular_size

_ALWAYS_ALLOWED = 2**26  # bytes; a small file may well say in short what takes some megabytes
_MOST_TIMES = 100  # as large as the file; of measured numbers, no compression saves more
DEFLATE_TIMES = 1100  # as large as the file, of pictures of one colour: deflate cannot save more


def likely_bytes(size: int, times: int = _MOST_TIMES) -> int:
    """How many bytes a file, or a part of one, of `size` bytes may stand for; more was made to fill memory or disk."""
    return max(_ALWAYS_ALLOWED, times * size)


@contextmanager
def reading(path: Path, kind: str, error: type[MaskACTError]) -> Iterator[None]:
    """A block in which a library reads a regular file of a format; our own errors pass as they are.

    Keep the block to calls of the library: what else goes wrong in it is taken for the file's fault, too.

    Raises:
        MaskACTError: of the class `error`, with the file, the format, and what the library says.
    """
    try:
        regular_size(path)
    except PathError as refusal:
        raise error(refusal.args[0]) from None
    try:
        yield
    except MaskACTError:
        raise
    except Exception as problem:  # noqa: BLE001 - damaged bytes make libraries raise anything; here is the one place
        raise error(f"{path}: cannot be read as {kind} ({_said(problem)})") from None


def check_claim(path: Path, claimed: int, what: str, error: type[MaskACTError], *, times: int = _MOST_TIMES) -> None:
    """Raise `error` when a file claims to hold more bytes of something than its own size makes likely."""
    allowed = likely_bytes(regular_size(path), times)
    if not 0 <= claimed <= allowed:
        raise error(f"{path}: claims {claimed} bytes of {what}; allowed for a file of its size: {allowed}")


def _said(problem: Exception) -> str:
    """What a library says, on one line; its class where it says nothing."""
    text = getattr(problem, "strerror", None) or str(problem)
    return shortened(" ".join(str(text).split())) or type(problem).__name__
