"""The output of `maskact monitor`: the nodes' reports and the publisher's state, as a table or as JSON; without ROS.

In: a `Snapshot` of what was heard. Out: a rich renderable for people, a dictionary for programs.
"""

from __future__ import annotations

import io
import math
import re
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from maskact_ros.control.ladder import FollowerState
from maskact_ros.core.errors import printable

LOST_S = 3.0  # a node reports once a second
HINT_S = 5.0  # if nothing is heard for longer, a hint is shown

# In the order in which an image passes through them; other stages follow by name.
STAGES = (
    "image_age_at_receipt",
    "prepare",
    "encoder",
    "mask_head",
    "features_age",
    "plan",
    "chunk_age",
    "chunk_age_at_use",
    "image_to_command",
    "command_lateness",
)
_UNITS = ("_hz", "_ms", "_s")  # a value whose name ends so is no count
_IN_THE_STATE = ("rung", "epoch", "reason")
_LEVELS = {0: "ok", 1: "warning", 2: "error", 3: "stale"}
_LEVEL_STYLES = {"ok": "green", "warning": "yellow", "error": "bold red", "lost": "bold red"}
_RUNG_STYLES = {
    "idle": "dim",
    "disabled": "dim",
    "engaging": "bold cyan",
    "following": "bold green",
    "remaining": "bold yellow",
    "decelerating": "bold yellow",
    "holding": "bold yellow",
    "fault": "bold white on red",
}
_PERCENTILE = re.compile(r"(\w+)_ms_(p50|p95|p99)")
_SHOWN_AT_MOST = 500  # characters of one text; JSON has the whole text


@dataclass(frozen=True)
class NodeReport:
    """A node's last report, its age, and the counts that grew."""

    name: str  # with its namespace
    level: int
    message: str
    values: dict[str, str]
    age_s: float  # since the report
    grown: frozenset[str] = frozenset()  # the counts that grew in the last seconds

    @property
    def lost(self) -> bool:
        """Whether the node has been silent for too long."""
        return self.age_s > LOST_S

    @property
    def level_name(self) -> str:
        """The level in words; being lost is no level."""
        return _LEVELS.get(self.level, f"level {self.level}")

    @cached_property
    def figures(self) -> Figures:
        """The values, sorted by kind."""
        return Figures.of(self.values)


@dataclass(frozen=True, kw_only=True)
class Figures:
    """A report's values, sorted by kind. Each value is in exactly one field; unknown ones are in `settings`."""

    rates_hz: dict[str, float] = field(default_factory=dict)
    stages_ms: dict[str, dict[str, float]] = field(default_factory=dict)  # stage -> p50, p95, p99
    totals: dict[str, int] = field(default_factory=dict)  # number of events and of stages' runs
    counts: dict[str, int] = field(default_factory=dict)
    mask: dict[str, str] = field(default_factory=dict)
    settings: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, values: dict[str, str]) -> Figures:
        """From keys and values. A value that should be a number but is none becomes a setting, so that it is shown."""
        figures = cls()
        for key, text in values.items():
            percentile, number = _PERCENTILE.fullmatch(key), _number(text)
            total = key.removesuffix("_total")
            if percentile and number is not None:
                figures.stages_ms.setdefault(percentile[1], {})[percentile[2]] = number
            elif key.endswith("_hz") and f"{key.removesuffix('_hz')}_total" in values and number is not None:
                figures.rates_hz[key.removesuffix("_hz")] = number
            elif key.startswith("mask_") and total == key:
                figures.mask[key] = text
            elif (count := as_count(text)) is None or key in _IN_THE_STATE or key.endswith(_UNITS):
                figures.settings[key] = text
            elif total != key and (f"{total}_hz" in values or f"{total}_ms_p50" in values):
                figures.totals[total] = count
            else:
                figures.counts[key] = count
        return figures


def as_count(text: str) -> int | None:
    """A string as a non-negative integer, or None."""
    return int(text) if re.fullmatch(r"\d{1,18}", text, re.ASCII) else None


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """All reports and the state until now."""

    namespace: str
    domain_id: str  # as in the environment
    discovery_range: str
    listened_s: float
    nodes: tuple[NodeReport, ...] = ()
    state: FollowerState | None = None
    state_problem: str = ""  # why the last message on `state` could not be understood
    elsewhere: tuple[str, ...] = ()  # nodes of ours in other namespaces

    @property
    def state_is_old(self) -> bool:
        """Whether the node that published the state is lost, so that the present state is unknown."""
        return any(node.lost for node in self.nodes if "rung" in node.values)

    @property
    def hint(self) -> str:
        """What to check if nothing was heard for long; else empty."""
        if self.nodes or self.listened_s < HINT_S:
            return ""
        return (
            f"nothing heard in namespace {self.namespace} for {self.listened_s:.0f} s. Nodes and monitor need the same "
            f"ROS_DOMAIN_ID (here {self.domain_id}) and a ROS_AUTOMATIC_DISCOVERY_RANGE (here {self.discovery_range}) "
            "that reaches; --namespace is as given to bringup"
        )

    @property
    def failed(self) -> bool:
        """Whether nothing was heard, or a node reports an error."""
        return not self.nodes or any(node.level == 2 for node in self.nodes)


