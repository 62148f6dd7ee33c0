"""Who gave no sign of life, and since when: one that is back soon was only kept waiting, one that is not is gone.

In: losses and finds, from the executor's thread. Out: who has been lost for too long, for the command loop.
"""

from __future__ import annotations

from collections.abc import Collection


class LostPeers:
    """A loss for each name, so that neither another loss nor another's find makes it forgotten."""

    def __init__(self) -> None:
        self._since_ns: dict[str, int] = {}  # single operations on it are atomic, as two threads use it

    def note(self, name: str, steady_ns: int) -> None:
        """Somebody was lost; of two losses without a find in between the first one counts."""
        self._since_ns.setdefault(name, steady_ns)

    def found(self, name: str) -> None:
        """Somebody lives again, if in time: who was told by `due` is not lost any more, and not back either."""
        self._since_ns.pop(name, None)

    def due(self, steady_ns: int, patience_ns: int) -> list[str]:
        """Who has been lost for longer than the patience lasts; each loss is told once."""
        names = [name for name, since_ns in sorted(self._since_ns.items()) if steady_ns - since_ns > patience_ns]
        return [name for name in names if self._since_ns.pop(name, None) is not None]


def gone(names: Collection[str]) -> str:
    """The reason for which no more chunks are taken."""
    return f"{' and '.join(names)} {'is' if len(names) == 1 else 'are'} gone; reset and enable to go on"
