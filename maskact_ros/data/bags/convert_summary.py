"""What became of the bags, for whoever gave the command: a table, and a line for each bag that was not kept whole."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from maskact_ros.core.errors import printable
from maskact_ros.data.datasets.lerobot_layout import OURS

_SHOWN = 20  # lines of a kind


@dataclass(frozen=True)
class Summary:
    """What became of the bags; times in seconds."""

    dataset: Path
    bags: int
    resumed: int  # of the bags, those that an earlier run had converted
    episodes: int
    frames: int
    pictures: int  # that were recorded
    recorded_s: float
    converted_s: float  # recorded seconds of the bags that this run converted
    wall_s: float
    gaps: int
    losses: tuple[str, ...]
    kept: tuple[str, ...]  # what was kept of what of each bag, and why, the least first
    notes: tuple[str, ...]
    left_out: tuple[str, ...]  # bags that gave no episode, each with the reason


def print_summary(done: Summary) -> None:
    """The table and the lines."""
    table = Table("bags", "episodes", "rows of pictures", "seconds", "gaps", "lost", "wall s", "x real time")
    speed = f"{done.converted_s / done.wall_s:.1f}" if done.resumed < done.bags else "-"
    table.add_row(
        *(
            str(done.bags),
            str(done.episodes),
            f"{done.frames} of {done.pictures}",
            f"{done.recorded_s:.1f}",
            str(done.gaps),
        ),
        *(str(len(done.losses)), f"{done.wall_s:.1f}", speed),
    )
    console = Console()
    console.print(table)

    def say(line: str) -> None:
        console.print(printable(line), markup=False, highlight=False, soft_wrap=True)

    if done.resumed:
        say(f"{done.bags} bags ({done.resumed} of an earlier run)")
    for lines, kind in (
        (done.kept, ""),
        (done.losses, "lost: "),
        (done.notes, "note: "),
        (done.left_out, "left out: "),
    ):
        for line in lines[:_SHOWN]:
            say(f"{kind}{line}")
        if len(lines) > _SHOWN:
            say(f"… and {len(lines) - _SHOWN} more such lines")
    say(f"{done.dataset}: all that was dropped and why is in {OURS}/report.json")


def kept_of(bags: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """A sentence for each bag of which not all pictures became rows, the least kept first."""
    some = [bag for bag in bags if 0 < bag["rows"] < bag["pictures"]]
    for bag in sorted(some, key=lambda bag: bag["rows"] / bag["pictures"]):
        reasons = [f"{times}: {reason}" for reason, times in list(bag["dropped"].items())[:3]]
        gaps = Counter(gap["reason"] for gap in bag["gaps"])
        reasons += [f"{times} gaps: {reason}" for reason, times in gaps.most_common(2)]
        text = "; ".join(reasons) or "the others could not be used"
        yield f"{Path(bag['path']).name}: {bag['rows']} of {bag['pictures']} pictures became rows; {text}"


def notes_of(bag: Mapping[str, Any]) -> list[str]:
    """What is odd about a bag, but did not keep it from being used."""
    name = Path(bag["path"]).name
    apart = [f"{name}: {bag['clocks_apart']}"] if "clocks_apart" in bag else []
    ignored = [f"{name}: {times} messages were not used: {reason}" for reason, times in bag["ignored"].items()]
    return [*bag["notes"], *apart, *ignored[:3]]


def why_nothing(bag: Mapping[str, Any]) -> str:
    """Why a bag gave no episode: the first cause, with how often it came."""
    if "refused" in bag:
        return str(bag["refused"])
    if "first_cause" in bag:
        reason, times = bag["first_cause"]["reason"], bag["first_cause"]["times"]
        return f"gives no episode: {reason} ({times} times)"
    return f"gives no episode: {bag['losses'][0] if bag['losses'] else 'no picture was recorded'}"


def named(bag: Mapping[str, Any]) -> str:
    """The same sentence, with the bag's path before it."""
    path, text = str(bag["path"]), why_nothing(bag)
    return text if text.startswith(path) else f"{path}: {text}"
