"""Measures the steps of one policy with every engine, a matrix product and the baseline, all in turn."""

from __future__ import annotations

import contextlib
import io
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from benchmarks.baseline_model import Baseline
from benchmarks.model_policy import Setting, patch_labels, write_policy
from benchmarks.model_rows import LeftOut, Row
from benchmarks.model_steps import BaselineStep, OurStep, encoder_alone
from maskact_ros.core.checkpoint import CheckpointInfo
from maskact_ros.core.errors import MaskACTError
from maskact_ros.policy.engine import Engine
from maskact_ros.policy.model.operations import Operations, left_out, nominal
from maskact_ros.tools.bench.gemm import Gemm, reachable
from maskact_ros.tools.bench.timing import Job, Samples, interleaved

WARM_UP = 2
STEP_BACKGROUND = 0.5  # share of background in the labels, unless patches are dropped
_GEMMS_ON_A_CARD = 20  # one product takes a GPU less time than its launch
BASELINE, BASELINE_SDPA = "baseline", "baseline_sdpa"


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What to measure for each setting."""

    engines: tuple[Engine, ...]  # of one device, cpu or cuda
    device: str
    rounds: int
    backgrounds: tuple[float, ...]
    baseline: bool


@dataclass(kw_only=True)
class Found:
    """The results for one setting."""

    rounds: int
    rows: list[Row] = field(default_factory=list)
    gemm_gflops: dict[str, float] = field(default_factory=dict)


class SettingRun:
    """One policy, with all engines that run it."""

    def __init__(self, setting: Setting, plan: Plan, left_out: list[LeftOut]) -> None:
        self.setting, self.plan = setting, plan
        self._left_out = left_out
        self._ours: dict[str, tuple[Engine, OurStep]] = {}
        self._baseline: BaselineStep | None = None
        self._gemms: dict[str, Gemm] = {}
        self._jobs: dict[str, Job] = {}

    def measure(self, after_round: Callable[[], object]) -> Found:
        """All in turn; after Ctrl-C what the complete rounds gave, KeyboardInterrupt where there is none."""
        with tempfile.TemporaryDirectory(prefix="maskact_bench_") as folder:
            self._info = info = write_policy(Path(folder) / "checkpoint", self.setting)
            self._add_baseline(info)
            self._add_engines(info)
            samples = interleaved(self._jobs, self.plan.rounds, warm_up=WARM_UP, after_round=after_round)
            found = Found(rounds=next(iter(samples.values())).rounds)
            found.rows += self._rows(samples)
        for precision, gemm in self._gemms.items():
            found.gemm_gflops[precision] = round(gemm.gflops(samples[_gemm_name(precision)]), 1)
        return found

    def _add_baseline(self, info: CheckpointInfo) -> None:
        self._add_gemm("fp32")
        if not self.plan.baseline:
            return
        plain = Baseline.load(info.folder, device=self.plan.device)
        alone = Baseline.load(info.folder, attention="sdpa", device=self.plan.device)
        self._baseline = BaselineStep(info, plain, patch_labels(info.config, STEP_BACKGROUND))
        self._jobs[BASELINE] = self._baseline
        self._jobs[BASELINE_SDPA] = encoder_alone(alone)

    def _add_engines(self, info: CheckpointInfo) -> None:
        labels = patch_labels(info.config, STEP_BACKGROUND)
        for engine in self.plan.engines:
            try:
                if engine.backend == "onnxruntime":
                    _export(info, engine.precision)
                step = OurStep(info, engine, labels)
                dropping = {b: step.without_isolated(patch_labels(info.config, b)) for b in self.plan.backgrounds}
                step()  # whether it runs at all
                for job in dropping.values():
                    job()
            except (MaskACTError, RuntimeError) as error:  # the second: the library's own, which runs the step
                self._leave_out(engine.backend, engine.precision, error)
                continue
            self._add_gemm(engine.precision)
            name = f"{engine.backend} {engine.precision}"
            self._ours[name] = engine, step
            self._jobs[name] = step
            self._jobs |= {_dropping_name(name, background): job for background, job in dropping.items()}
            if (masking := step.label_mask(labels)) is not None:
                self._jobs[_mask_name(name)] = masking

    def _add_gemm(self, precision: str) -> None:
        device = torch.device(self.plan.device)
        if precision not in self._gemms and reachable(precision, device):
            repeat = 1 if device.type == "cpu" else _GEMMS_ON_A_CARD
            self._gemms[precision] = Gemm(precision, device, repeat=repeat)
            self._jobs[_gemm_name(precision)] = self._gemms[precision]

    def _leave_out(self, backend: str, precision: str, error: Exception) -> None:
        setting = self.setting
        self._left_out.append(
            LeftOut(
                backend=backend,
                precision=precision,
                backbone=setting.backbone,
                image_size=setting.image_size,
                reason=" ".join(str(error).split()),
            )
        )

    def _rows(self, samples: dict[str, Samples]) -> Iterator[Row]:
        plain: dict[str, Samples] = {}
        if self._baseline is not None:
            plain = self._baseline.watch.samples(samples[BASELINE], WARM_UP)
            for part, taken in plain.items():
                yield self._row(part, BASELINE, "fp32", taken, samples, plain, step=plain["step"])
            taken = samples[BASELINE_SDPA]
            yield self._row("encoder", BASELINE_SDPA, "fp32", taken, samples, plain, step=None)
        for name, (engine, step) in self._ours.items():
            # The step that tried whether it runs came before the rounds.
            parts = step.watch.samples(samples[name], WARM_UP + 1)
            agreement = self._agreement(step)
            for part, taken in parts.items():
                labelled = agreement if part == "mask_head" else None
                yield self._row(
                    part,
                    engine.backend,
                    engine.precision,
                    taken,
                    samples,
                    plain,
                    step=parts["step"],
                    label_agreement=labelled,
                )
            if (masked := samples.get(_mask_name(name))) is not None:
                yield self._row("label_mask", engine.backend, engine.precision, masked, samples, {}, step=parts["step"])
            for background in self.plan.backgrounds:
                taken = samples[_dropping_name(name, background)]
                over = taken.over(parts["act"])
                yield self._row(
                    "act",
                    engine.backend,
                    engine.precision,
                    taken,
                    samples,
                    plain,
                    step=None,
                    background=background,
                    over_all_patches=over,
                )

    def _row(
        self,
        part: str,
        backend: str,
        precision: str,
        taken: Samples,
        samples: dict[str, Samples],
        plain: dict[str, Samples],
        *,
        step: Samples | None,
        background: float | None = None,
        over_all_patches: float | None = None,
        label_agreement: float | None = None,
    ) -> Row:
        whole, done = self._operations(part, backend, background or 0.0)
        gemm, rate = self._gemms.get(precision), None
        if gemm is not None:  # of one operation to the matrix product's
            rate = 1e9 / gemm.operations / taken.over(samples[_gemm_name(precision)])
        return Row(
            part=part,
            backend=backend,
            precision=precision,
            device=self.plan.device,
            backbone=self.setting.backbone,
            image_size=self.setting.image_size,
            background=background,
            median_ms=round(taken.median_ms, 3),
            p95_ms=round(taken.p95_ms, 3),
            p99_ms=round(taken.percentile_ms(99), 3),
            spread=round(taken.spread, 3),
            gflop=_rounded(done, 6),
            share_of_gemm=None if rate is None or done is None else _rounded(done * rate),
            nominal_share_of_gemm=None if rate is None or whole is None else _rounded(whole * rate),
            share_of_step=None if step is None else _rounded(taken.over(step)),
            speedup_over_baseline=_rounded(plain[part].over(taken)) if part in plain else None,
            over_all_patches=_rounded(over_all_patches),
            label_agreement=_rounded(label_agreement),
        )

    def _operations(self, part: str, backend: str, background: float) -> tuple[float | None, float | None]:
        """What a plain policy computes in a part, and what this backend does of it, in 10^9; None for neither."""
        patches = self._info.config.patches_per_side**2
        whole = nominal(self._info, patches_seen=patches - round(background * patches))
        less = Operations(0.0, 0.0, 0.0) if backend in (BASELINE, BASELINE_SDPA) else left_out(self._info)
        if part in ("rest", "label_mask"):
            return None, None
        name = "total" if part in ("model", "step") else part
        return getattr(whole, name), getattr(whole, name) - getattr(less, name)

    def _agreement(self, step: OurStep) -> float | None:
        """The share of patches that get the label which torch gives in single precision; None without that engine."""
        reference = next((ours for engine, ours in self._ours.values() if _is_reference(engine)), None)
        if reference is None or reference is step:
            return None
        return float(np.mean(reference.seen_labels() == step.seen_labels()))


def _export(info: CheckpointInfo, precision: str) -> None:
    """Write the ONNX files that the backend onnxruntime runs, for any number of patches; raises MaskACTError."""
    from maskact_ros.policy.onnx.export import export

    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        export(info.folder, precision=precision, dynamic=True)


def _is_reference(engine: Engine) -> bool:
    return (engine.backend, engine.precision) == ("torch", "fp32")


def _gemm_name(precision: str) -> str:
    return f"gemm {precision}"


def _mask_name(name: str) -> str:
    return f"{name} label mask"


def _dropping_name(name: str, background: float) -> str:
    return f"{name} without {background:g}"


def _rounded(value: float | None, digits: int = 4) -> float | None:
    return None if value is None else round(value, digits)
