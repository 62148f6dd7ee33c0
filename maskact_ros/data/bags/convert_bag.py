"""One bag → one part: a small dataset of its episodes, with a report of what was kept of what, and why not all.

In: a `BagJob`. Out: its folder. A bag that cannot be used gives a part without episodes, whose report says why.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maskact_ros.core.align import AlignmentError
from maskact_ros.core.images import ImageError
from maskact_ros.core.work import Tick
from maskact_ros.data.bags.align_bag import Aligned, Aligner
from maskact_ros.data.bags.bag import Bag
from maskact_ros.data.bags.check_bag import check_topics
from maskact_ros.data.bags.contract import Contract
from maskact_ros.data.bags.reasons import first_cause
from maskact_ros.data.bags.recorded_message import BagError, Message
from maskact_ros.data.datasets.lerobot_layout import Pictures
from maskact_ros.data.datasets.lerobot_writer import DatasetError, DatasetWriter, Layout
from maskact_ros.data.datasets.motion_check import MotionCheck

_REPORTED = 20  # kinds of dropped pictures and ignored messages that a report lists


@dataclass(frozen=True)
class BagJob:
    """One bag to convert: where it is, and where its part is to be."""

    bag: Path
    part: Path
    contract: Contract
    pictures: Pictures
    accept_latency: bool


def layout_of(contract: Contract, pictures: Pictures) -> Layout:
    """How the rows of a contract are laid out."""
    return Layout(robot=contract.robot, pictures=pictures, mask_classes=contract.mask_classes, task=contract.task)


def convert_bag(job: BagJob, tick: Tick) -> None:
    """Write one bag's part; raises MaskACTError where that is not the bag's fault, such as on a full disk."""
    if job.part.exists():  # by a worker that died before it could say so
        return
    try:
        _convert(job, tick)
    except (BagError, DatasetError, AlignmentError, ImageError) as error:
        with DatasetWriter(job.part, layout_of(job.contract, job.pictures)) as writer:
            writer.report["bags"] = [_told(job.bag, recorded_s=0.0, refused=str(error))]


@dataclass
class _Episode:
    """The rows of an episode that are not sure to be kept yet, and what its report needs."""

    waiting: list[Aligned] = field(default_factory=list)
    state_ages_ns: list[int] = field(default_factory=list)
    action_ages_ns: list[int] = field(default_factory=list)
    states: list[NDArray[np.float64]] = field(default_factory=list)
    actions: list[NDArray[np.float64]] = field(default_factory=list)
    first_ns: int = 0
    last_ns: int = 0

    def note(self, aligned: Aligned) -> None:
        self.first_ns = self.first_ns or aligned.row.stamp_ns
        self.last_ns = aligned.row.stamp_ns
        self.state_ages_ns.append(aligned.state_age_ns)
        self.action_ages_ns.append(aligned.action_age_ns)
        self.states.append(aligned.row.state)
        self.actions.append(aligned.row.action)

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


def _convert(job: BagJob, tick: Tick) -> None:
    began_s = time.monotonic()
    contract, bag = job.contract, Bag(job.bag)
    image_topic = check_topics(bag, bag.topics(), contract)
    aligner = Aligner(contract, image_topic, accept_latency=job.accept_latency)
    motion = MotionCheck(contract.robot)
    span: list[int] = []
    gaps: list[dict[str, Any]] = []
    rows = 0
    shortest = max(1, round(contract.shortest_episode_s * contract.robot.policy_rate_hz))
    with DatasetWriter(job.part, layout_of(contract, job.pictures)) as writer:
        episode = _Episode()

        def end(reason: str) -> None:
            nonlocal episode
            if episode.state_ages_ns:
                writer.end_episode(str(job.bag), episode.report(reason))
                motion.add_episode(np.stack(episode.states), np.stack(episode.actions))
            elif episode.waiting:
                aligner.dropped.add_too_short(len(episode.waiting))
            episode = _Episode()

        for aligned in aligner.rows(_watched(bag.messages(aligner.topics), bag, aligner, span, tick)):
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
                    rows += 1
                episode.waiting.clear()
        end("the bag's end")
        doubts = motion.doubts()
        if impossible := [doubt.text for doubt in doubts if doubt.certain]:
            raise BagError(f"what robot.yaml says cannot be right, or the recording: {'; '.join(impossible)}")
        told = _told(
            job.bag,
            recorded_s=(max(span) - min(span)) / 1e9 if span else 0.0,
            converting_s=round(time.monotonic() - began_s, 3),
            pictures=aligner.pictures,
            rows=rows,
            gaps=gaps,
            dropped=aligner.dropped.examples(_REPORTED),
            ignored=aligner.ignored.examples(_REPORTED),
            losses=bag.losses,
            notes=[*bag.notes, *(doubt.text for doubt in doubts)],
            latency=aligner.clocks.figures(),
        )
        if aligner.clocks.apart is not None:
            told["clocks_apart"] = aligner.clocks.apart
        if cause := first_cause(told["dropped"], told["ignored"], aligner.topic_of):
            told["first_cause"] = {"reason": cause[0], "times": cause[1]}
        writer.report["bags"] = [told]


def _told(bag: Path, *, recorded_s: float, **entries: Any) -> dict[str, Any]:
    """A bag's entry in the report; what is not given is nothing."""
    nothing: dict[str, Any] = {"converting_s": 0.0, "pictures": 0, "rows": 0, "gaps": []}
    nothing |= {"dropped": {}, "ignored": {}, "losses": [], "notes": [], "latency": {}}
    return {"path": str(bag), "recorded_s": round(recorded_s, 3)} | nothing | entries


def _watched(messages: Iterator[Message], bag: Bag, aligner: Aligner, span: list[int], tick: Tick) -> Iterator[Message]:
    """The messages that were received at a known time; notes what they span and how far the bag is read."""
    for message in messages:
        tick(bag.progress)
        if message.received_ns <= 0:  # as of a recorder by simulated time, before it has heard of that
            aligner.ignored.add(f"{message.topic}: received at time 0, before the recorder's clock ran")
            continue
        if not span:
            span += [message.received_ns, message.received_ns]
        span[0], span[1] = min(span[0], message.received_ns), max(span[1], message.received_ns)
        yield message
