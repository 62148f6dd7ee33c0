"""`benchmarks model`: the time of each part of a policy's step, by backend and precision, and its limit.

In: backbones, sizes, engines. Out: rows of milliseconds, shares of a matrix product's rate, and speed-ups over a plain
implementation, all measured in turn.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from benchmarks.model_rows import LeftOut, Limits, ModelResult, Row, table
from maskact_ros.core.errors import MaskACTError
from maskact_ros.tools.bench.options import (
    add_device,
    add_output,
    add_rounds,
    check_output,
    check_range,
    listed,
    put_out,
)

if TYPE_CHECKING:
    from benchmarks.model_policy import Setting
    from benchmarks.model_run import Plan
    from maskact_ros.policy.engine import Engine

_ON_CPU = {"backbone": "vits16", "image_size": "480,224"}
_ON_CUDA = {"backbone": "vits16,vitb16,vitl16", "image_size": "224,480"}


def add_command(benches: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare it."""
    model = benches.add_parser(
        "model",
        help="a policy's step, part by part, by backend and precision",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="""Run policies of random weights, from a 640x480 picture to a chunk, and say what the parts take:

  encoder, mask_head, act   DINOv3, the mask head with its vote, the transformer
  model                     these three
  rest                      all else: resizing, checks, copies, half precision for the way between the nodes
  step                      model and rest
  label_mask                who may attend to whom, a piece of act

by each backend and precision, beside a matrix product of the same precision and the baseline, a plain implementation
in benchmarks/ of the source tree. All of them run in turn, round by round; shares and speed-ups are medians of the
rounds' ratios. Rows with a background share leave so many patches out, as drop_isolated_patches does.""",
    )
    model.set_defaults(run=_run)
    add_device(model)
    add_rounds(model, 10)
    model.add_argument(
        "--backbone", metavar="B,…", help="vits16, vitb16, vitl16, or tiny; default: vits16, on a card all three"
    )
    model.add_argument("--image-size", metavar="S,…", help="default: 480,224")
    model.add_argument("--chunk", type=int, default=100, help="points; default: 100")
    model.add_argument("--dim-model", type=int, default=512, help="the transformer's width; default: 512")
    model.add_argument("--backends", default="torch,onnxruntime", metavar="B,…", help="default: torch,onnxruntime")
    model.add_argument("--precisions", default="fp32,bf16,fp16,int8", metavar="P,…", help="default: all that exist")
    model.add_argument("--threads", type=int, default=0, help="default: 0, the libraries' choice")
    model.add_argument(
        "--background", default="0.2,0.5,0.8", metavar="SHARE,…", help="of dropped patches; default: 0.2,0.5,0.8"
    )
    model.add_argument("--no-baseline", action="store_true", help="leave it out, since it takes longest")
    add_output(model, plot="what the parts take")


@dataclass(frozen=True, kw_only=True)
class ModelArguments:
    """The command's arguments."""

    settings: tuple[Setting, ...]
    plan: Plan
    threads: int

    @classmethod
    def parse(cls, a: argparse.Namespace) -> ModelArguments:
        """From the command line; raises MaskACTError."""
        from benchmarks.model_policy import BACKBONES, Setting
        from benchmarks.model_run import Plan
        from maskact_ros.policy.engine import MOST_THREADS
        from maskact_ros.tools.bench.devices import chosen_device

        check_range("--rounds", a.rounds, 1, 100_000)
        check_range("--threads", a.threads, 0, MOST_THREADS)
        device = chosen_device(a.device)
        defaults = _ON_CPU if device == "cpu" else _ON_CUDA
        backbones = listed("--backbone", a.backbone or defaults["backbone"], BACKBONES)
        sizes = _numbers("--image-size", a.image_size or defaults["image_size"], 16, 4096)
        backgrounds = _numbers("--background", a.background, 0.0, 0.99) if a.background else ()
        settings = tuple(
            Setting(backbone=backbone, image_size=int(size), chunk=a.chunk, dim_model=a.dim_model)
            for backbone in backbones
            for size in sizes
        )
        for setting in settings:
            setting.config()
        plan = Plan(
            engines=_engines(a, device),
            device=device,
            rounds=a.rounds,
            backgrounds=backgrounds,
            baseline=not a.no_baseline,
        )
        return cls(settings=settings, plan=plan, threads=a.threads)


def _engines(a: argparse.Namespace, device: str) -> tuple[Engine, ...]:
    """Every combination of backend and precision that exists."""
    import itertools

    from maskact_ros.policy.engine import BACKENDS, PRECISIONS, Engine
    from maskact_ros.policy.errors import PolicyError

    backends = listed("--backends", a.backends, BACKENDS[1:])
    engines = []
    for backend, precision in itertools.product(backends, listed("--precisions", a.precisions, PRECISIONS)):
        try:
            engines.append(Engine(backend=backend, precision=precision, device=device, threads=a.threads))
        except PolicyError as error:
            refused = error
    if not engines:
        raise MaskACTError(f"--backends {a.backends} --precisions {a.precisions}: {refused}")
    return tuple(engines)


def _numbers(flag: str, text: str, least: float, most: float) -> tuple[float, ...]:
    try:
        numbers = tuple(float(number) for number in text.split(","))
    except ValueError:
        numbers = (float("nan"),)
    if not all(least <= number <= most for number in numbers):
        raise MaskACTError(f"{flag} is {text}; allowed: numbers from {least:g} to {most:g}, with commas between")
    return numbers


def _run(a: argparse.Namespace) -> int:
    check_output(a)
    arguments = ModelArguments.parse(a)
    result = measure(arguments, a.chunk, a.dim_model)
    put_out(a, result, lambda shown: print(table(shown)))
    if a.plot is not None and result.rows:
        from benchmarks.model_plot import plot

        plot(result, a.plot)
    if not result.complete:
        print("interrupted; these are the rounds that were done", file=sys.stderr)
    return 0 if result.complete else 130


def measure(arguments: ModelArguments, chunk: int, dim_model: int) -> ModelResult:
    """Measure one setting after the other; after Ctrl-C return the results so far."""
    import numpy as np
    import torch

    from benchmarks.model_run import Found, SettingRun
    from maskact_ros.core.progress import Progress
    from maskact_ros.tools.bench.machine import Machine

    plan = arguments.plan
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    left_out: list[LeftOut] = []
    founds: list[Found] = []
    complete = True
    with Progress("rounds", plan.rounds * len(arguments.settings)) as progress:
        for setting in arguments.settings:
            progress.advance(0, f"{setting.backbone} at {setting.image_size}")
            try:
                founds.append(SettingRun(setting, plan, left_out).measure(partial(progress.advance, 1)))
            except KeyboardInterrupt:
                complete = False
                break
            if founds[-1].rounds < plan.rounds:
                complete = False
                break
    rows: list[Row] = [row for found in founds for row in found.rows]
    reached: dict[str, list[float]] = {}
    for found in founds:
        for precision, gflops in found.gemm_gflops.items():
            reached.setdefault(precision, []).append(gflops)
    return ModelResult(
        machine=Machine.here(),
        hardware=Limits(
            device="cpu" if plan.device == "cpu" else torch.cuda.get_device_name(),
            threads=torch.get_num_threads(),
            gemm_gflops={precision: float(np.median(values)) for precision, values in reached.items()},
        ),
        chunk=chunk,
        dim_model=dim_model,
        rounds=min((found.rounds for found in founds), default=0),
        complete=complete,
        rows=rows,
        left_out=left_out,
    )
