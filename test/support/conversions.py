"""Graphs that torch converts once, however often they are exported: it takes a second, even for the smallest."""

import io
import pickle
import shutil
from pathlib import Path

import torch

from maskact_ros.policy.onnx.onnx_graphs import Graph, write_graph


class Conversions:
    """In the place of `export.write_graph`; `files` has those that were written, by graph and content."""

    def __init__(self, folder: Path):
        self._folder = folder
        self.files: dict[tuple[str, bytes], Path] = {}

    def write_graph(self, graph: Graph, path: Path) -> None:
        content = io.BytesIO()
        _Content(content).dump((graph.module, graph.inputs, graph.outputs, graph.free))
        key = graph.name, content.getvalue()
        if key not in self.files:
            self.files[key] = self._folder / f"converted_{len(self.files)}.onnx"
            write_graph(graph, self.files[key])
        shutil.copy(self.files[key], path)


class _Content(pickle.Pickler):
    """Classes, attributes and numbers, and not where in memory they are."""

    def persistent_id(self, thing):
        if isinstance(thing, torch.Tensor):
            return thing.dtype, tuple(thing.shape), thing.stride(), thing.detach().numpy().tobytes()
        return None
