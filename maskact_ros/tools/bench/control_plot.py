"""The plot of the control benchmark: for each rate and scheduler, the share of calls that were later than x."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from maskact_ros.core.outputs import output_path, save_figure
from maskact_ros.tools.bench.control_rows import ControlResult
from maskact_ros.tools.bench.control_slices import Case
from maskact_ros.tools.bench.wakes import Wakes

_LOOKS = {
    "maskact": ("maskact (the real publisher)", "#0b6e4f", 2.2),
    "rclpy_timer": ("rclpy timer", "#c8553d", 1.4),
    "c_nanosleep": ("C, only sleeping", "#555555", 1.2),
}
_MOST_POINTS = 2000  # of a curve; more are not visible


def plot(wakes: dict[Case, Wakes], result: ControlResult, file: Path) -> None:
    """Write the plot; the file's suffix determines its format."""
    rates = sorted({case.rate_hz for case in wakes})
    schedulers = sorted({case.scheduler for case in wakes})
    figure = Figure(figsize=(1.0 + 3.6 * len(rates), 0.9 + 2.8 * len(schedulers)), layout="constrained")
    panels = figure.subplots(len(schedulers), len(rates), squeeze=False, sharex=True, sharey=True)
    for scheduler, line in zip(schedulers, panels, strict=True):
        for rate, panel in zip(rates, line, strict=True):
            for loop, (label, colour, width) in _LOOKS.items():
                measured = wakes.get(Case(loop, rate, scheduler))
                if measured is not None:
                    panel.loglog(*_later_than(measured), label=label, color=colour, linewidth=width)
            panel.axvline(1e6 / rate, color="#999999", linestyle=":", linewidth=1)
            panel.set_title(f"{rate:g} Hz, {'SCHED_FIFO' if scheduler == 'fifo' else 'normal scheduling'}", fontsize=10)
            panel.grid(visible=True, which="major", alpha=0.25)
    for panel in panels[-1]:
        panel.set_xlabel("lateness in µs (dotted: one period)")
    for line in panels:
        line[0].set_ylabel("share of calls that were later")
    panels[0][0].legend(fontsize=8)
    load = "every core busy with matrix products" if result.load == "cpu" else "no load"
    figure.suptitle(f"Lateness of the command loop; {load}", fontsize=11)
    save_figure(figure, output_path(file), dpi=110)


def _later_than(wakes: Wakes) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Latenesses in µs in rising order (N,), and the share of calls that were at least as late (N,)."""
    late_us = np.maximum(np.sort(wakes.lateness_us), 1.0)
    share = np.arange(len(late_us), 0, -1) / len(late_us)
    # Evenly spaced on the logarithmic axis, so that every call in the tail remains.
    kept = np.unique(len(late_us) - np.geomspace(1, len(late_us), _MOST_POINTS).round().astype(int))
    return late_us[kept], share[kept]
