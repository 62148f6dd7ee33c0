"""`Engine`: the user's choice of backend, precision, device and threads for running a policy.

It imports neither torch nor onnxruntime, so that parameters and command lines can use the names.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from maskact_ros.policy.errors import PolicyError

BACKENDS = ("auto", "torch", "onnxruntime")
PRECISIONS = ("fp32", "bf16", "fp16", "int8")
EXPORTABLE = ("fp32", "fp16", "int8")
MOST_THREADS = 1024
_DEVICE = re.compile(r"auto|cpu|cuda(:[0-9]{1,3})?")
_OF_BACKEND = {"auto": PRECISIONS, "torch": ("fp32", "bf16", "fp16"), "onnxruntime": EXPORTABLE}


@dataclass(frozen=True, kw_only=True)
class Engine:
    """Backend, precision, device and threads.

    Raises:
        PolicyError: a value or a combination that does not exist. Loading checks whether this machine has the device.
    """

    backend: str = "auto"  # auto takes what is fastest here and can compute with `precision`
    precision: str = "fp32"  # of weights and activations; bf16 is faster on a GPU, and on a CPU with AMX
    device: str = "auto"  # auto (CUDA if there is a GPU), cpu, cuda or cuda:N
    threads: int = 0  # of one computation, for the whole process; 0 leaves it to the library

    def __post_init__(self) -> None:
        if self.backend not in BACKENDS:
            raise PolicyError(f"backend is {self.backend!r}; allowed: {', '.join(BACKENDS)}")
        if self.precision not in PRECISIONS:
            raise PolicyError(f"precision is {self.precision!r}; allowed: {', '.join(PRECISIONS)}")
        if self.precision not in (allowed := _OF_BACKEND[self.backend]):
            raise PolicyError(
                f"precision is {self.precision!r} with the backend {self.backend}; allowed: {', '.join(allowed)}"
            )
        if self.precision == "fp16" and self.backend == "torch" and self.device == "cpu":
            raise PolicyError("precision is 'fp16' with the backend torch on a cpu; allowed: fp32, bf16")
        if not _DEVICE.fullmatch(self.device):
            raise PolicyError(f"device is {self.device!r}; allowed: auto, cpu, cuda, cuda:N")
        if not 0 <= self.threads <= MOST_THREADS:
            raise PolicyError(f"threads is {self.threads}; allowed: a number from 0 to {MOST_THREADS}")
