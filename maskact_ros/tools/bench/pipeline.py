"""`maskact bench pipeline`: the latency from the camera's image to a command, without the model's time.

In: camera, model, rates, load. Out: percentiles of each stage and of their sum, with and without the shared-memory
profile, for the chosen model and for a tiny one, whose messages have the same size.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from maskact_ros.core.errors import MaskACTError
from maskact_ros.tools.bench.options import add_load, add_output, check_output, put_out
from maskact_ros.tools.bench.pipeline_rows import Percentiles, PipelineResult, Row

if TYPE_CHECKING:
    from maskact_ros.tools.bench.pipeline_run import Case, Setting

SLICE_S = 15.0
PROFILES = ("both", "on", "off")
AIM_P95_MS = 8.0  # 640x480, ViT-S at 480


def add_command(benches: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare it."""
    pipeline = benches.add_parser(
        "pipeline",
        help="latency from the image to the command, without the model's time",
        description="Run the three nodes as bringup starts them, between a camera and an arm of the benchmark's own, "
        "on this machine alone, with a checkpoint of random weights. For each image, measure the time from its "
        "capture to the first command that follows from it, stage by stage, less the time that encoder, mask head and "
        "ACT take. A tiny model, whose messages have the same size, gives the same figures from more images.",
    )
    pipeline.set_defaults(run=_run)
    pipeline.add_argument("--seconds", type=float, default=30.0, help="for each row; default: 30")
    pipeline.add_argument("--camera", default="640x480", metavar="WxH", help="the images' size; default: 640x480")
    pipeline.add_argument(
        "--camera-rate", type=float, default=0.0, metavar="HZ", help="default: one image after the other"
    )
    pipeline.add_argument("--rate", type=float, default=500.0, metavar="HZ", help="of the command loop; default: 500")
    pipeline.add_argument("--image-size", type=int, default=480, help="side of the model's picture; default: 480")
    pipeline.add_argument("--backbone", default="dinov3_vits16", help="default: dinov3_vits16; tiny: no other model")
    pipeline.add_argument("--precision", choices=("fp32", "bf16"), default="fp32", help="of the model; default: fp32")
    pipeline.add_argument(
        "--profile", choices=PROFILES, default="both", help="config/fastdds.xml; default: both with and without"
    )
    add_load(pipeline)
    add_output(pipeline, plot="the stages")


def _run(a: argparse.Namespace) -> int:
    check_output(a)
    setting = _setting(a)
    if not a.seconds > 0:
        raise MaskACTError(f"--seconds is {a.seconds:g}; allowed: a number > 0")
    found, complete = _measure(_cases(a), setting, a.seconds)
    result = _result(a, setting, found, complete)
    put_out(a, result, _print_table)
    if a.plot is not None:
        from maskact_ros.tools.bench.pipeline_plot import plot

        plot(result, a.plot)
    return 0 if complete else 130


def _setting(a: argparse.Namespace) -> Setting:
    from maskact_ros.tools.bench.pipeline_run import Setting

    width, _, height = a.camera.partition("x")
    if not (width.isdecimal() and height.isdecimal()):
        raise MaskACTError(f"--camera is {a.camera}; allowed: width and height, such as 640x480")
    if not 10 <= a.rate <= 1000:
        raise MaskACTError(f"--rate is {a.rate:g}; allowed: a number from 10 to 1000")
    if not 0 <= a.camera_rate <= 1000:
        raise MaskACTError(f"--camera-rate is {a.camera_rate:g}; allowed: a number from 0 to 1000")
    return Setting(
        width=int(width),
        height=int(height),
        camera_rate_hz=a.camera_rate,
        control_rate_hz=a.rate,
        image_size=a.image_size,
        precision=a.precision,
        load=a.load,
    )


def _cases(a: argparse.Namespace) -> list[Case]:
    from maskact_ros.tools.bench.pipeline_run import TINY, Case

    backbones = dict.fromkeys([a.backbone, TINY])
    profiles = {"both": (True, False), "on": (True,), "off": (False,)}[a.profile]
    return [Case(backbone, profile) for backbone in backbones for profile in profiles]


