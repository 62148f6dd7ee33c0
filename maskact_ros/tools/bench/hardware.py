"""`maskact bench hardware`: a machine's limits, matrix products and memory bandwidth, as torch reaches them.

In: device, rounds. Out: 10^9 operations per second by precision and threads, 10^9 bytes per second, and the machine.
`gemm_gflops` and `memory_gb_s` give one figure each; other benchmarks run `gemm.Gemm` and `gemm.Triad` as jobs.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from maskact_ros.core.errors import MaskACTError
from maskact_ros.tools.bench.options import add_device, add_output, add_rounds, check_output, check_range, put_out

if TYPE_CHECKING:
    from maskact_ros.tools.bench.gemm import Gemm
    from maskact_ros.tools.bench.machine import Machine
    from maskact_ros.tools.bench.timing import Job, Samples

SIZES = (64, 16384)


def add_command(benches: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare it."""
    hardware = benches.add_parser(
        "hardware",
        help="the limit: matrix products by precision and threads, memory",
        description="Measure the limits that a model can reach here: the product of two square matrices, in each "
        "precision that the processor or the card computes by instructions of its own, with one thread and with all; "
        "and memory, copied and by the triad a = b + s c, over arrays that no cache holds. All in turn, in rounds.",
    )
    hardware.set_defaults(run=_run)
    add_device(hardware)
    add_rounds(hardware, 10)
    hardware.add_argument("--size", type=int, default=2048, help="of the matrices; default: 2048")
    hardware.add_argument("--memory-mib", type=int, default=768, metavar="MIB", help="of the arrays; default: 768")
    add_output(hardware)


@dataclass(frozen=True, kw_only=True)
class Limits:
    """The device's speed; None for a precision that it supports only through another one."""

    device: str  # cpu, or a card by name
    threads: int  # of torch; without meaning on a GPU
    gemm_gflops: dict[str, float | None]  # by precision, with all threads
    gemm_gflops_by_threads: dict[str, dict[str, float]]  # by precision and number of threads; on a CPU
    gemm_spread: dict[str, float]  # interquartile range as a share of the median
    memory_gb_s: float  # the triad
    memory_copy_gb_s: float
    memory_spread: float


@dataclass(frozen=True, kw_only=True)
class HardwareResult:
    """The content of `--json`."""

    machine: Machine
    size: int
    rounds: int
    complete: bool  # false after Ctrl-C
    hardware: Limits


def gemm_gflops(precision: str, device: str = "cpu", *, rounds: int = 5) -> float:
    """The speed of a product of 2048x2048 matrices now, in 10^9 operations per second."""
    from maskact_ros.tools.bench.gemm import Gemm
    from maskact_ros.tools.bench.timing import interleaved

    gemm = Gemm(precision, device)
    return gemm.gflops(interleaved({precision: gemm}, rounds)[precision])


def memory_gb_s(device: str = "cpu", *, rounds: int = 5) -> float:
    """The speed of the triad now, in 10^9 bytes per second, reads and writes counted."""
    from maskact_ros.tools.bench.gemm import Triad
    from maskact_ros.tools.bench.timing import interleaved

    triad = Triad(device)
    return triad.gb_s(interleaved({"triad": triad}, rounds)["triad"])


def measure(device: str, rounds: int, *, size: int = 2048, memory_mib: int = 768) -> tuple[Limits, int]:
    """The limits of `cpu` or `cuda`, and the number of rounds: fewer than requested after Ctrl-C.

    Raises:
        KeyboardInterrupt: before one round was done.
    """
    import torch

    from maskact_ros.tools.bench.gemm import PRECISIONS, Copy, Gemm, Triad, reachable
    from maskact_ros.tools.bench.timing import interleaved

    where = torch.device(device)
    all_threads = torch.get_num_threads()
    counts = _thread_counts(all_threads) if where.type == "cpu" else [all_threads]
    precisions = [precision for precision in PRECISIONS if reachable(precision, where)]
    repeat = 1 if where.type == "cpu" else 20  # one product takes a GPU less time than its launch
    gemms: dict[tuple[str, int], Gemm] = {
        (precision, count): Gemm(precision, where, size=size, threads=count, repeat=repeat)
        for precision in precisions
        for count in counts
    }
    triad, copy = (kind(where, size_bytes=memory_mib << 20) for kind in (Triad, Copy))
    jobs: dict[str, Job] = {f"{precision} {count}": gemm for (precision, count), gemm in gemms.items()}
    samples = interleaved(jobs | {"triad": triad, "copy": copy}, rounds)

    def of(precision: str, count: int) -> Samples:
        return samples[f"{precision} {count}"]

    by_threads = {
        precision: {str(count): round(gemms[precision, count].gflops(of(precision, count)), 1) for count in counts}
        for precision in precisions
    }
    limits = Limits(
        device="cpu" if where.type == "cpu" else torch.cuda.get_device_name(where),
        threads=all_threads,
        gemm_gflops={p: by_threads[p][str(all_threads)] if p in by_threads else None for p in PRECISIONS},
        gemm_gflops_by_threads=by_threads if where.type == "cpu" else {},
        gemm_spread={precision: round(of(precision, all_threads).spread, 3) for precision in precisions},
        memory_gb_s=round(triad.gb_s(samples["triad"]), 2),
        memory_copy_gb_s=round(copy.gb_s(samples["copy"]), 2),
        memory_spread=round(samples["triad"].spread, 3),
    )
    return limits, samples["triad"].rounds


def _thread_counts(most: int) -> list[int]:
    """1, 2, 4, … and all."""
    counts = [1]
    while 2 * counts[-1] < most:
        counts.append(2 * counts[-1])
    return counts if most == 1 else [*counts, most]


def _run(a: argparse.Namespace) -> int:
    check_output(a)
    check_range("--rounds", a.rounds, 1, 100_000)
    check_range("--size", a.size, *SIZES)
    check_range("--memory-mib", a.memory_mib, 1, 65_536)
    if a.size % 16:
        raise MaskACTError(f"--size is {a.size}; allowed: a multiple of 16, which int8 products need")
    from maskact_ros.tools.bench.devices import chosen_device
    from maskact_ros.tools.bench.machine import Machine

    limits, rounds = measure(chosen_device(a.device), a.rounds, size=a.size, memory_mib=a.memory_mib)
    complete = rounds == a.rounds
    result = HardwareResult(machine=Machine.here(), size=a.size, rounds=rounds, complete=complete, hardware=limits)
    put_out(a, result, _print_table)
    if not complete:
        print(f"interrupted; these are {rounds} of {a.rounds} rounds", file=sys.stderr)
    return 0 if complete else 130


def _print_table(result: HardwareResult) -> None:
    limits = result.hardware
    print(result.machine.text)
    print("flags that matter: " + (", ".join(result.machine.flags) or "none"))
    print(f"\nProducts of {result.size}x{result.size} matrices on {limits.device}, median of {result.rounds} rounds")
    for precision, gflops in limits.gemm_gflops.items():
        if gflops is None:
            print(f"  {precision}  by way of another precision, so not measured")
            continue
        by_threads = limits.gemm_gflops_by_threads.get(precision, {})
        shown = ", ".join(f"{value:.0f} with {count}" for count, value in by_threads.items())
        print(f"  {precision}  {gflops:8.0f} GFLOP/s, spread {limits.gemm_spread[precision]:.0%}; by threads: {shown}")
    print(f"memory  {limits.memory_gb_s:.1f} GB/s by the triad, {limits.memory_copy_gb_s:.1f} GB/s copied")
