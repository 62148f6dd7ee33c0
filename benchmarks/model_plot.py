"""The plot of the model's benchmark: each engine's step by its parts, as a share of the baseline's step."""

from __future__ import annotations

from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.model_rows import ModelResult, Row
from maskact_ros.core.outputs import output_path, save_figure

_COLOURS = {"encoder": "#2c6e9b", "mask_head": "#d9a441", "act": "#0b6e4f", "rest": "#c8553d"}
_BAR_INCHES, _FRAME_INCHES = 0.32, 1.1


def plot(result: ModelResult, file: Path) -> None:
    """Write the plot; the file's suffix determines its format."""
    settings = list(dict.fromkeys((row.backbone, row.image_size) for row in result.rows))
    bars = [len(_steps(result.rows, setting)) for setting in settings]
    height = sum(_FRAME_INCHES + _BAR_INCHES * count for count in bars)
    figure = Figure(figsize=(9.0, height), layout="constrained")
    panels = figure.subplots(len(settings), 1, squeeze=False, height_ratios=[2 + count for count in bars])
    for panel, setting in zip(panels[:, 0], settings, strict=True):
        draw_steps(panel, result.rows, setting)
    panels[0, 0].legend(fontsize=8, ncols=5)
    save_figure(figure, output_path(file), dpi=110)


def draw_steps(panel: Axes, rows: list[Row], setting: tuple[str, int]) -> None:
    """A bar for each engine; the dotted line is a step's time at the speed of a matrix product in fp32."""
    steps = _steps(rows, setting)
    whole_ms = steps[0].median_ms  # the baseline's, where there is one
    for at, step in enumerate(steps):
        left = 0.0
        for part, colour in _COLOURS.items():
            (taken,) = (row for row in _of(rows, setting) if _engine(row) == _engine(step) and row.part == part)
            share = taken.median_ms / whole_ms
            panel.barh(at, share, left=left, color=colour, label=part if at == 0 else None)
            left += share
    bounds = [
        row.share_of_gemm * row.median_ms / whole_ms for row in steps if row.share_of_gemm and row.precision == "fp32"
    ]
    if bounds:
        panel.axvline(bounds[0], color="black", linestyle=":", label="a matrix product's rate, fp32")
    panel.set_yticks(range(len(steps)), [f"{step.backend} {step.precision}" for step in steps], fontsize=8)
    panel.invert_yaxis()
    panel.set_xlabel(f"time as a share of the step of {steps[0].backend} {steps[0].precision}", fontsize=8)
    panel.set_title(f"{setting[0]} at {setting[1]}, {steps[0].device}", fontsize=10)


def _of(rows: list[Row], setting: tuple[str, int]) -> list[Row]:
    return [row for row in rows if (row.backbone, row.image_size) == setting and row.background is None]


def _steps(rows: list[Row], setting: tuple[str, int]) -> list[Row]:
    return [row for row in _of(rows, setting) if row.part == "step"]


def _engine(row: Row) -> tuple[str, str]:
    return row.backend, row.precision
