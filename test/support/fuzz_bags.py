"""The entrances for bags: an mcap and a db3 of a few moments, packed or not, damaged in their bytes."""

from __future__ import annotations

import struct
from collections.abc import Callable
from functools import partial
from pathlib import Path
from random import Random

from maskact_ros.data.bags.bag import Bag
from maskact_ros.data.bags.contract import Contract
from maskact_ros.data.bags.recorded_message import BagError
from support import bags
from support.mutations import EXTREMES, damaged_bytes, damaged_folder

ROWS = 6


def write(storage: str, folder: Path) -> None:
    """Half of the inputs are of a recorder that packs: chunks of an mcap, messages of a db3."""
    bags.contract(folder / "of")
    packs = {"mcap": "STORAGE", "sqlite3": "MESSAGE"}[storage]
    for name, compress in (("plain", None), ("packed", packs)):
        bags.write(folder / name, bags.recording(ROWS), storage=storage, compress=compress)


def damage(folder: Path, rng: Random) -> None:
    """One of the two bags."""
    damaged_folder(folder / rng.choice(("plain", "packed")), rng, by_kind=_damage_file)


def _damage_file(path: Path, rng: Random) -> bool:
    content = bytearray(path.read_bytes())
    if path.suffix == ".yaml":
        return False
    if path.suffix == ".db3" and rng.random() < 0.3:  # what the header says of pages and sizes
        at = rng.choice((16, 18, 20, 24, 28, 32, 36, 44, 56))
        content[at : at + 4] = struct.pack(">I", rng.choice(EXTREMES) % 2**32)
    elif path.suffix == ".mcap" and rng.random() < 0.3:  # the length of a record
        at = rng.randrange(8, len(content) - 9)
        content[at + 1 : at + 9] = struct.pack("<Q", rng.choice(EXTREMES) % 2**64)
    else:
        content = bytearray(damaged_bytes(bytes(content), rng))
    path.write_bytes(bytes(content))
    return True


def enter(folder: Path, out: Path) -> None:
    """Read them as `convert` does; damage that costs messages counts as refused."""
    from maskact_ros.data.bags.convert import convert

    contract = Contract.from_yaml(folder / "of" / "contract.yaml")
    losses = []
    for name in ("plain", "packed"):
        bag = Bag(folder / name)
        for _ in bag.messages(list(bag.topics())):
            pass
        losses += bag.losses
    convert([folder / "plain", folder / "packed"], contract, out / "dataset", pictures="png")
    if losses:
        raise BagError(losses[0])


def writer(storage: str) -> Callable[[Path], None]:
    """`write` for one kind of file."""
    return partial(write, storage)
