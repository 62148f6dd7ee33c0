"""onnxruntime's sessions: on TensorRT or CUDA if available and chosen, else on the CPU.

In: an exported graph and an `Engine`. Out: a `GraphSession`, which takes arrays by name. Outputs can stay on the
device.
"""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Self

import numpy as np

from maskact_ros.core.checkpoint import EXPORT, CheckpointInfo
from maskact_ros.core.documents import shortened
from maskact_ros.core.errors import MaskACTError
from maskact_ros.policy.engine import Engine
from maskact_ros.policy.errors import PolicyError
from maskact_ros.policy.onnx.engine_cache import checked_engines, engine_folder
from maskact_ros.policy.onnx.onnx_files import Export, export_folder, file_of

TENSORRT, CUDA, CPU = "TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"
_SEVERE = 4  # onnxruntime logs fatal messages only; we report its other failures


@dataclass(frozen=True)
class Place:
    """The providers and the device for sessions."""

    providers: tuple[str, ...]  # best first; the CPU is always the last
    device: str  # as onnxruntime calls it
    device_id: int

    @classmethod
    def of(cls, engine: Engine, offered: Sequence[str]) -> Self:
        """The providers of this onnxruntime for a device; raises PolicyError if it cannot use the device."""
        asked, _, number = engine.device.partition(":")
        if asked == "cuda" and CUDA not in offered:
            raise PolicyError(
                f"device is {engine.device!r}, and the onnxruntime that is installed has no {CUDA}; "
                'pip install "maskact_ros[onnx-gpu]" has it'
            )
        if asked == "cpu" or CUDA not in offered:
            return cls((CPU,), "cpu", 0)
        # TensorRT has no kernels for our kind of quantised weights.
        best = (TENSORRT,) if TENSORRT in offered and engine.precision != "int8" else ()
        return cls((*best, CUDA, CPU), "cuda", int(number or 0))


class GraphSession:
    """One graph, ready to run; two threads may call it at once."""

    def __init__(self, session: Any, place: Place) -> None:
        self.place = place
        self._session = session
        self.inputs = tuple(entry.name for entry in session.get_inputs())
        self._outputs = tuple(entry.name for entry in session.get_outputs())

    @property
    def provider(self) -> str:
        """The first provider; operations that it does not support run on the next ones."""
        first: str = self._session.get_providers()[0]
        return first

    def fixed(self, name: str) -> int | None:
        """The first dimension of an input; None if it is free."""
        (shape,) = (entry.shape for entry in self._session.get_inputs() if entry.name == name)
        return shape[0] if isinstance(shape[0], int) else None

    def __call__(self, inputs: Mapping[str, Any], *, stay: Sequence[str] = ()) -> dict[str, Any]:
        """Outputs by name, complete when this returns: arrays on the host, or OrtValues for the names in `stay`.

        Inputs are contiguous arrays on the host, or OrtValues of another session on the same device.
        """
        binding = self._session.io_binding()
        for name in self.inputs:
            value = inputs[name]
            if isinstance(value, np.ndarray):
                binding.bind_cpu_input(name, value)
            else:
                binding.bind_ortvalue_input(name, value)
        # onnxruntime's arena allocates the outputs' memory and reuses it, and results of two calls never share memory.
        for name in self._outputs:
            binding.bind_output(name, self.place.device if name in stay else "cpu", self.place.device_id)
        self._session.run_with_iobinding(binding)
        binding.synchronize_outputs()
        values = dict(zip(self._outputs, binding.get_outputs(), strict=True))
        return {name: value if name in stay else value.numpy() for name, value in values.items()}


def onnxruntime() -> ModuleType:
    """The library; raises PolicyError if it is not installed."""
    try:
        import onnxruntime as library
    except ImportError:
        raise PolicyError('onnxruntime is not installed: pip install "maskact_ros[onnx]"') from None
    library.set_default_logger_severity(_SEVERE)
    module: ModuleType = library
    return module


