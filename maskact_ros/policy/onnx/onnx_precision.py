"""Graphs in int8: the weights of large matrix products are quantised, activations at run time; the rest is fp32.

The mask head stays in fp32: its convolutions determine every pixel's class, and in int8 they are slower on a CPU.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from maskact_ros.policy.onnx.onnx_graphs import silence


def quantise(path: Path, exact: Sequence[str]) -> None:
    """Rewrite a graph's file with its products by constant matrices in int8, with a scale for each column.

    The products of the modules `exact` are not changed.
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
            # Seven bits: a CPU without VNNI adds two products in 16 bits, where products of eight bits overflow.
            reduce_range=True,
            # onnxruntime first splits a product with a bias into two nodes, and renames the product.
            nodes_to_exclude=[*left_out, *(f"{name}_MatMul" for name in left_out)],
        )
