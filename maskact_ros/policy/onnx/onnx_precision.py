"""Graphs in int8: weights of the large matrix products quantised, activations at run time, the rest in fp32.

The mask head stays as it is: its convolutions decide about every pixel, and in int8 they are slower on a CPU.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from maskact_ros.policy.onnx.onnx_graphs import silence


def quantise(path: Path, exact: Sequence[str]) -> None:
    """Write a graph's file again with its products by constant matrices in int8, a scale for each column.

    The products of the modules `exact` stay as they are.
    """
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with silence():
        graph = onnx.load(path)
        left_out = [node.name for node in graph.graph.node if any(f"{name}.weight" in node.input for name in exact)]
        quantize_dynamic(
            graph,
            path,
            op_types_to_quantize=["MatMul"],
            per_channel=True,
            weight_type=QuantType.QInt8,
            # Seven bits: a CPU without VNNI adds two products up in sixteen, where those of eight bits do not fit.
            reduce_range=True,
            # It splits a product with a bias in two before it looks, and renames it.
            nodes_to_exclude=[*left_out, *(f"{name}_MatMul" for name in left_out)],
        )
