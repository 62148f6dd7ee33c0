"""`RunLog`: a run's numbers in RUN/log.jsonl, as TensorBoard events, and as curves in RUN/curves.png."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from torch.utils.tensorboard import SummaryWriter

from maskact_ros.core.documents import parse_json
from maskact_ros.core.errors import drawable
from maskact_ros.core.outputs import replaced_file
from maskact_ros.core.paths import read_bytes
from maskact_ros.training.errors import TrainingError

LOG, CURVES, EVENTS = "log.jsonl", "curves.png", "tensorboard"
TRAINING, HELD_OUT, THROUGHPUT = "training", "held-out", "throughput"  # the subjects of the log's lines
_DRAW_EVERY_S = 60.0
_PANELS = ("total", "action", "mask", "kl", "auxiliary_mask")


class RunLog:
    """A context manager; call `add` for each line, and `draw` from time to time."""

    def __init__(self, folder: Path, step: int) -> None:
        """Continue after `step`: later lines of an interrupted run are removed."""
        self._path, self._curves = folder / LOG, folder / CURVES
        if self._path.exists():
            kept = [line for line in _lines(self._path) if line["step"] <= step]
            with replaced_file(self._path, "a log", ours=True) as partial:
                partial.write_text("".join(json.dumps(line) + "\n" for line in kept), encoding="utf-8")
        self._file = self._path.open("a", encoding="utf-8")
        self._next_drawing_s = time.monotonic() + _DRAW_EVERY_S
        self._events = SummaryWriter(str(folder / EVENTS), purge_step=step + 1)

    def __enter__(self) -> RunLog:
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()
        self._events.close()

    def add(self, step: int, about: str, values: Mapping[str, Any]) -> None:
        """Log numbers by their names, or mappings of names to numbers."""
        self._file.write(json.dumps({"step": step, "about": about} | dict(values)) + "\n")
        self._file.flush()
        for name, value in values.items():
            numbers = value if isinstance(value, Mapping) else {"": value}
            for key, number in numbers.items():
                self._events.add_scalar(f"{about}/{name}{'/' if key else ''}{key}", number, step)

    def draw_now_and_then(self) -> None:
        """As `draw`, but at most once a minute."""
        if time.monotonic() >= self._next_drawing_s:
            self.draw()
            self._next_drawing_s = time.monotonic() + _DRAW_EVERY_S

    def draw(self) -> None:
        """Write curves.png from the whole log."""
        lines = _lines(self._path)
        names = [name for name in _PANELS if any(name in line for line in lines)]
        with_iou = any(line.get("iou") for line in lines)
        figure = Figure(figsize=(4 * (len(names) + with_iou), 3.2))
        panels = figure.subplots(1, len(names) + with_iou, squeeze=False)[0]
        for panel, name in zip(panels, names, strict=False):
            for about in (TRAINING, HELD_OUT):
                points = [(line["step"], line[name]) for line in lines if line["about"] == about and name in line]
                if points:
                    panel.plot(*zip(*points, strict=True), label=about, marker="." if len(points) < 30 else "")
            panel.set(title=f"{name.replace('_', ' ')} loss", xlabel="step", yscale="log")
            panel.legend()
        if with_iou:
            seen = [(line["step"], line["iou"]) for line in lines if line.get("iou")]
            for label in dict.fromkeys(label for _, iou in seen for label in iou):
                points = [(step, iou[label]) for step, iou in seen if label in iou]
                marker = "." if len(points) < 30 else ""
                panels[-1].plot(*zip(*points, strict=True), label=drawable(label), marker=marker)
            panels[-1].set(title="held-out mask IoU", xlabel="step", ylim=(0, 1))
            panels[-1].legend()
        figure.subplots_adjust(left=0.06, right=0.99, bottom=0.16, top=0.9, wspace=0.25)
        with replaced_file(self._curves, "a picture", ours=True) as partial:
            figure.savefig(partial, dpi=100)


def _lines(path: Path) -> list[dict[str, Any]]:
    """The log's lines; a last one that a kill has torn is left out; raises MaskACTError on what is no line of it."""
    lines = []
    for number, content in enumerate(read_bytes(path).splitlines(keepends=True), start=1):
        if content.endswith(b"\n"):
            line = parse_json(content, path)
            if not _is_line(line):
                raise TrainingError(f"{path}: line {number} is none of a run's log")
            lines.append(line)
    return lines


def _is_line(line: Mapping[str, Any]) -> bool:
    """Whether it has a step, what it is about, and numbers where the curves want some."""
    iou = line.get("iou") or {}
    drawn = [line[name] for name in _PANELS if name in line] + (list(iou.values()) if isinstance(iou, dict) else [None])
    return (
        isinstance(line.get("step"), int)
        and isinstance(line.get("about"), str)
        and all(isinstance(number, (int, float)) for number in drawn)
    )
