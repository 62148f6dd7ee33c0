"""Bags → a dataset: each bag becomes a part in a hidden folder beside the dataset, and all parts are put together.

A part is complete or absent, and so is the dataset: after an interruption the same command goes on where it was.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import sys
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from maskact_ros.core.errors import printable
from maskact_ros.core.folders import FolderError, alone, clear_leftovers, complete_or_absent
from maskact_ros.core.outputs import check_folder, output_path
from maskact_ros.core.parallel import HERE, Workers, in_parallel
from maskact_ros.core.progress import Progress
from maskact_ros.data.bags.bag import Bag, bags_in
from maskact_ros.data.bags.bag_files import parts_of
from maskact_ros.data.bags.check_bag import refusal
from maskact_ros.data.bags.contract import Contract
from maskact_ros.data.bags.convert_bag import BagJob, convert_bag, layout_of
from maskact_ros.data.bags.convert_summary import Summary, kept_of, named, notes_of, print_summary
from maskact_ros.data.bags.recorded_message import BagError
from maskact_ros.data.datasets.assemble import assemble
from maskact_ros.data.datasets.dataset import DATASET, read_report
from maskact_ros.data.datasets.lerobot_layout import Pictures

_FORMAT = 3  # of the parts: a new number makes those of older releases worthless
_PART = re.compile(r"part-[0-9a-f]{32}|\.part-[0-9a-f]{32}\.[0-9a-f]{32}")  # whole, or being written
_FILE = re.compile(r"lock|seen-by-workers-[0-9a-f]{32}")  # beside them
_NAMED = 20  # bags that an error lists
_SOME_LEFT_OUT = 3  # exit code: the dataset is there, but some bags gave nothing


def convert(
    bags: Sequence[str | Path],
    contract: Contract,
    out: str | Path,
    *,
    pictures: Pictures = "video",
    workers: Workers = HERE,
    overwrite: bool = False,
    accept_latency: bool = False,
) -> Summary:
    """Write the dataset `out`; raises MaskACTError, and leaves what is done for the next run."""
    began_s = time.monotonic()
    out = output_path(out)
    layout = layout_of(contract, pictures)
    found = [bag for path in bags for bag in bags_in(path)]
    sources = [
        *(part for bag in found for part in parts_of(bag)),
        *([] if contract.mask_folder is None else [contract.mask_folder]),
    ]
    check_folder(out, DATASET, overwrite=overwrite, sources=sources)
    if repeated := [str(bag) for bag, times in Counter(found).items() if times > 1]:
        raise BagError(f"{', '.join(repeated)}: given more than once; allowed: each bag once")
    parts = out.with_name(f".{out.name}.parts")
    with alone(parts, f"{out}: another conversion to it is running"):
        masks = _masks(contract)
        work = [
            BagJob(
                bag,
                parts / _fingerprint(bag, contract, pictures, masks, accept_latency),
                contract,
                pictures,
                accept_latency,
            )
            for bag in found
        ]
        _clear(parts, out, keep={job.part.name for job in work})
        todo = [job for job in work if not job.part.exists()]
        refused = [text for job in todo if (text := refusal(Bag(job.bag), contract)) is not None]
        if refused and len(refused) == len(work):
            shutil.rmtree(parts)
            raise _nothing(refused)
        for text in refused:
            print(f"left out: {printable(text)}", file=sys.stderr, flush=True)
        with Progress(f"converting {len(todo)} of {len(work)} bags", len(todo)) as progress:
            converted = in_parallel(
                convert_bag, todo, workers=workers, name=lambda job: str(job.bag), reach=progress.reach, into=parts
            )
            with closing(converted):
                for _ in converted:
                    pass
        reports = [read_report(job.part).values for job in work]
        told = [report["bags"][0] for report in reports]
        if not any(report["episodes"] for report in reports):
            shutil.rmtree(parts)
            raise _nothing([named(bag) for bag in told])
        with complete_or_absent(out, DATASET, overwrite=overwrite, sources=sources) as folder:
            assemble([job.part for job in work], folder, layout, contract.to_yaml())
        shutil.rmtree(parts)
    fresh = {str(job.bag) for job in todo}
    return Summary(
        dataset=out,
        bags=len(found),
        resumed=len(work) - len(todo),
        episodes=sum(len(report["episodes"]) for report in reports),
        frames=sum(bag["rows"] for bag in told),
        pictures=sum(bag["pictures"] for bag in told),
        recorded_s=sum(bag["recorded_s"] for bag in told),
        converted_s=sum(bag["recorded_s"] for bag in told if bag["path"] in fresh),
        wall_s=time.monotonic() - began_s,
        gaps=sum(len(bag["gaps"]) for bag in told),
        losses=tuple(loss for bag in told for loss in bag["losses"]),
        notes=tuple(note for bag in told for note in notes_of(bag)),
        kept=tuple(kept_of(told)),
        left_out=tuple(named(bag) for bag in told if not bag["rows"]),
    )


def run(
    bags: Sequence[Path],
    contract: Path,
    out: Path,
    *,
    pictures: Pictures,
    workers: Workers,
    overwrite: bool,
    accept_latency: bool,
) -> int:
    """The command: converts, and prints what became of the bags; the exit code; raises MaskACTError."""
    done = convert(
        bags,
        Contract.from_yaml(contract),
        out,
        pictures=pictures,
        workers=workers,
        overwrite=overwrite,
        accept_latency=accept_latency,
    )
    print_summary(done)
    return _SOME_LEFT_OUT if done.left_out else 0


def _nothing(sentences: Sequence[str]) -> BagError:
    """The error of a conversion whose bags give no episode."""
    if len(sentences) == 1:
        return BagError(sentences[0])
    more = [f"… and {len(sentences) - _NAMED} more"] if len(sentences) > _NAMED else []
    return BagError(f"none of {len(sentences)} bags gives an episode", lines=[*sentences[:_NAMED], *more])


def _clear(parts: Path, out: Path, keep: set[str]) -> None:
    """Remove what was left half-written, and parts that this conversion has no use for."""
    clear_leftovers(out)
    for path in list(parts.iterdir()):
        if path.name in keep and not path.is_symlink():
            continue
        if not _PART.fullmatch(path.name) or path.is_symlink():
            if not _FILE.fullmatch(path.name) or path.is_symlink():
                raise FolderError(f"{path}: is in the way, as {parts} is for parts of the dataset; move it elsewhere")
        elif path.is_dir():
            shutil.rmtree(path)


def _masks(contract: Contract) -> str:
    """What changes with the pictures in the contract's folder of masks; empty without one; raises FolderError."""
    if contract.mask_folder is None:
        return ""
    try:
        with os.scandir(contract.mask_folder) as entries:
            files = sorted(
                (entry.name, (about := entry.stat()).st_size, about.st_mtime_ns)
                for entry in entries
                if entry.name.endswith(".png") and entry.is_file()
            )
    except OSError as error:
        raise FolderError(
            f"masks: folder {contract.mask_folder} cannot be read ({error.strerror}); allowed: a folder of PNGs"
        ) from None
    return hashlib.sha256(json.dumps(files).encode()).hexdigest()


def _fingerprint(bag: Path, contract: Contract, pictures: Pictures, masks: str, accept_latency: bool) -> str:
    """A name for the part that changes with whatever would change its content."""
    files = [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in Bag(bag).files]
    content = [_FORMAT, str(bag), files, contract.to_yaml(), contract.robot.to_dict(), pictures, masks, accept_latency]
    return f"part-{hashlib.sha256(json.dumps(content).encode()).hexdigest()[:32]}"
