"""The device and precision for torch, by an `Engine`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from maskact_ros.policy.deploy.cuda_graph import GraphedModule
from maskact_ros.policy.deploy.deploy_encoder import DeployedEncoder
from maskact_ros.policy.deploy.deploy_mask_head import DeployedMaskHead
from maskact_ros.policy.deploy.deploy_planner import DeployedPlanner
from maskact_ros.policy.engine import Engine
from maskact_ros.policy.errors import PolicyError

_PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}

Deployed = DeployedEncoder | DeployedMaskHead | DeployedPlanner


class TorchPlace:
    """A device, a precision and a number of threads.

    Raises:
        PolicyError: torch cannot use the device, or cannot use it in that precision.
    """

    def __init__(self, engine: Engine) -> None:
        if engine.threads:
            torch.set_num_threads(engine.threads)
        self.device = _device(engine.device)
        if engine.precision == "fp16" and self.device.type == "cpu":
            raise PolicyError("precision is 'fp16' with the backend torch on a cpu; allowed: fp32, bf16")
        self._precision = _PRECISIONS[engine.precision]
        self._parts = ["torch", engine.precision, str(self.device)]
        if self.device.type == "cpu":
            threads = torch.get_num_threads()
            self._parts.append("1 thread" if threads == 1 else f"{threads} threads")
            if engine.precision == "bf16" and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
                self._parts.append("bfloat16 emulated, many times as slow as fp32")

    @property
    def text(self) -> str:
        """Such as "torch, fp32, cpu, 1 thread"; on a GPU it says whether kernels are launched as a graph."""
        return ", ".join(dict.fromkeys(self._parts))

    def prepare(self, module: Deployed, *inputs: Tensor) -> Callable[..., Any]:
        """Move a module to the device, in the precision; return the function to call for inputs like these.

        On a GPU it is the module's recorded graph, if it can be recorded; then all inputs must have these shapes.
        """
        module.compute_in(self._precision)
        module.to(self.device)
        if self.device.type != "cuda":
            return module
        try:
            with torch.inference_mode():
                graph = GraphedModule(module, *(tensor.to(self.device) for tensor in inputs))
        except (RuntimeError, AssertionError) as error:
            self._parts.append(f"without CUDA graphs ({' '.join(str(error).split())})")
            return module
        self._parts.append("CUDA graphs")
        return graph

    def tensor(self, array: NDArray[Any]) -> Tensor:
        """The array as a tensor on the device; a copy, since a message's array may be read-only."""
        return torch.tensor(array, device=self.device)

    def finish(self) -> None:
        """Wait until all work on the device is done."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError):
        raise PolicyError(f"device is {name!r}, which torch cannot use here; allowed: auto, cpu, cuda") from None
    return device


def as_array(tensor: Tensor) -> NDArray[Any]:
    """The tensor's values in host memory."""
    array: NDArray[Any] = tensor.cpu().numpy()
    return array
