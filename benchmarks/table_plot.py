"""The picture of the whole: what a step consists of, how near it comes to a matrix product, and what is gained."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.model_plot import draw_steps
from benchmarks.model_rows import Row
from benchmarks.table_cells import MAIN
from maskact_ros.core.outputs import output_path, save_figure

_PARTS = ("encoder", "mask_head", "act", "model")
_OURS, _THEIRS = "#0b6e4f", "#c8553d"


def plot(result: Mapping[str, Any], file: Path) -> None:
    """Write the picture; the kind of file follows from its name."""
    rows = [Row(**row) for row in result["rows"]]
    setting = MAIN if any((row.backbone, row.image_size) == MAIN for row in rows) else None
    if setting is None and rows:
        setting = rows[0].backbone, rows[0].image_size
    figure = Figure(figsize=(10.0, 9.0), layout="constrained")
    steps, shares, gains = figure.subplots(3, 1, height_ratios=(3, 2, 2))
    if setting is None:
        steps.set_title(str(result["model"]), fontsize=9)
        shares.set_axis_off()
    else:
        draw_steps(steps, rows, setting)
        steps.legend(fontsize=8, ncols=5)
        _draw_shares(shares, [row for row in rows if (row.backbone, row.image_size) == setting])
    _draw_gains(gains, rows, setting, result)
    save_figure(figure, output_path(file), dpi=110)


def _draw_shares(panel: Axes, rows: list[Row]) -> None:
    """Bars of each part, ours beside the baseline's, both in fp32."""
    for offset, backend, colour in ((-0.2, "torch", _OURS), (0.2, "baseline", _THEIRS)):
        found = {
            row.part: row.share_of_gemm
            for row in rows
            if row.backend == backend and row.precision == "fp32" and row.background is None
        }
        heights = [100 * (found.get(part) or 0.0) for part in _PARTS]
        panel.bar([at + offset for at in range(len(_PARTS))], heights, width=0.4, color=colour, label=backend)
    panel.axhline(100.0, color="black", linestyle=":")
    panel.set_xticks(range(len(_PARTS)), ["encoder", "mask head", "ACT", "all three"])
    panel.set_ylabel("of a matrix product, %", fontsize=8)
    panel.legend(fontsize=8)


def _draw_gains(panel: Axes, rows: list[Row], setting: tuple[str, int] | None, result: Mapping[str, Any]) -> None:
    """How many times as fast as the baseline what has one is."""
    gains = {
        f"step, {row.backend} {row.precision}": row.speedup_over_baseline
        for row in rows
        if (row.backbone, row.image_size) == setting and row.part == "step" and row.backend != "baseline"
    }
    for row in _rows(result, "train"):
        if row["backend"] != "baseline":
            gains[f"training, {row['variant'].replace('_', ' ')}, {row['precision']}"] = row["speedup_over_baseline"]
    for row in _rows(result, "convert"):
        if row["part"] == "convert":
            gains["conversion"] = row["speedup_over_baseline"]
    shown = {name: gain for name, gain in gains.items() if gain is not None}
    panel.barh(range(len(shown)), list(shown.values()), color=_OURS)
    panel.axvline(1.0, color="black", linestyle=":")
    panel.set_yticks(range(len(shown)), list(shown), fontsize=8)
    panel.invert_yaxis()
    panel.set_xlabel("times as fast as the baseline", fontsize=8)


def _rows(result: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    """Of a benchmark; none where it has no result."""
    found = result.get(name)
    return found["rows"] if isinstance(found, dict) else []
