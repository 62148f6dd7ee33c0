"""A module's kernels recorded once and launched together: those of one picture take a GPU less time than their launch.

Recorded by hand, not by `torch.compile`, whose graphs may be replayed only in the thread that recorded them: a node
warms up in one thread and runs in another.
"""

from __future__ import annotations

import threading

import torch
from torch import Tensor, nn

_WARM_UP_RUNS = 3  # libraries choose their kernels and take their memory before the recording


class GraphedModule:
    """A module on a CUDA device, replayed; it takes inputs of the recorded shapes only."""

    def __init__(self, module: nn.Module, *inputs: Tensor) -> None:
        """Record the module on tensors like `inputs`, of the same shape, type and device; raises RuntimeError."""
        self._lock = threading.Lock()
        self._inputs = [tensor.clone() for tensor in inputs]
        with torch.cuda.device(inputs[0].device):
            side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
            side.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(side):
                for _ in range(_WARM_UP_RUNS):
                    module(*self._inputs)
            torch.cuda.current_stream().wait_stream(side)
            self._graph = torch.cuda.CUDAGraph()
            # Of this thread only: a policy that runs in another, while this one is loaded beside it, goes on.
            with torch.cuda.graph(self._graph, capture_error_mode="thread_local"):
                self._outputs = module(*self._inputs)

    def __call__(self, *inputs: Tensor) -> Tensor | tuple[Tensor, ...]:
        """As the module's own call; from any thread."""
        with self._lock:
            for own, given in zip(self._inputs, inputs, strict=True):
                own.copy_(given)
            self._graph.replay()
            if isinstance(self._outputs, Tensor):
                return self._outputs.clone()
            return tuple(output.clone() for output in self._outputs)
