"""`maskact export`: a checkpoint's encoder, mask head and planner as ONNX graphs, each compared with torch.

In: a checkpoint and a precision. Out: a folder as in `onnx_files`, complete or absent.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import replace
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from shlex import quote
from typing import Any

import torch
from numpy.typing import NDArray

from maskact_ros.core.checkpoint import CheckpointInfo
from maskact_ros.core.folders import complete_or_absent
from maskact_ros.core.outputs import output_path
from maskact_ros.policy.engine import Engine
from maskact_ros.policy.errors import PolicyError
from maskact_ros.policy.onnx.onnx_check import differences
from maskact_ros.policy.onnx.onnx_files import (
    EXPORTED,
    MASK_HEAD,
    Difference,
    Export,
    checkpoint_hash,
    export_folder,
    file_of,
    fingerprint,
)
from maskact_ros.policy.onnx.onnx_graphs import OPSET, Deployed, graphs, write_graph
from maskact_ros.policy.onnx.onnx_precision import quantise
from maskact_ros.policy.onnx.onnx_sessions import CPU, Place, open_graph

_LIBRARIES = ("onnx", "onnxscript", "onnxruntime")


def export(
    checkpoint: Path,
    *,
    precision: str,
    dynamic: bool = False,
    out: Path | None = None,
    overwrite: bool = False,
) -> Export:
    """Export a checkpoint to `CHECKPOINT/onnx/PRECISION`, or to `out`; print its outputs' differences from torch's.

    A policy that was trained without some labels' patches is always exported with `dynamic`.

    Raises:
        MaskACTError: a library is missing, the folder exists, the checkpoint is damaged, an output differs from torch's
            by more than its tolerance, or writing fails. Then no file remains.
    """
    if missing := [name for name in _LIBRARIES if find_spec(name) is None]:
        raise PolicyError(f'{" and ".join(missing)} not installed, which exports need: pip install "maskact_ros[onnx]"')
    info = CheckpointInfo.read(checkpoint)
    info.verify()
    usual = export_folder(info, precision)
    folder = usual if out is None else output_path(out)
    sources = () if folder == usual else (info.folder,)  # an export's own place is in its checkpoint
    with complete_or_absent(folder, EXPORTED, overwrite=overwrite, sources=sources) as partial:
        done = _write(info, partial, precision, dynamic=dynamic or bool(info.config.dropped_labels))
    print(f"{folder}: {precision}, " + ("any number of patches" if done.dynamic else f"all {done.patches} patches"))
    for name, difference in done.differences.items():
        print(_line(name, difference))
    if precision == "int8":
        print(
            "what that does to the masks' IoU and to success, in the simulated task: "
            f"maskact evaluate {quote(str(info.folder))} --backend onnxruntime --precision int8"
        )
    return done


def _write(info: CheckpointInfo, folder: Path, precision: str, *, dynamic: bool) -> Export:
    """Write the graphs and `export.json` to an existing folder; raises MaskACTError beyond a tolerance."""
    _say(f"loading {info.folder}")
    exported = Deployed.load(info, torch.float16 if precision == "fp16" else torch.float32)
    inputs = {}
    for graph in graphs(info, exported, dynamic=dynamic):
        _say(f"exporting the {graph.name.replace('_', ' ')}")
        inputs[graph.name] = graph.shapes()
        path = folder / file_of(graph.name)
        write_graph(graph, path)
        if precision == "int8" and graph.name != MASK_HEAD:
            quantise(path, graph.exact)
    record = Export(
        weights_hash=info.weights_hash,
        checkpoint_hash=checkpoint_hash(info),
        precision=precision,
        dynamic=dynamic,
        patches=info.config.patches_per_side**2,
        opset=OPSET,
        made_with={name: version(name) for name in ("torch", *_LIBRARIES)},
        inputs=inputs,
        differences={},
        files={file_of(name): fingerprint(folder / file_of(name)) for name in inputs},
    )
    _say("comparing with torch")
    reference = Deployed.load(info) if precision == "fp16" else exported
    engine, place = Engine(backend="onnxruntime", precision=precision, device="cpu"), Place((CPU,), "cpu", 0)
    sessions = {name: open_graph(record, folder, name, engine, place) for name in inputs}

    def run(name: str, values: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        return sessions[name](values)

    found = differences(info, reference, run, precision, dynamic=dynamic)
    failed = [_line(name, difference) for name, difference in found.items() if not difference.passes]
    if failed:
        raise PolicyError(f"the export in {precision} is too far from torch, and is not kept: {'; '.join(failed)}")
    record = replace(record, differences=found)
    record.write(folder)
    return record


def _line(name: str, difference: Difference) -> str:
    return f"{name}: {difference.largest:.2g}, allowed {difference.tolerance:g} ({difference.measure})"


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
