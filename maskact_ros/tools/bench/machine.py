"""The description of the machine in a benchmark's results."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import platform
from dataclasses import dataclass
from pathlib import Path

# Flags of x86 and Arm processors that the speed of matrix products, and so of policies, depends on.
_FLAGS = (
    *("avx2", "fma", "avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16", "avx_vnni"),
    *("amx_tile", "amx_bf16", "amx_int8", "amx_fp16"),
    *("asimd", "asimdhp", "asimddp", "bf16", "i8mm", "sve", "sve2"),
)


@dataclass(frozen=True, kw_only=True)
class Machine:
    """The properties of a machine that its speed depends on."""

    cpu: str
    cores: int  # that this process may use
    virtual: bool
    flags: tuple[str, ...]  # the processor's flags that are in `_FLAGS`
    gpu: str  # names of NVIDIA's GPUs, or none
    kernel: str
    preemption: str  # PREEMPT_RT, PREEMPT_DYNAMIC, …
    python: str
    rclpy: str
    torch: str
    onnxruntime: str
    threads: int  # OpenMP's default number of threads

    @classmethod
    def here(cls) -> Machine:
        """This machine."""
        cpu = _cpu_fields()
        version = platform.version().split()  # such as: #1 SMP PREEMPT_DYNAMIC Mon …
        cores = len(os.sched_getaffinity(0))
        threads = os.environ.get("OMP_NUM_THREADS", "")
        return cls(
            cpu=cpu.get("model name") or platform.machine(),
            cores=cores,
            virtual="hypervisor" in cpu.get("flags", "").split(),
            flags=tuple(flag for flag in _FLAGS if flag in processor_flags()),
            gpu=_gpus(),
            kernel=platform.release(),
            preemption=next((word for word in version if word.startswith("PREEMPT")), "none"),
            python=platform.python_version(),
            rclpy=_version("ros-rclpy", "rclpy"),  # from the package index, from a ROS distribution
            torch=_version("torch"),
            onnxruntime=_version("onnxruntime", "onnxruntime-gpu"),
            threads=int(threads) if threads.isdecimal() else cores,
        )

    @property
    def text(self) -> str:
        """One line."""
        kind = "virtual cores" if self.virtual else "cores"
        gpu = "" if self.gpu == "none" else f", {self.gpu}"
        return (
            f"{self.cpu}, {self.cores} {kind}{gpu}; Linux {self.kernel}, preemption {self.preemption}; "
            f"Python {self.python}, rclpy {self.rclpy}, torch {self.torch}, onnxruntime {self.onnxruntime}"
        )


def processor_flags() -> frozenset[str]:
    """The processor's flags, by the kernel's names."""
    cpu = _cpu_fields()
    return frozenset((cpu.get("flags") or cpu.get("Features") or "").split())  # x86, Arm


def _cpu_fields() -> dict[str, str]:
    """The first processor's lines in /proc/cpuinfo."""
    first = Path("/proc/cpuinfo").read_text(encoding="utf-8").partition("\n\n")[0]
    pairs = (line.partition(":") for line in first.splitlines())
    return {name.strip(): value.strip() for name, _, value in pairs}


def _gpus() -> str:
    """The GPUs by NVIDIA's driver, so that no library has to be loaded; "none" without that driver."""
    names = []
    for file in sorted(Path("/proc/driver/nvidia/gpus").glob("*/information")):
        pairs = (line.partition(":") for line in file.read_text(encoding="utf-8").splitlines())
        names += [value.strip() for name, _, value in pairs if name.strip() == "Model"]
    return ", ".join(names) or "none"


def _version(*distributions: str) -> str:
    for distribution in distributions:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            return importlib.metadata.version(distribution)
    return "not installed"
