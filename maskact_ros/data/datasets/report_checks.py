"""What `meta/maskact/report.json` has to be like, so that whoever shows it finds numbers where numbers belong.

In: its values, as JSON gives them. Out: a DatasetError that names the entry, its value and what is allowed. Entries
that are not listed here pass: nobody looks at them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from maskact_ros.core.documents import shortened
from maskact_ros.data.datasets.lerobot_layout import DatasetError

_Test = tuple[Callable[[Any], bool], str]  # whether a value fits, and what is allowed


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _objects(entries: Mapping[str, _Test]) -> _Test:
    def fits(value: Any) -> bool:
        return isinstance(value, list) and all(_wrong(item, entries) is None for item in value)

    return fits, "a list of objects whose " + ", ".join(f"{name} is {words}" for name, (_, words) in entries.items())


def _mapping(test: _Test) -> _Test:
    return (
        lambda value: isinstance(value, dict) and all(test[0](item) for item in value.values()),
        f"an object in which each entry is {test[1]}",
    )


_NUMBER: _Test = (_is_number, "a number")
_COUNT: _Test = (lambda value: isinstance(value, int) and _is_number(value) and value >= 0, "a whole number >= 0")
_TEXT: _Test = (lambda value: isinstance(value, str), "a text")
_TEXTS: _Test = (lambda value: isinstance(value, list) and all(isinstance(v, str) for v in value), "a list of texts")

_EPISODE = {"source": _TEXT, "frames": _COUNT, "ended_by": _TEXT, "age_ms": _mapping(_mapping(_NUMBER))}
_BAG = {
    "path": _TEXT,
    "recorded_s": _NUMBER,
    "gaps": _objects({"seconds": _NUMBER, "reason": _TEXT}),
    "dropped": _mapping(_COUNT),
    "ignored": _mapping(_COUNT),
    "losses": _TEXTS,
    "notes": _TEXTS,
    "pictures": _COUNT,
    "rows": _COUNT,
    "latency": _mapping(_mapping(_NUMBER)),
    "clocks_apart": _TEXT,
    "refused": _TEXT,
}
_LISTS = {"episodes": _EPISODE, "bags": _BAG}


def check_report(path: Path, values: Mapping[str, Any]) -> None:
    """Raise DatasetError unless what is there is of the right type; anything may be left out."""
    if wrong := _wrong(values, {"id": _TEXT}):
        raise DatasetError(f"{path}: {wrong}")
    for name, entries in _LISTS.items():
        listed = values.get(name, [])
        if not isinstance(listed, list) or not all(isinstance(entry, dict) for entry in listed):
            raise DatasetError(f"{path}: {name} is {shortened(repr(listed))}; allowed: a list of objects")
        for number, entry in enumerate(listed):
            if wrong := _wrong(entry, entries):
                raise DatasetError(f"{path}: {name}[{number}]: {wrong}")


def _wrong(values: Any, entries: Mapping[str, _Test]) -> str | None:
    """What does not fit in an object, or None."""
    if not isinstance(values, dict):
        return f"is {shortened(repr(values))}; allowed: an object"
    for name, (fits, words) in entries.items():
        if name in values and not fits(values[name]):
            return f"{name} is {shortened(repr(values[name]))}; allowed: {words}"
    return None
