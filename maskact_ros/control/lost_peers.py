"""The peers that gave no sign of life: one that is back soon counts as delayed, any other is gone.

In: lost and found peers, from the executor's thread. Out: the peers that are gone, for the command loop.
"""

from __future__ import annotations

from collections.abc import Collection


class LostPeers:
    """One entry for each lost peer, independent of the other peers."""

    def __init__(self) -> None:
        self._since_ns: dict[str, int] = {}  # two threads use it: its single operations are atomic

    def note(self, name: str, steady_ns: int) -> None:
        """Note that a peer was lost. If it is already lost, the earlier time stays."""
        self._since_ns.setdefault(name, steady_ns)

    def found(self, name: str) -> None:
        """Note that a peer is back. It has no effect after `due` has returned the peer: then it is gone."""
        self._since_ns.pop(name, None)

    def due(self, steady_ns: int, patience_ns: int) -> list[str]:
        """The peers that have been lost for longer than `patience_ns`; each loss is returned once."""
        names = [name for name, since_ns in sorted(self._since_ns.items()) if steady_ns - since_ns > patience_ns]
        return [name for name in names if self._since_ns.pop(name, None) is not None]


def gone(names: Collection[str]) -> str:
    """The reason why no more chunks are taken."""
    return f"{' and '.join(names)} {'is' if len(names) == 1 else 'are'} gone; reset and enable to go on"
