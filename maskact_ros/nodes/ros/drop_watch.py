"""`DropWatch`: what a node drops is counted; where most of a stream is dropped, it is said in the log and diagnostics.

A dropped message by itself is nothing to speak of. A stream of which nothing is used is why the arm does not move.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

from maskact_ros.control.stream_use import StreamUse
from maskact_ros.nodes.ros.diagnostics import Diagnostics


class DropWatch:
    """Of one stage of a node, where each message is either used or dropped; for any thread.

    `what` begins the sentence, as in "images are not used"; `repeats` are as in `StreamUse`.
    """

    def __init__(self, diagnostics: Diagnostics, what: str, repeats: Collection[str] = ()):
        self._diagnostics, self._what = diagnostics, what
        self._use = StreamUse(repeats)

    def used(self) -> None:
        """One was used."""
        if self._use.note(None) is None:
            self._diagnostics.solved(self._what)

    def dropped(self, count: str, why: Callable[[], str]) -> None:
        """One was dropped, and is counted under this name; `why` makes the rest of the sentence."""
        self._diagnostics.count(count)
        reason = self._use.note(count)
        if reason is None:
            self._diagnostics.solved(self._what)
        elif reason == count:
            self._diagnostics.problem(self._what, f"{self._what}: {why()}")

    def reset(self) -> None:
        """The node begins anew."""
        self._use.reset()
        self._diagnostics.solved(self._what)
