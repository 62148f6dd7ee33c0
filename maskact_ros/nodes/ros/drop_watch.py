"""`DropWatch`: counts dropped messages, and reports in log and diagnostics when most of a stream is dropped.

One dropped message is normal. A stream of which nothing is used is the reason why the arm does not move.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

from maskact_ros.control.stream_use import StreamUse
from maskact_ros.nodes.ros.diagnostics import Diagnostics


class DropWatch:
    """Watches one stage of a node, in which each message is either used or dropped; for any thread.

    `what` begins the report, such as "images are not used"; `repeats` is as in `StreamUse`.
    """

    def __init__(self, diagnostics: Diagnostics, what: str, repeats: Collection[str] = ()):
        self._diagnostics, self._what = diagnostics, what
        self._use = StreamUse(repeats)

    def used(self) -> None:
        """Note a message that was used."""
        if self._use.note(None) is None:
            self._diagnostics.solved(self._what)

    def dropped(self, count: str, why: Callable[[], str]) -> None:
        """Note a message that was dropped, and count it under this name; `why` returns the rest of the report."""
        self._diagnostics.count(count)
        reason = self._use.note(count)
        if reason is None:
            self._diagnostics.solved(self._what)
        elif reason == count:
            self._diagnostics.problem(self._what, f"{self._what}: {why()}")

    def reset(self) -> None:
        """Forget all messages so far; called when the node is activated."""
        self._use.reset()
        self._diagnostics.solved(self._what)
