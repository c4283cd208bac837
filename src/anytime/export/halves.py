"""Half precision for TensorRT: products of halves, weights as halves or as symmetric integers.

TensorRT takes types as the graph gives them ("strongly typed"). Matrices and what is multiplied with them are fp16;
norms, residual sums and activations stay fp32, where the largest ones have room and a step spends next to no time.
"""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

from anytime.bundle import Precision
from anytime.export.fuse import constant

_HALF = ir.DataType.FLOAT16
_OPSET, _OPSET_INT4 = 19, 21  # of DequantizeLinear with scales of halves, and with blocks of four bits
_BLOCKS = (128, 64, 32)  # weights of a column that share a scale, where they divide its rows: the largest
_SMALLEST = np.float16(2**-24)  # a scale of zero is refused


def halve(model: ir.Model, precision: Precision) -> None:
    """Rewrite a graph in single precision in place.

    fp16 weights are stored as they are multiplied. int8 ones have a scale for each column, int4 ones for each block of
    a column (DequantizeLinear without zero points); a matrix that int4 does not fit, since its columns are odd in
    number or no block divides its rows, has int8. The embedding, of which a step reads a row, is fp16 in all of them.
    """
    graph = model.graph
    for node in list(graph):
        index = {"Gather": 0, "MatMul": 1}.get(node.op_type)
        weights = node.inputs[index] if index is not None else None
        tensor = weights.const_value if weights is not None else None
        if weights is None or tensor is None or tensor.dtype != ir.DataType.FLOAT:
            continue
        if node.op_type == "Gather":
            node.replace_input_with(0, _as_halves(graph, weights))
        else:
            half = ir.node("Cast", [node.inputs[0]], {"to": _HALF}, name=f"{node.name}.half")
            half.outputs[0].name = f"{half.name}.0"
            graph.insert_before(node, half)
            node.replace_input_with(0, half.outputs[0])
            node.replace_input_with(1, _stored(graph, node, weights, precision))
        _widen(graph, node)
    RemoveUnusedNodesPass()(model)
    model.opset_imports[""] = _OPSET_INT4 if precision == "int4" else _OPSET


def _widen(graph: ir.Graph, node: ir.Node) -> None:
    """In single precision, what makes use of the node's result in half precision."""
    result = node.outputs[0]
    cast = ir.node("Cast", [result], {"to": ir.DataType.FLOAT}, name=f"{node.name}.single")
    wide = cast.outputs[0]
    wide.name, wide.dtype, wide.shape = f"{cast.name}.0", ir.DataType.FLOAT, result.shape
    graph.insert_after(node, cast)
    result.replace_all_uses_with(wide, replace_graph_outputs=True)
    cast.replace_input_with(0, result)
    result.dtype = _HALF
    if result.name == "logits":
        result.name, wide.name = f"{node.name}.0", "logits"


def _stored(graph: ir.Graph, node: ir.Node, weights: ir.Value, precision: Precision) -> ir.Value:
    """The matrix [rows, columns] as halves, or as what dequantizes to them."""
    assert weights.const_value is not None
    matrix = weights.const_value.numpy()
    bits, block = _format(precision, *matrix.shape)
    if bits == 16:
        return _as_halves(graph, weights)
    integers, scales = in_integers(matrix, bits, block)
    axes: dict[str, int] = {"axis": 0, "block_size": block} if bits == 4 else {"axis": 1}
    inputs = [
        constant(graph, f"{weights.name}.int{bits}", integers),
        constant(graph, f"{weights.name}.int{bits}.scales", scales if bits == 4 else scales[0]),
    ]
    dequantize = ir.node("DequantizeLinear", inputs, axes, name=f"{node.name}.dequantize")
    dequantize.outputs[0].name = f"{dequantize.name}.0"
    graph.insert_before(node, dequantize)
    return dequantize.outputs[0]


def _format(precision: Precision, rows: int, columns: int) -> tuple[int, int]:
    """Bits of a matrix, and how many rows share a scale."""
    if precision not in ("int8", "int4"):
        return 16, rows
    block = next((size for size in _BLOCKS if rows % size == 0), None)
    return (4, block) if precision == "int4" and block is not None and columns % 2 == 0 else (8, rows)


def in_integers(matrix: Any, bits: int, block: int) -> tuple[Any, Any]:
    """Symmetric round-to-nearest: integers [rows, columns], and fp16 scales [rows / block, columns]."""
    rows, columns = matrix.shape
    most = 2 ** (bits - 1) - 1
    blocks = matrix.reshape(rows // block, block, columns)
    steps = np.abs(blocks).max(axis=1) / most
    scales = np.maximum(steps.astype(np.float16), _SMALLEST)
    scales = np.where(scales < steps, np.nextafter(scales, np.float16(np.inf)), scales)  # so that the largest one fits
    rounded = np.clip(np.rint(blocks / scales[:, None].astype(np.float32)), -most, most)
    integers = rounded.reshape(rows, columns).astype(ml_dtypes.int4 if bits == 4 else np.int8)
    return integers, scales


def _as_halves(graph: ir.Graph, weights: ir.Value) -> ir.Value:
    assert weights.const_value is not None
    return constant(graph, f"{weights.name}.fp16", weights.const_value.numpy().astype(np.float16))