def _measure(cases: list[Case], setting: Setting, seconds: float) -> tuple[dict[Case, list[dict[str, float]]], bool]:
    """The images of each case, and whether all was measured (no Ctrl-C). Cases take turns: equal disturbances."""
    import contextlib
    import tempfile

    from maskact_ros.core.progress import Progress
    from maskact_ros.tools.bench.pipeline_run import measure, write_checkpoint

    rounds = max(1, round(seconds / SLICE_S))
    found: dict[Case, list[dict[str, float]]] = {case: [] for case in cases}
    with tempfile.TemporaryDirectory(prefix="maskact_bench_") as name, contextlib.redirect_stdout(sys.stderr):
        checkpoints = {}
        for backbone in dict.fromkeys(case.backbone for case in cases):
            (folder := Path(name) / backbone).mkdir()
            checkpoints[backbone] = write_checkpoint(folder, backbone, setting)
        with Progress("runs", rounds * len(cases)) as progress:
            try:
                for i in range(rounds):
                    for j, case in enumerate(cases):
                        found[case] += measure(case, checkpoints[case.backbone], setting, seconds / rounds)
                        progress.reach(i * len(cases) + j + 1, case.backbone)
            except KeyboardInterrupt:
                return found, False
    return found, True


def _result(
    a: argparse.Namespace, setting: Setting, found: dict[Case, list[dict[str, float]]], complete: bool
) -> PipelineResult:
    from maskact_ros.tools.bench.machine import Machine

    rows = [_row(case, setting, images) for case, images in found.items() if images]
    if not rows:
        raise MaskACTError("no image led to a command in the time that was measured; allowed: more --seconds")
    p95 = {(row.backbone, row.profile): row.overhead_ms.p95 for row in rows}
    gain = {
        backbone: round(p95[backbone, False] / with_profile, 2)
        for (backbone, profile), with_profile in p95.items()
        if profile and (backbone, False) in p95
    }
    return PipelineResult(
        machine=Machine.here(),
        camera=a.camera,
        camera_rate_hz=setting.camera_rate_hz,
        control_rate_hz=setting.control_rate_hz,
        precision=setting.precision,
        load=setting.load,
        complete=complete,
        overhead_ms=rows[0].overhead_ms,
        profile_gain=gain,
        rows=rows,
    )


def _row(case: Case, setting: Setting, images: list[dict[str, float]]) -> Row:
    from maskact_ros.tools.bench.pipeline_stages import MODEL, STAGES, overhead_ms

    return Row(
        part="pipeline",
        backbone=case.backbone,
        image_size=setting.image_size,
        profile=case.profile,
        images=len(images),
        overhead_ms=_percentiles(list(overhead_ms(images))),
        model_ms=_percentiles([sum(image[name] for name in MODEL) for image in images]),
        stages_ms={name: _percentiles([image[name] for image in images]) for name in STAGES},
    )


def _percentiles(milliseconds: list[float]) -> Percentiles:
    import numpy as np

    p50, p95, p99 = (round(float(value), 3) for value in np.percentile(milliseconds, (50, 95, 99)))
    return Percentiles(p50=p50, p95=p95, p99=p99)


def _print_table(result: PipelineResult) -> None:
    from maskact_ros.tools.bench.pipeline_stages import BUSY, MODEL

    print(result.machine.text)
    pace = f"{result.camera_rate_hz:g} Hz" if result.camera_rate_hz else "one image after the other"
    print(f"camera {result.camera}, {pace}; command loop at {result.control_rate_hz:g} Hz; load: {result.load}")
    for row in result.rows:
        profile = "with" if row.profile else "without"
        print(f"\n{row.backbone} at {row.image_size}, {profile} the shared-memory profile, {row.images} images\n")
        print("| stage, in ms         |    p50 |    p95 |    p99 |")
        print("|----------------------|--------|--------|--------|")
        for name, stage in row.stages_ms.items():
            if name not in MODEL and (name not in BUSY or result.camera_rate_hz):
                _print_line(name, stage)
        _print_line("all of these", row.overhead_ms)
        _print_line("the model", row.model_ms)
    for backbone, gain in result.profile_gain.items():
        print(f"\n{backbone}: without the profile p95 is {gain:g} times as long")
    if not result.complete:
        print("\nended early by Ctrl-C")


def _print_line(name: str, stage: Percentiles) -> None:
    print(f"| {name:20} | {stage.p50:6.2f} | {stage.p95:6.2f} | {stage.p99:6.2f} |")
