"""Measures our trainer's steps, those of a plain script, and a matrix product, all in turn, on a dataset of noise."""

from __future__ import annotations

import contextlib
import json
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks import baseline_training
from benchmarks.model_policy import camera_picture
from benchmarks.train_rows import Limits, Row, TrainArguments, TrainResult
from maskact_ros.core.checkpoint import default_mask_classes
from maskact_ros.core.config import LATENT_LABEL, MaskACTConfig
from maskact_ros.core.paths import shared
from maskact_ros.core.progress import Progress
from maskact_ros.core.robot import RobotSpec
from maskact_ros.data.datasets.lerobot_layout import Layout
from maskact_ros.data.datasets.lerobot_layout import Row as DatasetRow
from maskact_ros.data.datasets.lerobot_writer import DatasetWriter
from maskact_ros.policy.model.backbone import preset
from maskact_ros.policy.model.maskact import TrainingBatch
from maskact_ros.policy.model.weights import save_checkpoint
from maskact_ros.tools.bench.gemm import Gemm, finish, reachable
from maskact_ros.tools.bench.machine import Machine
from maskact_ros.tools.bench.timing import Job, Samples, interleaved
from maskact_ros.training.run.augment import PRESETS
from maskact_ros.training.run.batches import Prefetcher
from maskact_ros.training.run.devices import loader_threads, moved, start_accelerator
from maskact_ros.training.run.features import open_tokens
from maskact_ros.training.run.settings import TrainSettings
from maskact_ros.training.run.step import take_step
from maskact_ros.training.run.training_run import Run, prepare

_NUM_MASK = 4
_EPISODES, _LEAST_ROWS = 4, 32
_GEMMS_ON_A_CARD = 20  # one product takes a card less than starting it
_WORKERS_ON_A_CARD = 8  # that read samples for the baseline
_FROZEN: dict[str, Any] = {"use_lora": False, "freeze_backbone": True}
_LORA: dict[str, Any] = {"use_lora": True, "freeze_backbone": True}
Episode = dict[str, NDArray[Any]]


@dataclass(frozen=True, kw_only=True)
class _Kind:
    """What is measured of one job."""

    variant: str
    backend: str
    precision: str
    gflop: float


def measure(arguments: TrainArguments, changes: dict[str, Any] | None = None) -> TrainResult:
    """All in turn; `changes` make the policy smaller, for tests.

    Raises:
        MaskACTError: the options make no policy.
        KeyboardInterrupt: before each has taken a step.
    """
    left_out: list[str] = []
    with (
        tempfile.TemporaryDirectory(prefix="maskact_bench_") as name,
        contextlib.ExitStack() as opened,
        contextlib.redirect_stdout(sys.stderr),
    ):
        bench = _Bench(arguments, Path(name), changes or {}, left_out, opened)
        for variant, policy in (("frozen", _FROZEN), ("lora", _LORA)):
            if wanted := [name for name in arguments.variants if name.startswith(variant)]:
                bench.add(variant, policy, wanted)
        with Progress("steps", arguments.steps) as progress:
            samples = interleaved(bench.jobs, arguments.steps, after_round=lambda: progress.advance(1))
    done = next(iter(samples.values())).rounds
    return TrainResult(
        machine=Machine.here(),
        hardware=Limits(
            device="cpu" if arguments.device == "cpu" else torch.cuda.get_device_name(),
            threads=torch.get_num_threads(),
            gemm_gflops={p: round(gemm.gflops(samples[f"gemm {p}"]), 1) for p, gemm in bench.gemms.items()},
        ),
        compiled=arguments.compile,
        steps=done,
        complete=done == arguments.steps,
        rows=[bench.row(job, kind, samples) for job, kind in bench.kinds.items()],
        left_out=left_out,
    )


