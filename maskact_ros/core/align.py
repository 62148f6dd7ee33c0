"""Streams to observations: joints by name, and the joint state that belongs to an image's stamp.

The observation is an image with the last joint state at or before its stamp. That rule needs no look into the
future, so that nodes and bags, which see the same messages, get the same numbers bit for bit.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from maskact_ros.core.errors import MaskACTError


class AlignmentError(MaskACTError):
    """Messages that do not make an observation: the text says which stream, and what was expected."""


class JointOrder:
    """Picks the robot's joints out of messages that name theirs, in any order and among others."""

    def __init__(self, names: Sequence[str]):
        self._names = tuple(names)
        self._given: tuple[str, ...] | None = None
        self._index: NDArray[np.intp] = np.empty(0, dtype=np.intp)

    def pick(self, names: Sequence[str], values: Sequence[float] | NDArray[np.float64]) -> NDArray[np.float64]:
        """The values (…, D) of our joints, of values (…, N) for the N joints that are named.

        Raises:
            AlignmentError: a joint is missing or repeated, there are more or fewer values, or one is not finite.
        """
        given = tuple(names)
        if given != self._given:
            self._index = self._indices(given)
            self._given = given
        values = np.asarray(values, dtype=np.float64)
        if values.shape[-1] != len(given):
            raise AlignmentError(f"the message has {len(given)} joint names but {values.shape[-1]} positions")
        picked: NDArray[np.float64] = values[..., self._index]
        if not np.isfinite(picked).all():
            wrong = [name for i, name in enumerate(self._names) if not np.isfinite(picked[..., i]).all()]
            raise AlignmentError(f"the position of {', '.join(wrong)} is not finite")
        return picked

    def _indices(self, given: tuple[str, ...]) -> NDArray[np.intp]:
        missing = [name for name in self._names if name not in given]
        if missing:
            raise AlignmentError(f"the joints {', '.join(missing)} are missing; the message has {', '.join(given)}")
        repeated = [name for name in self._names if given.count(name) > 1]
        if repeated:
            raise AlignmentError(f"the joints {', '.join(repeated)} appear more than once in the message")
        return np.array([given.index(name) for name in self._names], dtype=np.intp)


class StateBuffer:
    """The last few seconds of joint states, to be asked for the one in force at a moment."""

    def __init__(self, *, tolerance_s: float, keep_s: float = 10.0):
        self.tolerance_s = tolerance_s
        self._keep_ns = round(keep_s * 1e9)
        self._states: deque[tuple[int, NDArray[np.float64]]] = deque()

    def add(self, stamp_ns: int, positions: NDArray[np.float64]) -> None:
        """Take a state; it replaces the last if stamped alike, and all if stamped earlier: the clock went back."""
        if self._states and stamp_ns == self._states[-1][0]:
            self._states[-1] = stamp_ns, positions
            return
        if self._states and stamp_ns < self._states[-1][0]:
            self._states.clear()
        self._states.append((stamp_ns, positions))
        while self._states[0][0] < stamp_ns - self._keep_ns:
            self._states.popleft()

    def moved_since(self, stamp_ns: int) -> NDArray[np.float64]:
        """How far each joint (D,) has been from where it was at `stamp_ns`, or at the earliest moment still known.

        Raises:
            AlignmentError: no state is known.
        """
        states = self._states.copy()  # because another thread may be adding
        since = [positions for state_stamp_ns, positions in states if state_stamp_ns >= stamp_ns]
        before = [positions for state_stamp_ns, positions in states if state_stamp_ns < stamp_ns][-1:]
        if not states:
            raise AlignmentError("no joint state has arrived")
        known = np.array(before + since)  # (T, D)
        moved: NDArray[np.float64] = np.abs(known - known[0]).max(axis=0)
        return moved

    def at(self, stamp_ns: int, off_ns: int = 0) -> NDArray[np.float64]:
        """The state (D,) in force at `stamp_ns`; raises AlignmentError when there is none within the tolerance.

        A state's stamp may be `off_ns` too old, as those of a clock that ticks coarsely are.
        """
        return self.in_force(stamp_ns, off_ns)[1]

    def in_force(self, stamp_ns: int, off_ns: int = 0) -> tuple[int, NDArray[np.float64]]:
        """The state in force at `stamp_ns`, and its own stamp; raises AlignmentError as `at` does."""
        # A copy, because another thread may be adding.
        for state_stamp_ns, positions in reversed(self._states.copy()):
            if state_stamp_ns <= stamp_ns:
                age_ns = stamp_ns - state_stamp_ns
                if age_ns <= round(self.tolerance_s * 1e9) + off_ns:
                    return state_stamp_ns, positions
                raise AlignmentError(
                    f"the joint state before the image is {age_ns / 1e9:.3f} s older than it; "
                    f"allowed: {self.tolerance_s:g} s"
                )
        raise AlignmentError("no joint state from before the image has arrived")
