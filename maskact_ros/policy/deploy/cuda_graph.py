"""Records a module's kernels once, to launch them together: for one picture, launching takes longer than computing.

It does not use `torch.compile`: its graphs may be replayed only in the thread that recorded them, but a node warms up
in one thread and runs in another.
"""

from __future__ import annotations

import threading

import torch
from torch import Tensor, nn

_WARM_UP_RUNS = 3  # in these, libraries choose kernels and allocate memory, before the recording


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
            # Record this thread only: another policy may be running in another thread meanwhile.
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
