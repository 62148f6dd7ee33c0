"""The base of every error a user can cause, and how a text from outside is shown: on one line, and not at any length.

In: a text that may hold what a stranger wrote: a joint's name, a path, a message. Out: the same for a terminal, a log
or /diagnostics.
"""

from __future__ import annotations

from collections.abc import Iterable

LONGEST = 2000  # letters of one sentence
_LONGEST_DRAWN = 60  # letters of a name in a figure


def printable(text: object, longest: int = LONGEST) -> str:
    """The text as one line of about `longest` letters at most; what is printable already stays as it is.

    Control and format characters, line feeds among them, are shown as Python writes them: `\\x1b`, `\\n`, `\\u202e`;
    what a message cannot carry is shown as `?`. Of a longer text the middle is left out, and how much that is, is said.
    """
    return _cut(_escaped(_cut(str(text), longest)), longest)  # again, as an escaped letter takes up to ten


def drawable(name: str) -> str:
    """A name of anybody's as matplotlib is to draw it: on one short line, and `$` is a letter, not mathematics."""
    return printable(name, _LONGEST_DRAWN).replace("$", r"\$")


class MaskACTError(Exception):
    """Something the user can mend; commands and nodes print its text, never a stack trace.

    The text is one printable line, whatever it quotes; `lines` follow it, each on a line of its own.
    """

    def __init__(self, text: object = "", *, lines: Iterable[str] = ()) -> None:
        super().__init__(text)
        self.lines = tuple(lines)

    def __str__(self) -> str:
        """The text, and the lines."""
        return "\n  ".join(printable(line) for line in (self.args[0], *self.lines))


_NOTE = 60  # letters, at most, that say how much is left out


def _cut(text: str, longest: int) -> str:
    if len(text) <= longest + _NOTE:
        return text
    end = longest // 4
    return f"{text[: longest - end]} … ({len(text) - longest} letters left out) … {text[-end:]}"


def _escaped(text: str) -> str:
    return text if text.isprintable() else "".join(c if c.isprintable() else _escape(c) for c in text)


def _escape(letter: str) -> str:
    # C ends a text at a zero; half of a pair, as in names of files that are no UTF-8, has no encoding.
    return "?" if letter == "\0" or "\ud800" <= letter <= "\udfff" else letter.encode("unicode_escape").decode("ascii")