class _Bench:
    """The jobs, and what each is."""

    def __init__(
        self,
        arguments: TrainArguments,
        folder: Path,
        changes: dict[str, Any],
        left_out: list[str],
        opened: contextlib.ExitStack,
    ) -> None:
        self.arguments, self._folder, self._changes, self._left_out = arguments, folder, changes, left_out
        self._open = opened
        self.jobs: dict[str, Job] = {}
        self.kinds: dict[str, _Kind] = {}
        self.gemms: dict[str, Gemm] = {}
        self._device = torch.device(arguments.device)
        self._config({})  # refused before anything is written
        for precision in dict.fromkeys(("fp32", *arguments.precisions)):
            if reachable(precision, self._device):
                repeat = 1 if arguments.device == "cpu" else _GEMMS_ON_A_CARD
                self.gemms[precision] = Gemm(precision, self._device, repeat=repeat)
                self.jobs[f"gemm {precision}"] = self.gemms[precision]
            else:
                left_out.append(f"{precision}: this device computes it by way of another precision")
        self._dataset, self._samples = folder / "dataset", folder / "samples.hdf5"
        robot = RobotSpec.from_yaml(shared("config/robot.yaml"))
        episodes = _episodes(max(_LEAST_ROWS, 2 * arguments.batch_size), len(robot.joints))
        _write_dataset(self._dataset, robot, episodes)
        if arguments.baseline:
            baseline_training.write_samples(self._samples, episodes)

    def add(self, variant: str, policy: dict[str, Any], wanted: list[str]) -> None:
        """The jobs of one policy, ours and the baseline's; `wanted` of `variant` and what is made of it."""
        run = self._prepared(variant, policy)
        gflop = _operations(run)
        if variant in wanted and self.arguments.baseline:
            save_checkpoint(self._folder / f"{variant}_checkpoint", run.learner.model)
            trainer = baseline_training.Trainer.load(
                self._folder / f"{variant}_checkpoint",
                self._samples,
                batch_size=self.arguments.batch_size,
                device=self.arguments.device,
                workers=0 if self.arguments.device == "cpu" else _WORKERS_ON_A_CARD,
            )
            self._add(_Kind(variant=variant, backend="baseline", precision="fp32", gflop=gflop), trainer.step)
        if variant in wanted:
            self._add_ours(variant, run, gflop)
        if f"{variant}_cached" not in wanted:
            return
        tokens, reason = open_tokens(
            replace(run.settings, cache_features="always"),
            run.learner.model,
            run.batches.rows.frames,
            [self._folder],
        )
        assert tokens is not None, reason
        cached = replace(run, batches=replace(run.batches, rows=replace(run.batches.rows, tokens=tokens)))
        self._add_ours(f"{variant}_cached", cached, _operations(cached))

    def row(self, job: str, kind: _Kind, samples: dict[str, Samples]) -> Row:
        """What was measured of a job."""
        a, own = self.arguments, samples[job]
        gemm = self.gemms.get(kind.precision)
        # Shares and speed-ups are of rounds: what disturbs one disturbs its neighbours.
        share = None
        if gemm is not None:
            product = samples[f"gemm {kind.precision}"]
            share = kind.gflop * 1e9 / gemm.operations / own.over(product)
        plain = samples.get(f"{kind.variant.removesuffix('_cached')} baseline fp32")
        return Row(
            part="train",
            variant=kind.variant,
            backend=kind.backend,
            precision=kind.precision,
            stage=a.stage,
            device=a.device,
            backbone=a.backbone,
            image_size=a.image_size,
            batch_size=a.batch_size,
            median_ms=own.median_ms,
            p95_ms=own.p95_ms,
            spread=own.spread,
            samples_per_s=a.batch_size / own.median_ms * 1e3,
            gflop=kind.gflop,
            share_of_gemm=share,
            speedup_over_baseline=None if plain is None else plain.over(own),
        )

    def _add_ours(self, variant: str, run: Run, gflop: float) -> None:
        for precision in (p for p in self.arguments.precisions if p in self.gemms):
            kind = _Kind(variant=variant, backend="torch", precision=precision, gflop=gflop)
            self._add(kind, self._steps(replace(run, settings=replace(run.settings, precision=precision))))

    def _add(self, kind: _Kind, step: Callable[[], object]) -> None:
        name = f"{kind.variant} {kind.backend} {kind.precision}"

        def job() -> None:
            step()
            finish(self._device)

        self.jobs[name], self.kinds[name] = job, kind

    def _steps(self, run: Run) -> Callable[[], object]:
        """A job: the next step, its batch made in the same thread, so that no other job pays for it.

        On a card in threads beside, as the trainer has it: there the processor makes them while the card computes.
        """
        numbers = range(run.settings.steps)
        batches: Iterator[tuple[int, TrainingBatch]]
        if self._device.type == "cpu":
            batches = ((n, run.batches.make(n)) for n in numbers)
        else:
            batches = iter(self._open.enter_context(Prefetcher(run.batches, numbers, loader_threads(run.accelerator))))
        return lambda: take_step(run, *next(batches))

    def _config(self, policy: dict[str, Any]) -> MaskACTConfig:
        """As in `python -m benchmarks model`: the specification's defaults, and rules that isolate the background."""
        seen = list(range(1, _NUM_MASK))
        rules = {str(label): [LATENT_LABEL, *seen] for label in (LATENT_LABEL, *seen)} | {"0": [0]}
        values = {
            "training_stage": self.arguments.stage,
            "vision_backbone": self.arguments.backbone,
            "dino_model_dir": "backbone",
            "image_size": self.arguments.image_size,
            "num_mask": _NUM_MASK,
            "label_attention_rules": rules,
        }
        return MaskACTConfig.from_dict(values | {k: v for k, v in self._changes.items() if k != "backbone"} | policy)

    def _prepared(self, variant: str, policy: dict[str, Any]) -> Run:
        a, config = self.arguments, self._config(policy)
        (self._folder / "backbone").mkdir(exist_ok=True)
        settings = preset(config.vision_backbone) | self._changes.get("backbone", {})
        (self._folder / "backbone" / "config.json").write_text(json.dumps(settings), encoding="utf-8")
        file = self._folder / f"{variant}.json"
        file.write_text(json.dumps(config.to_dict()), encoding="utf-8")
        run_settings = TrainSettings(
            datasets=(self._dataset,),
            config=file,
            out=self._folder / variant,
            stage=a.stage,
            steps=1_000_000,
            batch_size=a.batch_size,
            augment=PRESETS["none"],
            val_episodes=0.0,
            device=a.device,
            precision="fp32",
            compile=a.compile,
            cache=self._folder,
            cache_features="never",
        )
        return prepare(run_settings, start_accelerator(run_settings))


