"""The newest chunk: which chunks are accepted, and how long one can be followed.

In: received chunks, and the beginnings of epochs. Out: the chunk, or why there is none to follow; its ages at use.
"""

from __future__ import annotations

from collections import deque

from maskact_ros.control.ladder import FollowerSettings
from maskact_ros.core.chunk import Chunk


class NewestChunk:
    """Holds at most one chunk, from its acceptance until the next chunk or epoch."""

    def __init__(self, joints: int):
        self._joints = joints
        self.chunk: Chunk | None = None
        self.is_new = False  # the plan has not been handed over to it yet
        self._epoch_began_ns = 0
        self._awaited = ""  # the reason to give until the epoch's first chunk
        self.condemned: str | None = None  # why no more chunks are accepted
        self.refused = 0
        self.image_to_command_ms: deque[float] = deque(maxlen=100)  # age of each chunk at its first set point
        self.age_ms: deque[float] = deque(maxlen=4096)  # age of the chunk in force at each set point

    def begin_epoch(self, now_ns: int, awaited: str) -> None:
        """Accept only chunks that were captured after this."""
        self.chunk, self._epoch_began_ns, self._awaited = None, now_ns, awaited

    def offer(self, chunk: Chunk, now_ns: int, off_ns: int, *, enabled: bool) -> None:
        """Accept a chunk, or count it as refused; see `PlanFollower.offer`."""
        if chunk.actions.shape[1] != self._joints:
            raise ValueError(f"the chunk has {chunk.actions.shape[1]} joints, the robot {self._joints}")
        newest_ns = self._epoch_began_ns if self.chunk is None else max(self._epoch_began_ns, self.chunk.stamp_ns)
        in_time = newest_ns < chunk.stamp_ns <= now_ns + off_ns and now_ns < chunk.end_ns
        if not enabled or self.condemned is not None or not in_time:
            self.refused += 1
            return
        self.chunk, self.is_new = chunk, True

    def problem(self, at_ns: int, settings: FollowerSettings) -> str | None:
        """Why there is no chunk to follow at a time by the node's clock, or None."""
        if self.chunk is None:
            return self.condemned or self._awaited
        if at_ns > self.chunk.end_ns:
            return self.condemned or "the chunk is used up and no new one has come"
        if at_ns > self._stale_ns(self.chunk, settings) + settings.remaining_timeout_s * 1e9:
            return self.condemned or "no new chunk has come for too long"
        return None

    def is_stale(self, at_ns: int, settings: FollowerSettings) -> bool:
        """Whether the chunk should have been replaced by a newer one at this time."""
        return self.chunk is not None and at_ns > self._stale_ns(self.chunk, settings)

    def used(self, now_ns: int, *, handed_over: bool) -> None:
        """Note that a set point was computed from the chunk."""
        assert self.chunk is not None
        age_ms = (now_ns - self.chunk.stamp_ns) / 1e6
        self.age_ms.append(age_ms)
        if handed_over:
            self.is_new = False
            self.image_to_command_ms.append(age_ms)

    @staticmethod
    def _stale_ns(chunk: Chunk, settings: FollowerSettings) -> float:
        return chunk.stamp_ns + settings.fresh_s * 1e9
