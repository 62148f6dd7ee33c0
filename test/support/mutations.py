"""Ways to damage what is sound: bytes, values of a JSON or YAML document, files of a folder. All of a seed alone."""

from __future__ import annotations

import copy
import math
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

EXTREMES = (0, 1, 2, 127, 128, 255, 2**15, 2**16, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**63 - 1, 2**63, 2**64 - 1)
WORDS = (
    *("", "$x", "$", "\x00", "\x1b[2J", "\u202e", "\ud800", "..", "/etc/passwd", "../" * 40, "nan", "inf", "-1e999"),
    *("{:0999999999d}", "{chunk_index:0999999999d}", "{0.__class__}", "{chunk_index", "%s" * 100, "<script>"),
    *("x" * 300, "n" * 50_000, "n" * 1_000_000, "ä" * 1000, "data/demo_0", "kernels-community/x", "http://127.0.0.1/"),
)


def odd_value(rng: Random) -> Any:
    """A value of JSON's types that nobody expects."""
    numbers = [*EXTREMES, -1, 0.5, 1e-300, 1e300, math.nan, math.inf, -math.inf, 10**30, 10**400, 200_000_000]
    kind = rng.randrange(6)
    if kind == 0:
        return rng.choice(numbers) * rng.choice((1, -1))
    if kind == 1:
        return rng.choice(WORDS)
    if kind == 2:
        return rng.choice((None, True, False, [], {}, [[]], [None], {"": None}))
    if kind == 3:
        return [rng.choice(numbers) for _ in range(rng.choice((1, 2, 3, 1000)))]
    if kind == 4:
        return {str(rng.choice(WORDS)): rng.choice(numbers) for _ in range(3)}
    nested: Any = 1
    for _ in range(rng.choice((10, 60, 400))):
        nested = [nested] if rng.random() < 0.5 else {"a": nested}
    return nested


def damaged_tree(values: Any, rng: Random) -> Any:
    """A document with one or a few of its values replaced, left out, doubled, or renamed."""
    changed = copy.deepcopy(values)
    for _ in range(rng.choice((1, 1, 1, 2, 5))):
        places = list(_places(changed))
        if not places:
            return odd_value(rng)
        holder, key = rng.choice(places)
        what = rng.randrange(6)
        if what == 0:
            del holder[key]
        elif what == 1 and isinstance(holder, dict):
            holder[str(rng.choice(WORDS))] = holder.pop(key)
        elif what == 2 and isinstance(holder, list) and len(holder) < 1000:
            holder.extend([copy.deepcopy(holder[key])] * rng.choice((1, 3, 2000)))
        elif what == 3 and isinstance(holder[key], (int, float)) and not isinstance(holder[key], bool):
            holder[key] *= rng.choice((-1, 0, 2, 1000, 10**6, 10**12))
        else:
            holder[key] = odd_value(rng)
    return changed


def _places(values: Any) -> list[tuple[Any, Any]]:
    found: list[tuple[Any, Any]] = []
    waiting = [values]
    while waiting:
        holder = waiting.pop()
        keys = list(holder) if isinstance(holder, dict) else range(len(holder)) if isinstance(holder, list) else ()
        for key in keys:
            found.append((holder, key))
            waiting.append(holder[key])
    return found


def damaged_bytes(content: bytes, rng: Random) -> bytes:
    """Torn, or with bytes changed, left out, doubled, or an integer replaced by an extreme one."""
    data = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 4, 16))):
        if not data:
            return bytes(rng.randbytes(rng.randrange(64)))
        at, length = rng.randrange(len(data)), rng.choice((1, 2, 4, 8, 64, 1024))
        what = rng.randrange(8)
        if what == 0:
            del data[at:]
        elif what == 1:
            del data[at : at + length]
        elif what == 2:
            data[at:at] = data[at : at + length] * rng.choice((1, 10, 1000))
        elif what == 3:
            data[at : at + length] = rng.randbytes(len(data[at : at + length]))
        elif what == 4:
            width = rng.choice((2, 4, 8))
            value = rng.choice(EXTREMES) % 2 ** (8 * width)
            data[at : at + width] = value.to_bytes(width, rng.choice(("little", "big")))
        elif what == 5:
            data[at : at + length] = bytes([rng.choice((0, 255, 32))]) * length
        else:
            data[at] ^= 1 << rng.randrange(8)
    return bytes(data)


def replaced_file(path: Path, rng: Random) -> None:
    """No file, or something else of that name: a pipe, a folder, a link to nowhere, to itself or to a device."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()
    makers: list[Callable[[], None]] = [
        lambda: None,
        lambda: os.mkfifo(path),
        path.mkdir,
        path.touch,
        lambda: path.symlink_to(path.with_name("nowhere")),
        lambda: path.symlink_to(path),
        lambda: path.symlink_to("/dev/zero"),
        lambda: path.write_bytes(rng.randbytes(rng.randrange(1, 3000))),
    ]
    rng.choice(makers)()


def damaged_folder(folder: Path, rng: Random, *, by_kind: Callable[[Path, Random], bool]) -> None:
    """A folder with a file damaged: as `by_kind` knows to (it returns whether it did), by bytes, or replaced."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    path = rng.choice(files)
    if rng.random() < 0.1:
        replaced_file(path, rng)
    elif rng.random() < 0.3 or not by_kind(path, rng):
        path.write_bytes(damaged_bytes(path.read_bytes(), rng))