def _operations(run: Run) -> float:
    """10^9 operations of a step's matrix products, convolutions and attention, forwards and backwards, by counting."""
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    run.module.train()
    batch = moved(run.batches.make(0), run.accelerator.device)
    counter = FlopCounterMode(display=False)
    # The fused attention of CPUs is not counted; what it is made of, is.
    plainly = sdpa_kernel(SDPBackend.MATH) if run.accelerator.device.type == "cpu" else contextlib.nullcontext()
    with counter, plainly, torch.compiler.set_stance("force_eager"):
        run.module(batch).total.backward()
    run.learner.optimizer.zero_grad()
    return float(counter.get_total_flops()) / 1e9


def _episodes(rows: int, joints: int) -> list[Episode]:
    """Pictures of noise with masks, and smooth motions."""
    rng = np.random.default_rng(0)
    episodes = []
    for number in range(_EPISODES):
        length = -(-rows // _EPISODES)
        pictures = [camera_picture(number * length + t) for t in range(length)]
        coarse = rng.integers(0, _NUM_MASK, (length, 12, 16)).astype(np.uint8)
        states = np.sin(np.linspace(0, 3, length)[:, None] + rng.uniform(0, 3, joints)).astype(np.float32) / 100
        size = pictures[0].shape[1::-1]
        episodes.append(
            {
                "images": np.stack(pictures),
                "masks": np.stack([cv2.resize(mask, size, interpolation=cv2.INTER_NEAREST) for mask in coarse]),
                "joints": states,
                "actions": np.roll(states, -1, axis=0),
            }
        )
    return episodes


def _write_dataset(folder: Path, robot: RobotSpec, episodes: list[Episode]) -> None:
    classes = default_mask_classes(_NUM_MASK)
    stamp_ns = 0
    with DatasetWriter(folder, Layout(robot=robot, pictures="png", mask_classes=classes)) as writer:
        writer.documents["contract.yaml"] = f"mask_classes: [{', '.join(classes)}]\n"
        for episode in episodes:
            for rgb, mask, state, action in zip(*episode.values(), strict=True):
                writer.add(DatasetRow(stamp_ns=stamp_ns, state=state, action=action, rgb=rgb, mask=mask))
                stamp_ns += round(1e9 / robot.policy_rate_hz)
            writer.end_episode("made up")
