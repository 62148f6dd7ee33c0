"""Bags → a dataset: each bag becomes a part in a hidden folder beside the dataset, and all parts are put together.

A part is complete or absent, and so is the dataset: after an interruption the same command goes on where it was.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from maskact_ros.core.errors import printable
from maskact_ros.core.folders import FolderError, alone, clear_leftovers, complete_or_absent
from maskact_ros.core.outputs import check_folder, output_path
from maskact_ros.core.parallel import HERE, Workers, in_parallel
from maskact_ros.core.progress import Progress
from maskact_ros.core.work import Tick
from maskact_ros.data.bags.align_bag import Aligned, Aligner
from maskact_ros.data.bags.bag import Bag, bags_in
from maskact_ros.data.bags.contract import Contract
from maskact_ros.data.bags.recorded_message import BagError, Message
from maskact_ros.data.datasets.assemble import assemble
from maskact_ros.data.datasets.dataset import DATASET, read_report
from maskact_ros.data.datasets.lerobot_layout import OURS, Pictures
from maskact_ros.data.datasets.lerobot_writer import DatasetWriter, Layout

_FORMAT = 2  # of the parts: a new number makes those of older releases worthless
_PART = re.compile(r"part-[0-9a-f]{32}|\.part-[0-9a-f]{32}\.[0-9a-f]{32}")  # whole, or being written
_FILE = re.compile(r"lock|seen-by-workers-[0-9a-f]{32}")  # beside them
_REPORTED = 20  # kinds of dropped pictures and ignored messages that a report lists


@dataclass(frozen=True)
class Summary:
    """What became of the bags; times in seconds."""

    dataset: Path
    bags: int
    resumed: int  # of the bags, those that an earlier run had converted
    episodes: int
    frames: int
    recorded_s: float
    converted_s: float  # recorded seconds of the bags that this run converted
    wall_s: float
    gaps: int
    losses: tuple[str, ...]


@dataclass(frozen=True)
class _Job:
    bag: Path
    part: Path
    contract: Contract
    pictures: Pictures


def convert(
    bags: Sequence[str | Path],
    contract: Contract,
    out: str | Path,
    *,
    pictures: Pictures = "video",
    workers: Workers = HERE,
    overwrite: bool = False,
) -> Summary:
    """Write the dataset `out`; raises MaskACTError, and leaves what is done for the next run."""
    began_s = time.monotonic()
    out = output_path(out)
    layout = _layout(contract, pictures)
    found = [bag for path in bags for bag in bags_in(path)]
    sources = [*found, *([] if contract.mask_folder is None else [contract.mask_folder])]
    check_folder(out, DATASET, overwrite=overwrite, sources=sources)
    if repeated := [str(bag) for bag, times in Counter(found).items() if times > 1]:
        raise BagError(f"{', '.join(repeated)}: given more than once; allowed: each bag once")
    parts = out.with_name(f".{out.name}.parts")
    with alone(parts, f"{out}: another conversion to it is running"):
        masks = _masks(contract)
        work = [_Job(bag, parts / _fingerprint(bag, contract, pictures, masks), contract, pictures) for bag in found]
        _clear(parts, out, keep={job.part.name for job in work})
        todo = [job for job in work if not job.part.exists()]
        with Progress(f"converting {len(todo)} of {len(work)} bags", len(todo)) as progress:
            converted = in_parallel(
                _convert_bag, todo, workers=workers, name=lambda job: str(job.bag), reach=progress.reach, into=parts
            )
            with closing(converted):
                for _ in converted:
                    pass
        reports = [read_report(job.part).values for job in work]
        told = [report["bags"][0] for report in reports]
        if not any(report["episodes"] for report in reports):
            shutil.rmtree(parts)
            raise BagError(f"{found[0]}: gives no episode: {_why_nothing(told[0])}")
        with complete_or_absent(out, DATASET, overwrite=overwrite, sources=sources) as folder:
            assemble([job.part for job in work], folder, layout, contract.to_yaml())
        shutil.rmtree(parts)
    fresh = {str(job.bag) for job in todo}
    return Summary(
        dataset=out,
        bags=len(found),
        resumed=len(work) - len(todo),
        episodes=sum(len(report["episodes"]) for report in reports),
        frames=sum(episode["frames"] for report in reports for episode in report["episodes"]),
        recorded_s=sum(bag["recorded_s"] for bag in told),
        converted_s=sum(bag["recorded_s"] for bag in told if bag["path"] in fresh),
        wall_s=time.monotonic() - began_s,
        gaps=sum(len(bag["gaps"]) for bag in told),
        losses=tuple(loss for bag in told for loss in bag["losses"]),
    )


def run(
    bags: Sequence[Path], contract: Path, out: Path, *, pictures: Pictures, workers: Workers, overwrite: bool
) -> None:
    """The command: converts, and prints what became of the bags; raises MaskACTError."""
    done = convert(bags, Contract.from_yaml(contract), out, pictures=pictures, workers=workers, overwrite=overwrite)
    table = Table("bags", "episodes", "frames", "seconds", "gaps", "lost", "wall s", "x real time")
    speed = f"{done.converted_s / done.wall_s:.1f}" if done.resumed < done.bags else "-"
    table.add_row(
        f"{done.bags} ({done.resumed} of an earlier run)" if done.resumed else str(done.bags),
        *(str(number) for number in (done.episodes, done.frames, f"{done.recorded_s:.1f}", done.gaps)),
        *(str(len(done.losses)), f"{done.wall_s:.1f}", speed),
    )
    console = Console()
    console.print(table)
    for loss in done.losses[:_REPORTED]:
        console.print(printable(f"lost: {loss}"), markup=False, highlight=False)
    console.print(f"{done.dataset}: what was dropped and why is in {OURS}/report.json", markup=False, highlight=False)


def _layout(contract: Contract, pictures: Pictures) -> Layout:
    return Layout(robot=contract.robot, pictures=pictures, mask_classes=contract.mask_classes, task=contract.task)


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


def _fingerprint(bag: Path, contract: Contract, pictures: Pictures, masks: str) -> str:
    """A name for the part that changes with whatever would change its content."""
    files = [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in Bag(bag).files]
    content = [_FORMAT, str(bag), files, contract.to_yaml(), contract.robot.to_dict(), pictures, masks]
    return f"part-{hashlib.sha256(json.dumps(content).encode()).hexdigest()[:32]}"


@dataclass
class _Episode:
    """The rows of an episode that are not sure to be kept yet, and what its report needs."""

    waiting: list[Aligned] = field(default_factory=list)
    state_ages_ns: list[int] = field(default_factory=list)
    action_ages_ns: list[int] = field(default_factory=list)
    first_ns: int = 0
    last_ns: int = 0

    def note(self, aligned: Aligned) -> None:
        self.first_ns = self.first_ns or aligned.row.stamp_ns
        self.last_ns = aligned.row.stamp_ns
        self.state_ages_ns.append(aligned.state_age_ns)
        self.action_ages_ns.append(aligned.action_age_ns)

    def report(self, ended_by: str) -> dict[str, Any]:
        duration_s = (self.last_ns - self.first_ns) / 1e9
        return {
            "start_ns": self.first_ns,
            "duration_s": round(duration_s, 3),
            "rate_hz": round((len(self.state_ages_ns) - 1) / duration_s, 3) if duration_s else None,
            "ended_by": ended_by,
            "age_ms": {"state": _percentiles_ms(self.state_ages_ns), "action": _percentiles_ms(self.action_ages_ns)},
        }


def _percentiles_ms(ages_ns: list[int]) -> dict[str, float]:
    p50, p95 = np.percentile(ages_ns, [50, 95])
    return {"p50": round(p50 / 1e6, 3), "p95": round(p95 / 1e6, 3), "max": round(max(ages_ns) / 1e6, 3)}


def _convert_bag(job: _Job, tick: Tick) -> None:
    """Write one bag's part."""
    if job.part.exists():  # by a worker that died before it could say so
        return
    began_s = time.monotonic()
    contract, bag = job.contract, Bag(job.bag)
    aligner = Aligner(contract, bag.first_of(contract.image_topics))
    for topic in aligner.topics:
        bag.first_of([topic])
    span: list[int] = []
    gaps: list[dict[str, Any]] = []
    shortest = max(1, round(contract.shortest_episode_s * contract.robot.policy_rate_hz))
    with DatasetWriter(job.part, _layout(contract, job.pictures)) as writer:
        episode = _Episode()

        def end(reason: str) -> None:
            nonlocal episode
            if episode.state_ages_ns:
                writer.end_episode(str(job.bag), episode.report(reason))
            elif episode.waiting:
                aligner.dropped["in an episode that is too short"] += len(episode.waiting)
            episode = _Episode()

        for aligned in aligner.rows(_watched(bag.messages(aligner.topics), bag, span, tick)):
            if aligned.gap is not None:
                gap = aligned.gap
                seconds = round((gap.to_ns - gap.from_ns) / 1e9, 3)
                gaps.append({"from_ns": gap.from_ns, "seconds": seconds, "reason": gap.reason})
                end(gap.reason)
            writer.check(aligned.row)  # before it waits, for what waits is bounded by the robot's picture size
            episode.waiting.append(aligned)
            if episode.state_ages_ns or len(episode.waiting) >= shortest:
                for sure in episode.waiting:
                    writer.add(sure.row)
                    episode.note(sure)
                episode.waiting.clear()
        end("the bag's end")
        recorded_s = (max(span) - min(span)) / 1e9 if span else 0.0
        writer.report["bags"] = [
            {
                "path": str(job.bag),
                "recorded_s": round(recorded_s, 3),
                "converting_s": round(time.monotonic() - began_s, 3),
                "gaps": gaps,
                "dropped": dict(aligner.dropped.most_common(_REPORTED)),
                "ignored": dict(aligner.ignored.most_common(_REPORTED)),
                "losses": bag.losses,
            }
        ]


def _watched(messages: Iterator[Message], bag: Bag, span: list[int], tick: Tick) -> Iterator[Message]:
    """The same messages; notes the time they span and how far the bag is read."""
    for message in messages:
        if not span:
            span += [message.received_ns, message.received_ns]
        span[0], span[1] = min(span[0], message.received_ns), max(span[1], message.received_ns)
        tick(bag.progress)
        yield message


def _why_nothing(bag: dict[str, Any]) -> str:
    reasons = Counter(bag["dropped"]) + Counter(bag["ignored"])
    if not reasons:
        return "no picture was recorded" if not bag["losses"] else bag["losses"][0]
    reason, times = reasons.most_common(1)[0]
    return f"{reason} ({times} times)"
