"""The plot of the pipeline benchmark: the time of each stage, for each row."""

from __future__ import annotations

from pathlib import Path

from matplotlib.figure import Figure

from maskact_ros.core.outputs import output_path, save_figure
from maskact_ros.tools.bench.pipeline_rows import PipelineResult
from maskact_ros.tools.bench.pipeline_stages import BUSY, MODEL


def plot(result: PipelineResult, file: Path) -> None:
    """Write the plot; the file's suffix determines its format."""
    figure = Figure(figsize=(9.0, 1.6 + 0.7 * len(result.rows)), layout="constrained")
    panel = figure.subplots()
    names = [name for name in result.rows[0].stages_ms if name not in (*MODEL, *BUSY)]
    labels = [f"{row.backbone}, {'with' if row.profile else 'no'} profile" for row in result.rows]
    begin = [0.0] * len(result.rows)
    for i, name in enumerate(names):
        widths = [max(0.0, row.stages_ms[name].p50) for row in result.rows]
        panel.barh(labels, widths, left=begin, label=name, color=f"C{i}", height=0.6)
        begin = [left + width for left, width in zip(begin, widths, strict=True)]
    for at, row in enumerate(result.rows):
        panel.plot([row.overhead_ms.p95] * 2, [at - 0.4, at + 0.4], color="black", linewidth=1.5)
    panel.invert_yaxis()
    panel.set_xlabel("ms from image to command, without the model: medians of the stages; line: p95 of their sum")
    panel.legend(fontsize=8, ncols=5, loc="upper center", bbox_to_anchor=(0.5, -0.25))
    save_figure(figure, output_path(file), dpi=110)
