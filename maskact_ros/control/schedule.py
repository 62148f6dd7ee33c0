"""When to plan: with ensembling from every image, without it so early that the next chunk is there in time."""

from __future__ import annotations

from collections import deque


class PlanSchedule:
    """Decides for each image whether a chunk is computed from it.

    Without ensembling a chunk serves for `n_action_steps` points; the image to plan the next one from is the last
    whose chunk, by the latency measured so far, is there when they have been executed.
    """

    def __init__(self, *, n_action_steps: int, period_ns: int, every_image: bool):
        self._period_ns = period_ns
        self.change(n_action_steps=n_action_steps, every_image=every_image)
        self._latencies_ns: deque[int] = deque(maxlen=50)
        self._planned_stamp_ns: int | None = None
        self._image_stamp_ns: int | None = None
        self._image_period_ns = 0

    def change(self, *, n_action_steps: int, every_image: bool) -> None:
        """Go on with other settings: the chunk that serves now is used up when `n_action_steps` of it are."""
        self._span_ns = n_action_steps * self._period_ns
        self._every_image = every_image

    def reset(self) -> None:
        """Plan from the next image: a new epoch begins."""
        self._planned_stamp_ns = None

    def wants(self, stamp_ns: int) -> bool:
        """Whether to plan from the image captured at `stamp_ns`; call it for every image, in order."""
        if self._image_stamp_ns is not None and stamp_ns <= self._image_stamp_ns:
            self.reset()  # the clock went back
        elif self._image_stamp_ns is not None:
            self._image_period_ns = stamp_ns - self._image_stamp_ns
        self._image_stamp_ns = stamp_ns
        if self._every_image or self._planned_stamp_ns is None:
            return True
        latency_ns = max(self._latencies_ns, default=0)
        used_up_ns = self._planned_stamp_ns + self._span_ns
        return stamp_ns + self._image_period_ns + latency_ns >= used_up_ns

    def planned(self, stamp_ns: int, ready_ns: int) -> None:
        """Note that the chunk of the image captured at `stamp_ns` was published at `ready_ns`."""
        self._planned_stamp_ns = stamp_ns
        self._latencies_ns.append(max(0, ready_ns - stamp_ns))
