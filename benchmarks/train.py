"""`benchmarks train`: how many samples a second our trainer learns from, beside the same model in a plain style.

In: stage, backbone, size, batch. Out: a row for each way to train and precision, of one step with its data, measured in
turn with a matrix product and the baseline. On a card batches are made in threads beside, as the trainer does.
"""

from __future__ import annotations

import argparse
import sys

from benchmarks.train_rows import PRECISIONS, VARIANTS, TrainArguments, TrainResult
from maskact_ros.tools.bench.options import add_device, add_output, check_output, check_range, listed, put_out

STAGES = ("stage1", "stage2")
_BATCH = {"cpu": 4, "cuda": 64}


def add_command(benches: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare it."""
    train = benches.add_parser(
        "train",
        help="a training step with its data: samples a second by precision, with and without LoRA",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="""Train policies of random weights on rows of noise, and say what a step takes, batch included:

  frozen          the backbone is frozen, and computed in each step
  frozen_cached   the same, its features read from their cache
  lora            LoRA adapters are trained within a frozen backbone

by our trainer in each precision, beside a matrix product of the same precision and the baseline, a plain training
script in benchmarks/ of the source tree: samples read and decoded one by one from HDF5, everything eager, attention
masks built query by query, single precision. All of them take their steps in turn.""",
    )
    train.set_defaults(run=_run)
    add_device(train)
    train.add_argument("--stage", choices=STAGES, default="stage2", help="default: stage2")
    train.add_argument(
        "--backbone", default="dinov3_vits16", help="dinov3_vits16, dinov3_vitb16, dinov3_vitl16; default: the first"
    )
    train.add_argument("--image-size", type=int, default=224, help="default: 224")
    train.add_argument("--batch-size", type=int, default=0, metavar="B", help="default: 4, on a card 64")
    train.add_argument("--steps", type=int, default=10, metavar="N", help="of each, in turn; default: 10")
    train.add_argument(
        "--variants", default=",".join(VARIANTS), metavar="V,…", help=f"of {', '.join(VARIANTS)}; default: all"
    )
    train.add_argument("--precisions", default=",".join(PRECISIONS), metavar="P,…", help="of ours; default: fp32,bf16")
    train.add_argument("--compile", action="store_true", help="ours as `maskact train --compile`; takes a while first")
    train.add_argument("--threads", type=int, default=0, help="of torch on the CPU; default: torch's choice")
    train.add_argument("--no-baseline", action="store_true", help="leave it out, since it takes longest")
    add_output(train)


def _run(a: argparse.Namespace) -> int:
    check_output(a)
    check_range("--steps", a.steps, 1, 100_000)
    check_range("--threads", a.threads, 0, 1024)
    check_range("--batch-size", a.batch_size, 0, 4096)
    import torch

    from benchmarks.train_run import measure
    from maskact_ros.tools.bench.devices import chosen_device

    if a.threads:
        torch.set_num_threads(a.threads)
    device = chosen_device(a.device)
    arguments = TrainArguments(
        stage=a.stage,
        backbone=a.backbone,
        image_size=a.image_size,
        batch_size=a.batch_size or _BATCH[device],
        steps=a.steps,
        device=device,
        baseline=not a.no_baseline,
        variants=tuple(listed("--variants", a.variants, VARIANTS)),
        precisions=tuple(listed("--precisions", a.precisions, PRECISIONS)),
        compile=a.compile,
    )
    result = measure(arguments)
    put_out(a, result, lambda shown: print(table(shown)))
    if not result.complete:
        print(f"interrupted; these are {result.steps} of {a.steps} steps", file=sys.stderr)
    return 0 if result.complete else 130


def table(result: TrainResult) -> str:
    """For people."""
    limits, first = result.hardware, result.rows[0]
    shown = ", ".join(f"{value:.0f} in {precision}" for precision, value in limits.gemm_gflops.items())
    lines = [
        result.machine.text,
        f"{limits.device}, {limits.threads} threads; a matrix product reaches {shown} GFLOP/s",
        f"{first.stage}, {first.backbone} at {first.image_size}, batches of {first.batch_size}"
        f"{', ours compiled' if result.compiled else ''}; median of {result.steps} steps",
        "",
        f"{'variant':<15}{'by':<10}{'precision':<11}{'ms':>9}{'p95':>9}{'samples/s':>11}{'of GEMM':>9}{'x base':>8}",
    ]
    for row in result.rows:
        share = "" if row.share_of_gemm is None else f"{row.share_of_gemm:.0%}"
        times = "" if row.speedup_over_baseline is None else f"{row.speedup_over_baseline:.2f}"
        lines.append(
            f"{row.variant:<15}{row.backend:<10}{row.precision:<11}{row.median_ms:>9.1f}{row.p95_ms:>9.1f}"
            f"{row.samples_per_s:>11.2f}{share:>9}{times:>8}"
        )
    return "\n".join([*lines, *(f"not measured: {reason}" for reason in result.left_out)])
