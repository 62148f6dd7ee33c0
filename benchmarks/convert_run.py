"""Measures our conversion, a plain script's, and the limits, in turn."""

from __future__ import annotations

import multiprocessing
import resource
import shutil
import tempfile
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from benchmarks.baseline_convert import convert as plain
from benchmarks.convert_bag import Scene, encode, read, record
from benchmarks.convert_rows import ConvertResult, Row
from maskact_ros.core.errors import MaskACTError
from maskact_ros.core.paths import shared
from maskact_ros.data.bags.contract import Contract
from maskact_ros.data.bags.convert import convert
from maskact_ros.data.datasets.lerobot_layout import Pictures
from maskact_ros.tools.bench.machine import Machine
from maskact_ros.tools.bench.timing import Samples, interleaved

PARTS = ("convert", "baseline", "read", "encode")


def measure(seconds: float, pictures: Pictures, rounds: int, *, with_baseline: bool) -> ConvertResult:
    """Measure all in turn. After Ctrl-C the complete rounds count; KeyboardInterrupt if there is none."""
    contract = Contract.from_yaml(shared("config/contract.yaml"))
    fps = round(contract.robot.policy_rate_hz)
    with tempfile.TemporaryDirectory(prefix="maskact_bench_") as name:
        folder = Path(name)
        bag = folder / "bag"
        record(bag, contract, seconds)
        scene = Scene(contract.robot.only_camera)
        jobs: dict[str, Callable[[], object]] = {
            "convert": lambda: _fresh(folder / "ours", lambda out: convert([bag], contract, out, pictures=pictures))
        }
        if with_baseline:
            topics = {
                "image": contract.image_topics[0],
                "mask": contract.mask_topic,
                "state": contract.state_topic,
                "action": contract.action_topic,
            }
            video = pictures == "video"
            jobs["baseline"] = lambda: _fresh(
                folder / "theirs", lambda out: plain(bag, out, topics=topics, fps=fps, video=video)
            )
        jobs["read"] = lambda: read(bag, contract)
        jobs["encode"] = lambda: _fresh(folder / "encoded", lambda out: _encode(scene, out, seconds, fps, pictures))
        peak_mib = _peak_memory_mib(bag, contract, folder / "alone", pictures)
        samples = interleaved(jobs, rounds, warm_up=0)  # a conversion takes seconds, and has nothing to warm up
    done = samples["convert"].rounds
    return ConvertResult(
        machine=Machine.here(),
        seconds=seconds,
        rounds=done,
        complete=done == rounds,
        peak_memory_mib=round(peak_mib, 1),
        rows=[_row(part, samples, seconds, pictures) for part in PARTS if part in samples],
    )


def _row(part: str, samples: dict[str, Samples], seconds: float, pictures: str) -> Row:
    taken = samples[part]
    limit = Samples(samples["read"].times_s + samples["encode"].times_s)
    plain = samples.get("baseline")
    return Row(
        part=part,
        images=pictures,
        median_ms=round(taken.median_ms, 1),
        p95_ms=round(taken.p95_ms, 1),
        spread=round(taken.spread, 3),
        times_real_time=round(seconds * 1e3 / taken.median_ms, 2),
        share_of_limit=round(limit.over(taken), 4),
        speedup_over_baseline=None if plain is None else round(plain.over(taken), 3),
    )


def _fresh(out: Path, work: Callable[[Path], object]) -> None:
    """Let `work` write to a new folder, and remove it."""
    work(out)
    shutil.rmtree(out)


def _encode(scene: Scene, out: Path, seconds: float, fps: int, pictures: Pictures) -> None:
    out.mkdir()
    encode(scene, out, seconds, fps=fps, video=pictures == "video")


def _peak_memory_mib(bag: Path, contract: Contract, out: Path, pictures: Pictures) -> float:
    """The peak memory of one conversion in a process of its own."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_convert_alone, args=(bag, contract, out, pictures, theirs))
    process.start()
    theirs.close()
    try:
        peak_mib: float = ours.recv()
    except EOFError:
        raise MaskACTError("the conversion in a process of its own ended without a result") from None
    process.join()
    shutil.rmtree(out)
    return peak_mib


def _convert_alone(bag: Path, contract: Contract, out: Path, pictures: Any, answer: Connection) -> None:
    convert([bag], contract, out, pictures=pictures)
    answer.send(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
