"""`Statistics` of images, state and action: what normalisation stands on.

In: what was measured on a dataset, or the copy that a checkpoint carries. Out: for each feature and mode of
`normalization_mapping`, one affine map. What is missing or not finite is an error, never skipped; what has no range is
centred and not scaled.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maskact_ros.core.documents import shortened
from maskact_ros.core.errors import MaskACTError
from maskact_ros.core.robot import RobotSpec

_NEEDS = {"MEAN_STD": ("mean", "std"), "MIN_MAX": ("min", "max"), "IDENTITY": ()}
SMALLEST_SCALE = 1e-9  # in the feature's unit; below, a joint has not moved at all
_LARGEST = 1e9  # beyond, no feature is measured, and single precision has nothing left for what differs


class StatisticsError(MaskACTError):
    """Statistics that normalisation cannot use: the text names feature, entry and value."""


@dataclass(frozen=True, kw_only=True)
class FeatureStatistics:
    """One feature's statistics, one number per colour channel or joint; None where they were not measured."""

    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    min: tuple[float, ...] | None = None
    max: tuple[float, ...] | None = None

    def affine(self, mode: str, *, feature: str, width: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Centre and scale (width,) of `mode`: normalised = (value - centre) / scale.

        Raises:
            StatisticsError: an entry that the mode needs is missing, of another width, or no finite range.
        """
        entries = [self._entry(name, mode, feature, width) for name in _NEEDS[mode]]
        if mode == "IDENTITY":
            return np.zeros(width), np.ones(width)
        if mode == "MEAN_STD":
            centre, scale = entries
        else:
            low, high = entries
            centre, scale = (low + high) / 2, (high - low) / 2
        for i in np.flatnonzero(scale < 0):
            raise StatisticsError(
                f"statistics of {feature}: {' and '.join(_NEEDS[mode])} of element {i} are "
                f"{' and '.join(f'{entry[i]:g}' for entry in entries)}; allowed: a range that is not negative"
            )
        # A joint that never moved is centred only: nothing tells how large its motions are.
        scale = np.where(scale > SMALLEST_SCALE, scale, 1.0)
        return centre, scale

    def _entry(self, name: str, mode: str, feature: str, width: int) -> NDArray[np.float64]:
        values = getattr(self, name)
        if values is None:
            raise StatisticsError(f"statistics of {feature}: {name} is missing; {mode} needs it")
        array = np.array(values, np.float64)
        if array.shape != (width,):
            raise StatisticsError(f"statistics of {feature}: {name} has {array.size} numbers; allowed: {width}")
        if not (np.abs(array) <= _LARGEST).all():
            raise _not_numbers(feature, name, list(values))
        return array

    @classmethod
    def from_dict(cls, values: Any, feature: str) -> FeatureStatistics:
        """Build from JSON's types; raises StatisticsError."""
        names = [f.name for f in fields(cls)]
        if not isinstance(values, Mapping) or set(values) - set(names):
            raise StatisticsError(f"statistics of {feature}: allowed: a mapping of {', '.join(names)}")
        for name, numbers in values.items():
            if not isinstance(numbers, list) or not all(_is_number(n) for n in numbers):
                raise _not_numbers(feature, name, numbers)
        return cls(**{name: tuple(float(n) for n in numbers) for name, numbers in values.items()})

    def to_dict(self) -> dict[str, list[float]]:
        """JSON's types, without the entries that are None."""
        return {f.name: list(value) for f in fields(self) if (value := getattr(self, f.name)) is not None}


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= _LARGEST


def _not_numbers(feature: str, name: str, value: Any) -> StatisticsError:
    return StatisticsError(
        f"statistics of {feature}: {name} is {shortened(repr(value))}; "
        f"allowed: a list of finite numbers, none beyond {_LARGEST:g}"
    )


# Of ImageNet, on which DINOv3's weights rest, for values from 0 to 1.
IMAGE_STATISTICS = FeatureStatistics(
    mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225), min=(0.0, 0.0, 0.0), max=(1.0, 1.0, 1.0)
)


@dataclass(frozen=True, kw_only=True)
class Statistics:
    """The statistics of a policy's three features; images are RGB from 0 to 1, state and action joint positions."""

    state: FeatureStatistics
    action: FeatureStatistics
    image: FeatureStatistics = IMAGE_STATISTICS

    def check(self, modes: Mapping[str, str], joints: int) -> None:
        """Raise StatisticsError unless these statistics serve `modes`, the configuration's normalization_mapping."""
        self.image.affine(modes["VISUAL"], feature="image", width=3)
        self.state.affine(modes["STATE"], feature="state", width=joints)
        self.action.affine(modes["ACTION"], feature="action", width=joints)

    @classmethod
    def from_limits(cls, robot: RobotSpec) -> Statistics:
        """What an untrained policy gets: its chunk lies in the middle of the joints' range."""
        # A continuous joint has no limits: one turn around zero.
        lower = np.where(np.isfinite(robot.lower), robot.lower, -np.pi)
        upper = np.where(np.isfinite(robot.upper), robot.upper, np.pi)
        joints = FeatureStatistics(
            mean=tuple(((lower + upper) / 2).tolist()),
            std=tuple(((upper - lower) / 4).tolist()),
            min=tuple(lower.tolist()),
            max=tuple(upper.tolist()),
        )
        return cls(state=joints, action=joints)

    @classmethod
    def from_dict(cls, values: Any) -> Statistics:
        """Build from JSON's types; raises StatisticsError."""
        names = [f.name for f in fields(cls)]
        if not isinstance(values, Mapping) or set(values) != set(names):
            raise StatisticsError(f"statistics: allowed: a mapping of {', '.join(names)}")
        return cls(**{name: FeatureStatistics.from_dict(values[name], name) for name in names})

    def to_dict(self) -> dict[str, dict[str, list[float]]]:
        """JSON's types; `from_dict` gives the same statistics back."""
        return {f.name: getattr(self, f.name).to_dict() for f in fields(self)}
