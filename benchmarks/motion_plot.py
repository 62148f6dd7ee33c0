"""The picture of the motion benchmark: position, velocity and jerk of one joint across some hand-overs, by method."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from benchmarks.motion_methods import EVERY, ROBOT, Motion
from maskact_ros.core.outputs import output_path, save_figure

_LOOKS = {
    "replace": ("#c8553d", 1.0),
    "replace_limited": ("#d9a441", 1.0),
    "act_ensembling": ("#2c6e9b", 1.0),
    "maskact": ("#0b6e4f", 2.0),
}
_JOINT = 1  # one of those with the largest swing
_HANDOVERS = 4


def plot(motions: dict[str, Motion], file: Path) -> None:
    """Write the picture; the kind of file follows from its name."""
    figure = Figure(figsize=(10.0, 8.0), layout="constrained")
    panels = figure.subplots(3, 1, sharex=True)
    for method, motion in motions.items():
        colour, width = _LOOKS[method]
        shown = min(len(motion.set_points), round(_HANDOVERS * EVERY / ROBOT.policy_rate_hz * motion.rate_hz))
        times_s = np.arange(shown) / motion.rate_hz
        position = motion.set_points[:shown, _JOINT]
        error = position - motion.meant[:shown, _JOINT]
        panels[0].plot(times_s, 1e3 * error, color=colour, linewidth=width, label=method)
        panels[1].plot(times_s[1:], np.diff(position) * motion.rate_hz, color=colour, linewidth=width)
        jerk = np.abs(np.diff(position, n=3)) * motion.rate_hz**3
        panels[2].semilogy(times_s[3:], np.maximum(jerk, 1.0), color=colour, linewidth=width)
    panels[0].set_ylabel("error, mrad")
    panels[1].set_ylabel("velocity, rad/s")
    panels[1].set_ylim(*_calm(motions["maskact"]))
    panels[2].set_ylabel("jerk, rad/s³")
    panels[2].set_xlabel("seconds")
    panels[0].legend(fontsize=9)
    figure.suptitle(f"Hand-overs between the chunks of a noisy policy ({ROBOT.joint_names[_JOINT]})", fontsize=11)
    save_figure(figure, output_path(file), dpi=110)


def _calm(motion: Motion) -> tuple[float, float]:
    """A range of velocities in which the smooth method fills the panel; the others' peaks go beyond it."""
    velocity = np.diff(motion.set_points[:, _JOINT]) * motion.rate_hz
    return 2.0 * float(velocity.min()), 2.0 * float(velocity.max())
