"""The patterns of `info.json` that say where a dataset's files are, such as `data/chunk-{chunk_index:03d}/….parquet`.

In: a pattern of anybody's, and values by name. Out: a path inside of the dataset. Python's own `format` would take
widths that fill the memory, and attributes of whatever it is given.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from maskact_ros.core.documents import shortened
from maskact_ros.data.datasets.lerobot_layout import DatasetError

_FIELD = re.compile(r"\{(\w+)(?::0?([1-9])d)?\}", re.ASCII)
_LONGEST = 1000  # letters; no file system has longer paths of any use


def expanded(folder: Path, pattern: Any, values: Mapping[str, int | str], shown: str) -> Path:
    """The path that a pattern gives, in `folder`; `shown` calls the pattern by name.

    Raises:
        DatasetError: it is no text, has another field or format than `{name}` and `{name:03d}`, or leads elsewhere.
    """

    def value(match: re.Match[str]) -> str:
        found, width = values.get(match[1]), match[2]
        if found is None or (width and not isinstance(found, int)):
            raise refused
        return f"{found:0{width}d}" if width else str(found)

    known = ", ".join(f"{{{name}}}" for name in values)
    refused = DatasetError(
        f"{shown} is {shortened(repr(pattern))}; allowed: LeRobot's patterns, a path inside of the dataset with {known}"
    )
    if not isinstance(pattern, str) or re.search(r"[{}]", _FIELD.sub("", pattern)):
        raise refused
    path = _FIELD.sub(value, pattern)
    parts = PurePosixPath(path)
    if not path or len(path) > _LONGEST or "\0" in path or parts.is_absolute() or ".." in parts.parts:
        raise refused
    return folder / path