def as_json(snapshot: Snapshot) -> dict[str, Any]:
    """The content of `--json`."""
    state = snapshot.state
    return {
        "namespace": snapshot.namespace,
        "domain_id": snapshot.domain_id,
        "discovery_range": snapshot.discovery_range,
        "state": None if state is None else asdict(state) | {"enabled": state.enabled},
        "state_is_old": snapshot.state_is_old,
        "state_problem": snapshot.state_problem or None,
        "nodes": [
            {
                "name": node.name,
                "level": node.level_name,
                "lost": node.lost,
                "age_s": round(node.age_s, 2),
                "message": node.message,
                **asdict(node.figures),
                "grown": sorted(node.grown & node.figures.counts.keys()),
            }
            for node in snapshot.nodes
        ],
        "elsewhere": list(snapshot.elsewhere),
        "hint": snapshot.hint or None,
    }


def as_table(snapshot: Snapshot) -> RenderableType:
    """The table for people."""
    parts: list[RenderableType] = [_state(snapshot)]
    if snapshot.nodes:
        details = Table.grid(padding=(0, 1))
        details.add_row(_stages(snapshot), _settings(snapshot))
        parts += [_nodes(snapshot), details]
    else:
        parts.append(Text(_clean(snapshot.hint) or "listening", style="yellow"))
    if snapshot.elsewhere:
        others = _clean(", ".join(snapshot.elsewhere))
        parts.append(Text(f"also heard, outside of {snapshot.namespace}: {others}", style="dim"))
    return Group(*parts)


def as_text(snapshot: Snapshot, width: int) -> str:
    """The table as plain text, for output without a terminal."""
    console = Console(file=io.StringIO(), width=width, color_system=None, highlight=False)
    with console.capture() as capture:
        console.print(as_table(snapshot))
    return "\n".join(line.rstrip() for line in capture.get().splitlines()) + "\n"


def _state(snapshot: Snapshot) -> Text:
    if snapshot.state_problem:
        return Text(_clean(snapshot.state_problem), style="bold red")
    state = snapshot.state
    if state is None:
        return Text("nobody has said a state yet", style="dim")
    line = Text()
    if snapshot.state_is_old:
        line.append("who said this is lost: ", style="bold red")
    line.append(f" {state.rung} ", style=_RUNG_STYLES.get(state.rung, "bold"))
    line.append(f"  {'enabled' if state.enabled else 'not enabled'}  epoch {state.epoch}  {_clean(state.reason)}")
    return line


def _nodes(snapshot: Snapshot) -> Table:
    table = _table("node", "state", "rates [Hz]", "counts", "message")
    for node in snapshot.nodes:
        style = "dim" if node.lost else ""
        level = "lost" if node.lost else node.level_name
        rates = ", ".join(f"{name} {rate:.4g}" for name, rate in node.figures.rates_hz.items())
        table.add_row(
            Text(_clean(_short(node.name, snapshot))),
            Text.assemble(
                (f"{level}, {node.age_s:.0f} s" if node.lost else level, _LEVEL_STYLES.get(level, "bold magenta")),
                "\n",
                (_clean(node.values.get("state", "")), style),
            ),
            Text(_clean(rates), style=style),
            _counts(node),
            Text(_clean(node.message), style=style or ("" if node.level == 0 else _LEVEL_STYLES.get(level, ""))),
        )
    return table


def _counts(node: NodeReport) -> Text:
    """All counts: those that grew are highlighted, zeros are dimmed."""
    line = Text(style="dim" if node.lost else "")
    for name, count in node.figures.counts.items():
        style = "bold yellow" if name in node.grown and not node.lost else "" if count else "dim"
        line.append(", " if line else "").append(f"{_clean(name)} {count}", style=style)
    return line


def _stages(snapshot: Snapshot) -> Table:
    table = _table()
    table.add_column("stage [ms]", no_wrap=True, min_width=max(map(len, STAGES)))
    for heading in ("p50", "p95", "p99"):
        table.add_column(heading, justify="right", no_wrap=True, min_width=5)
    rows = [(stage, node) for node in snapshot.nodes for stage in node.figures.stages_ms]
    order = {stage: i for i, stage in enumerate(STAGES)}
    for stage, node in sorted(rows, key=lambda row: (order.get(row[0], len(STAGES)), row[0], row[1].name)):
        shown = (node.figures.stages_ms[stage].get(p) for p in ("p50", "p95", "p99"))
        style = "dim" if node.lost else ""
        table.add_row(Text(stage), *(Text("" if ms is None else f"{ms:.1f}") for ms in shown), style=style)
    return table


def _settings(snapshot: Snapshot) -> Table:
    """Mask health, settings in force and unknown values, node by node."""
    known = {"state"} | (set() if snapshot.state is None else set(_IN_THE_STATE))
    table = _table("masks and settings", "")
    for node in snapshot.nodes:
        values = {**node.figures.mask, **{k: v for k, v in node.figures.settings.items() if k not in known}}
        if values:
            table.add_row(Text(_clean(_short(node.name, snapshot)), style="dim"))
        for key, value in values.items():
            table.add_row(Text(_clean(key)), Text(_clean(value)), style="dim" if node.lost else "")
    return table


def _table(*headings: str) -> Table:
    return Table(*headings, box=None, header_style="bold", padding=(0, 2, 0, 0))


def _short(name: str, snapshot: Snapshot) -> str:
    return name.removeprefix(snapshot.namespace.rstrip("/") + "/")


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _clean(text: str) -> str:
    """A stranger's text, safe for a terminal: no control characters, limited length."""
    return printable(text, _SHOWN_AT_MOST)