def open_graphs(info: CheckpointInfo, engine: Engine, names: Sequence[str]) -> tuple[list[GraphSession], str]:
    """Sessions for graphs of a checkpoint's export, and a text that names library, precision and provider.

    Raises:
        MaskACTError: onnxruntime is not installed, there is no complete export of this checkpoint in this precision, or
            the device does not exist.
    """
    library = onnxruntime()
    place = Place.of(engine, library.get_available_providers())
    if place.device == "cuda" and hasattr(library, "preload_dlls"):  # since 1.21
        # The loader does not find pip's CUDA libraries, unless torch was imported before.
        with contextlib.redirect_stdout(io.StringIO()):  # the provider in use shows whether they were found
            library.preload_dlls()
    export, folder = Export.read(info, engine.precision), export_folder(info, engine.precision)
    sessions = [open_graph(export, folder, name, engine, place) for name in names]
    used = sessions[0].provider
    if used == CPU and engine.device not in ("auto", "cpu"):
        raise PolicyError(f"device is {engine.device!r}, and onnxruntime cannot load its {CUDA} here")
    missed = "" if used == place.providers[0] else f" ({place.providers[0]} cannot be loaded here)"
    threads = f", {_threads(engine.threads)}" if used == CPU else ""
    return sessions, f"onnxruntime, {engine.precision}, {used}{missed}{threads}"


def open_graph(export: Export, folder: Path, name: str, engine: Engine, place: Place) -> GraphSession:
    """A session of one graph, on the best of the place's providers that can be loaded; raises MaskACTError."""
    library = onnxruntime()
    content = export.graph(folder, name)
    options = library.SessionOptions()
    options.log_severity_level = _SEVERE
    options.graph_optimization_level = library.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.intra_op_num_threads = engine.threads
    # Encoder and inference share a robot's few cores: a spinning thread would take them from the other process.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    refusal = ""
    for first in range(len(place.providers)):
        kept = engine_folder(content, export.precision) if place.providers[first] == TENSORRT else None
        chosen = [(provider, _options(provider, place, export, kept, name)) for provider in place.providers[first:]]
        try:
            with warnings.catch_warnings(), nullcontext() if kept is None else checked_engines(kept):
                warnings.simplefilter("ignore")  # of a missing provider, which is checked below
                session = library.InferenceSession(content, options, providers=chosen, enable_fallback=0)
        except MaskACTError:
            raise
        except Exception as error:  # noqa: BLE001 onnxruntime has many exception classes without a common base
            refusal = " ".join(str(error).split())
            continue
        on_gpu = session.get_providers()[0] != CPU
        opened = GraphSession(session, place if on_gpu else Place((CPU,), "cpu", 0))
        if set(opened.inputs) != set(export.inputs.get(name, ())):
            raise PolicyError(f"{folder / file_of(name)}: not the {name} that {EXPORT} describes; export it again")
        return opened
    raise PolicyError(f"{folder / file_of(name)}: onnxruntime cannot run it ({shortened(refusal)})")


def _options(provider: str, place: Place, export: Export, kept: Path | None, name: str) -> dict[str, Any]:
    if provider == CUDA:
        # fp32 means fp32: TF32 would keep 10 bits of each number. The search for the best convolution takes seconds.
        return {"device_id": place.device_id, "use_tf32": 0, "cudnn_conv_algo_search": "HEURISTIC"}
    if provider != TENSORRT:
        return {}
    options: dict[str, Any] = {
        "device_id": place.device_id,
        "trt_fp16_enable": export.precision == "fp16",
    }
    if kept is not None:
        options |= {
            "trt_engine_cache_enable": True,  # building an engine takes minutes
            "trt_engine_cache_path": str(kept),
            "trt_engine_cache_prefix": name,
            "trt_timing_cache_enable": True,
            "trt_timing_cache_path": str(kept),
        }
    free = {
        graph_input: shape
        for graph_input, shape in export.inputs[name].items()
        if any(isinstance(dimension, str) for dimension in shape)
    }
    if free:
        # Else TensorRT builds an engine again, for minutes, whenever the number of patches exceeds all earlier ones.
        for key, patches in (("min", 1), ("opt", export.patches), ("max", export.patches)):
            options[f"trt_profile_{key}_shapes"] = ",".join(
                f"{graph_input}:" + "x".join(str(patches if isinstance(d, str) else d) for d in shape)
                for graph_input, shape in free.items()
            )
    return options


def _threads(threads: int) -> str:
    return "threads of its choice" if threads == 0 else "1 thread" if threads == 1 else f"{threads} threads"
