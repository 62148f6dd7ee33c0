"""When to plan: with ensembling from every image; without it early enough that the next chunk comes in time."""

from __future__ import annotations

from collections import deque


class PlanSchedule:
    """Decides for each image whether to compute a chunk from it.

    Without ensembling, `n_action_steps` points of a chunk are executed. The next chunk is planned from the last image
    whose chunk, by the measured latency, is ready when these points have been executed.
    """

    def __init__(self, *, n_action_steps: int, period_ns: int, every_image: bool):
        self._period_ns = period_ns
        self.change(n_action_steps=n_action_steps, every_image=every_image)
        self._latencies_ns: deque[int] = deque(maxlen=50)
        self._planned_stamp_ns: int | None = None
        self._image_stamp_ns: int | None = None
        self._image_period_ns = 0

    def change(self, *, n_action_steps: int, every_image: bool) -> None:
        """Change the settings; the new `n_action_steps` also holds for the present chunk."""
        self._span_ns = n_action_steps * self._period_ns
        self._every_image = every_image

    def reset(self) -> None:
        """Plan from the next image, for a new epoch."""
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
