"""The limits of a model's speed: products of square matrices, and memory bandwidth, both as torch reaches them.

`Gemm` and `Triad` are jobs for `timing.interleaved`; `reachable` tells which precisions the device supports directly.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from maskact_ros.tools.bench.machine import processor_flags
from maskact_ros.tools.bench.timing import Samples

SIZE = 2048
PRECISIONS = ("fp32", "bf16", "fp16", "int8")
TRIAD_BYTES = 3 << 28  # 768 MiB in three arrays: more than caches hold
_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16, "int8": torch.int8}
# One of these flags is needed: without, torch converts to another precision, and the figure would mean nothing.
_NEEDS = {
    "bf16": {"amx_bf16", "avx512_bf16", "bf16"},
    "fp16": {"amx_fp16", "avx512_fp16", "asimdhp"},
    "int8": {"amx_int8", "avx512_vnni", "avx_vnni", "asimddp", "i8mm"},
}


def reachable(precision: str, device: torch.device) -> bool:
    """Whether the device multiplies in this precision by instructions of its own."""
    if precision == "fp32":
        return True
    if device.type == "cuda":
        least = {"bf16": (8, 0), "fp16": (7, 0), "int8": (7, 5)}[precision]
        return torch.cuda.get_device_capability(device) >= least
    return bool(_NEEDS[precision] & processor_flags())


def finish(device: torch.device) -> None:
    """Wait until the device has finished all its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


class Gemm:
    """A job: the product of two square matrices, in single precision without TF32."""

    def __init__(
        self, precision: str, device: torch.device | str = "cpu", *, size: int = SIZE, threads: int = 0, repeat: int = 1
    ) -> None:
        self.device = torch.device(device)
        self.operations = repeat * 2 * size**3
        self._repeat = repeat
        self._threads = threads
        self._multiply = self._product(precision, size)

    def __call__(self) -> None:
        """One product, with `threads` threads of torch; 0 leaves the number unchanged."""
        before = torch.get_num_threads()
        if self._threads:
            torch.set_num_threads(self._threads)
        with torch.inference_mode():
            for _ in range(self._repeat):
                self._multiply()
        finish(self.device)
        if self._threads:
            torch.set_num_threads(before)

    def gflops(self, samples: Samples) -> float:
        """10^9 operations a second, of this job's samples."""
        return self.operations / samples.median_ms / 1e6

    def _product(self, precision: str, size: int) -> Callable[[], object]:
        generator = torch.Generator().manual_seed(0)
        left, right = (torch.randn(size, size, generator=generator) for _ in range(2))
        if precision == "int8":
            left, right = 40 * left, 40 * right
        a, b = (matrix.to(_DTYPES[precision]).to(self.device) for matrix in (left, right))
        if precision == "int8":
            return lambda: torch._int_mm(a, b)
        out = torch.empty_like(a)
        return lambda: torch.mm(a, b, out=out)


class Triad:
    """A job: a = b + s c over arrays that no cache holds (McCalpin's STREAM); 2 reads and a write per element."""

    def __init__(self, device: torch.device | str = "cpu", *, size_bytes: int = TRIAD_BYTES) -> None:
        self.device = torch.device(device)
        elements = size_bytes // 12
        self.moved_bytes = 12 * elements
        self._a, self._b, self._c = (torch.ones(elements, device=self.device) for _ in range(3))

    def __call__(self) -> None:
        """Once."""
        torch.add(self._b, self._c, alpha=2.0, out=self._a)
        finish(self.device)

    def gb_s(self, samples: Samples) -> float:
        """10^9 bytes a second, of this job's samples."""
        return self.moved_bytes / samples.median_ms / 1e6


class Copy:
    """A job: copy one array to another, as for pictures and messages; a read and a write for each element."""

    def __init__(self, device: torch.device | str = "cpu", *, size_bytes: int = TRIAD_BYTES) -> None:
        self.device = torch.device(device)
        elements = size_bytes // 8
        self.moved_bytes = 8 * elements
        self._a, self._b = (torch.ones(elements, device=self.device) for _ in range(2))

    def __call__(self) -> None:
        """Once."""
        self._a.copy_(self._b)
        finish(self.device)

    def gb_s(self, samples: Samples) -> float:
        """10^9 bytes a second, of this job's samples."""
        return self.moved_bytes / samples.median_ms / 1e6
