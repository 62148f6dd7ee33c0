"""JSON and YAML documents, read strictly: what other readers let pass in silence is one sentence here.

In: a file's path, or its bytes. Out: its values. A key that is given twice, text that is not Unicode, and a size,
nesting, aliases or merged keys that would overwhelm whoever looks at the values are refused.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Any

import yaml

from maskact_ros.core.errors import MaskACTError
from maskact_ros.core.paths import read_bytes

_DEEPEST, _MOST = 50, 100_000  # levels, and values with each alias counted as what it stands for
_LONGEST, _LARGEST = 100_000, 2**64  # letters of a text, and what a number has to be below
# A list or an object takes a hundred times its text in memory; of YAML, a megabyte takes 20 s.
_BYTES, _BYTES_OF_ANY_SIZE, _BYTES_OF_YAML = 2**23, 2**25, 2**19
_MOST_CONTAINERS = 1_000_000  # lists and objects of a JSON document of any size
_MERGE = "tag:yaml.org,2002:merge"
_LONGEST_SHOWN = 200
LONGEST_NAME = 256  # letters, of a joint, a camera, a topic or a class


class DocumentError(MaskACTError):
    """A file that is no sound document: the text names it and what is wrong."""


def shortened(text: str) -> str:
    """A value's text, at a length that fits an error's sentence."""
    return text if len(text) <= _LONGEST_SHOWN else text[: _LONGEST_SHOWN - 3] + "..."


def read_json(path: Path, *, any_size: bool = False) -> dict[str, Any]:
    """The object in a JSON file; raises DocumentError, or PathError when it cannot be read.

    `any_size` is for what the package writes itself, and what grows with somebody's data: up to 32 MiB.
    """
    most = _BYTES_OF_ANY_SIZE if any_size else _BYTES
    return parse_json(read_bytes(path, most=most), path, any_size=any_size)


def parse_json(content: bytes, path: Path, *, any_size: bool = False) -> dict[str, Any]:
    """The object in a JSON file's content; raises DocumentError."""
    if (containers := content.count(b"[") + content.count(b"{")) > _MOST_CONTAINERS:
        raise DocumentError(f"{path}: has {containers} lists and objects; allowed: {_MOST_CONTAINERS}")
    try:
        values = json.loads(content.decode("utf-8"), object_pairs_hook=_object)
        _check_extent(values, most=math.inf if any_size else _MOST)
    except (ValueError, RecursionError) as error:
        raise DocumentError(f"{path}: not JSON ({error})") from None
    except DocumentError as error:
        raise DocumentError(f"{path}: {error}") from None
    if not isinstance(values, dict):
        raise DocumentError(f"{path}: not a JSON object")
    return values


def read_yaml(path: Path) -> Any:
    """The values in a YAML file; raises DocumentError, or PathError when it cannot be read."""
    content = read_bytes(path, most=_BYTES_OF_YAML)
    try:
        loader = _StrictLoader(content.decode("utf-8"))
        values = loader.get_single_data()
        _check_extent(values)
    # Beside its own errors, the library lets out whatever a malformed number, flag or date makes it run into.
    except (yaml.YAMLError, ValueError, LookupError, AttributeError, TypeError, RecursionError) as error:
        raise DocumentError(f"{path}: not YAML ({' '.join(str(error).split())})") from None
    except DocumentError as error:
        raise DocumentError(f"{path}: {error}") from None
    return values


class _StrictLoader(yaml.SafeLoader):
    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._merged = 0  # pairs, of all merge keys together

    def compose_scalar_node(self, anchor: Any) -> yaml.ScalarNode:
        node = super().compose_scalar_node(anchor)
        assert node is not None
        _check_length(node.value)  # before it is made a number, which takes the square of its length
        return node

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        assert node is not None
        _check_once(key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode))
        return node

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """As the library's, but counted first: merges of merges multiply, and some lines can ask for terabytes."""
        for key, value in node.value:
            if key.tag != _MERGE:
                continue
            for merged in value.value if isinstance(value, yaml.SequenceNode) else [value]:
                if isinstance(merged, yaml.MappingNode) and merged is not node:
                    self.flatten_mapping(merged)
                    self._merged += len(merged.value)
                if self._merged > _MOST:
                    raise DocumentError(f"its merge keys (<<) add too much; allowed: {_MOST} entries")
        super().flatten_mapping(node)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    _check_once(key for key, _ in pairs)
    return dict(pairs)


def _check_once(keys: Iterable[str]) -> None:
    for key, times in Counter(keys).items():
        if times > 1:
            raise DocumentError(f"{shortened(repr(key))} is given {times} times; allowed: once")


def _check_length(text: str) -> None:
    if len(text) > _LONGEST:
        raise DocumentError(f"a text has {len(text)} letters; allowed: {_LONGEST}")


def _check_extent(values: Any, *, most: float = _MOST) -> None:
    """Raise DocumentError on too much, and ValueError on a text that cannot be written again."""
    seen = 0
    waiting: list[Iterator[Any]] = [iter((values,))]  # what is left of each level
    while waiting:
        for value in waiting[-1]:
            seen += 1
            if len(waiting) > _DEEPEST + 1 or seen > most:
                raise DocumentError(f"too large; allowed: {_MOST} values, nested in {_DEEPEST} levels")
            if isinstance(value, Mapping):
                waiting.append(chain(value.keys(), value.values()))
                break
            if isinstance(value, (list, tuple, set)):
                waiting.append(iter(value))
                break
            if isinstance(value, int) and not -_LARGEST < value < _LARGEST:
                raise DocumentError("a number has more than 64 bits; allowed: up to 64")
            if isinstance(value, str):
                _check_length(value)
                value.encode("utf-8")
        else:
            waiting.pop()
