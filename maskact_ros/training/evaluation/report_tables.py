"""Evaluations as Markdown tables and as a picture.

In: evaluations whose `checkpoint` is the policy's name. Out: the report in docs/results.md.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from maskact_ros.core.errors import drawable
from maskact_ros.core.outputs import save_figure
from maskact_ros.sim.look import NO_SHIFT
from maskact_ros.training.evaluation.proportions import mcnemar_p
from maskact_ros.training.evaluation.success_rate import Evaluation

NONE = "\N{EN DASH}"  # for a missing figure


def markdown(evaluations: Sequence[Evaluation]) -> str:
    """Tables of success and masks in each scene, of temporal ensembling and of backends; and the conditions."""
    usual = _of_first_engine(evaluations)
    plain = [evaluation for evaluation in usual if evaluation.temporal_ensemble_coeff is None]
    parts = [_measured(evaluations), _success(plain)]
    if any(evaluation.mask_iou for evaluation in plain):
        parts.append(_masks(plain))
    ensembled = {e.checkpoint for e in usual if e.temporal_ensemble_coeff is not None}
    if ensembled:
        parts.append(_ensembling([e for e in usual if e.checkpoint in ensembled and e.shift == NO_SHIFT]))
    if len(usual) < len(evaluations):
        same = [e for e in evaluations if e.shift == NO_SHIFT and e.temporal_ensemble_coeff is None]
        parts.append(_backends(same))
    return "\n\n".join(parts) + "\n"


def draw(evaluations: Sequence[Evaluation], path: Path) -> None:
    """Bars of success with their intervals, scene by scene and policy by policy."""
    from matplotlib.figure import Figure  # takes a second to import

    plain = [e for e in _of_first_engine(evaluations) if e.temporal_ensemble_coeff is None]
    scenes, policies = _unique(e.shift for e in plain), _unique(e.checkpoint for e in plain)
    figure = Figure(figsize=(1.6 + 1.4 * len(scenes), 3.6), dpi=120, layout="constrained")
    axis = figure.subplots()
    width = 0.8 / max(1, len(policies))  # none, where all are of ensembling
    for i, policy in enumerate(policies):
        own = [e for e in plain if e.checkpoint == policy]
        rates = [e.successes / e.episodes for e in own]
        places = [scenes.index(e.shift) + (i + 0.5) * width - 0.4 for e in own]
        low = [rate - e.ci95[0] for rate, e in zip(rates, own, strict=True)]
        high = [e.ci95[1] - rate for rate, e in zip(rates, own, strict=True)]
        axis.bar(places, rates, width * 0.92, yerr=(low, high), capsize=3, label=drawable(policy))
    axis.set_xticks(range(len(scenes)), [_scene(scene) for scene in scenes])
    axis.set_ylim(0.0, 1.05)
    axis.set_ylabel("success")
    axis.spines[["top", "right"]].set_visible(False)
    if policies:
        axis.legend(loc="upper right", fontsize=8)
    save_figure(figure, path)


def _measured(evaluations: Sequence[Evaluation]) -> str:
    """The common conditions, and a line for each policy."""
    first = evaluations[0]
    lines = [
        f"{first.episodes} episodes a cell, seeds {first.seeds[0]} to {first.seeds[-1]}, the same for all; an episode "
        f"fails after {first.time_limit_s:g} s; {first.latency_s:g} s from image to chunk, modelled; backend "
        f"{first.backend}, {first.precision}. Intervals are Wilson's, 95 %.",
        "",
    ]
    for policy in _unique(e.checkpoint for e in evaluations):
        own = next(e for e in evaluations if e.checkpoint == policy)
        lines.append(f"- {policy}: weights `{own.weights_hash[:12]}`, `n_action_steps` {own.n_action_steps}")
    return "\n".join(lines)


def _success(evaluations: Sequence[Evaluation]) -> str:
    policies = _unique(e.checkpoint for e in evaluations)
    heads = ["scene"]
    for policy in policies:
        heads += [f"{policy}: solved", "95 % interval", "median s", "mask IoU"]
    for other in policies[1:]:
        heads += [f"only {policies[0]} / only {other}", "p"]
    rows = []
    for scene in _unique(e.shift for e in evaluations):
        by_policy = {e.checkpoint: e for e in evaluations if e.shift == scene}
        row = [_scene(scene)]
        for policy in policies:
            row += _figures(by_policy.get(policy))
        for other in policies[1:]:
            row += _compared(by_policy.get(policies[0]), by_policy.get(other))
        rows.append(row)
    note = (
        ""
        if len(policies) == 1
        else "\n\nThe last columns count the seeds that only one of the two solved; p is McNemar's exact, two-sided. "
        "A seed is the same task for all."
    )
    return _table(heads, rows) + note


def _masks(evaluations: Sequence[Evaluation]) -> str:
    with_masks = [e for e in evaluations if e.mask_iou]
    classes = _unique(name for e in with_masks for name in e.mask_iou or {})
    rows = []
    for e in with_masks:
        iou = e.mask_iou or {}
        rows.append([_scene(e.shift), e.checkpoint, *(f"{iou[name]:.3f}" if name in iou else NONE for name in classes)])
    caption = "Mask IoU of the pictures seen on the way, in each episode's first 6 s:"
    return f"{caption}\n\n" + _table(["scene", "policy", *classes], rows)


def _ensembling(evaluations: Sequence[Evaluation]) -> str:
    rows = []
    for e in evaluations:
        coeff = e.temporal_ensemble_coeff
        rows.append([e.checkpoint, "off" if coeff is None else f"{coeff:g}", *_figures(e)[:3]])
    heads = ["policy", "`temporal_ensemble_coeff`", "solved", "95 % interval", "median s"]
    return "Temporal ensembling, in the training scene:\n\n" + _table(heads, rows)


def _backends(evaluations: Sequence[Evaluation]) -> str:
    rows = []
    for e in evaluations:
        first = next(other for other in evaluations if other.checkpoint == e.checkpoint)
        compared = [NONE] * 2 if e is first else _compared(first, e)
        rows.append([e.checkpoint, e.backend, e.precision, *_figures(e), *compared])
    heads = ["policy", "backend", "precision", "solved", "95 % interval", "median s", "mask IoU"]
    heads += ["only first / only this", "p"]
    caption = "Backends and precisions, in the training scene, each compared with the first:"
    return f"{caption}\n\n" + _table(heads, rows)


def _of_first_engine(evaluations: Sequence[Evaluation]) -> list[Evaluation]:
    """The evaluations with the backend and precision of the first one."""
    first = evaluations[0]
    return [e for e in evaluations if (e.backend, e.precision) == (first.backend, first.precision)]


def _figures(evaluation: Evaluation | None) -> list[str]:
    """Solved, interval, median time, mean mask IoU."""
    if evaluation is None:
        return [NONE] * 4
    low, high = evaluation.ci95
    median_s, iou = evaluation.median_seconds, evaluation.mask_iou
    return [
        f"{evaluation.successes} of {evaluation.episodes}",
        f"{100 * low:.0f} to {100 * high:.0f} %",
        NONE if median_s is None else f"{median_s:.1f}",
        f"{iou['mean']:.3f}" if iou else NONE,
    ]


def _compared(first: Evaluation | None, second: Evaluation | None) -> list[str]:
    """The number of seeds that only the first and only the second solved; and the p-value for equal policies."""
    if first is None or second is None:
        return [NONE] * 2
    only_first, only_second = (len(set(a.solved) - set(b.solved)) for a, b in ((first, second), (second, first)))
    p = mcnemar_p(only_first, only_second)
    return [f"{only_first} / {only_second}", "< 0.001" if p < 0.001 else f"{p:.3f}"]


def _scene(shift: str) -> str:
    return "as in training" if shift == NO_SHIFT else shift


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _unique(names: Iterable[str]) -> list[str]:
    """Each name once, in the order of appearance."""
    return list(dict.fromkeys(names))
