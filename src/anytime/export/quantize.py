"""Weights in fewer bits: blocks of integers with a scale each, or half precision."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

from anytime.bundle import Precision
from anytime.export.fuse import constant

_BITS: dict[Precision, int] = {"int8": 8, "int4": 4}
_BLOCK, _WIDE_BLOCK = 32, 128  # weights that share a scale; the wide one is what AWQ and GPTQ use
_WIDE = 1024  # rows of a matrix from which on blocks are wide, which the products are some 15 % faster with
_INT8_ACTIVATIONS = 4  # what MatMulNBits calls this accuracy level: products of integers, with a scale a block
_LEAST_WEIGHTS = 4096  # smaller tensors (norms, biases) stay as they are


def quantize(model: ir.Model, precision: Precision) -> ir.Model:
    """The model with its matrices in ``precision``; the other tensors stay fp32, and so do activations between them.

    int8 and int4 are round-to-nearest with a scale for each block of weights in a column (MatMulNBits, the products
    themselves in integers): 32 of them in a small matrix, 128 in a large one. The embedding, of which a step reads a
    row, has half precision in both. fp16 is how all matrices are stored; ONNX Runtime's CPU kernels compute in fp32.
    """
    if precision == "fp32":
        return model
    _store_halves(model, ("Gather",) if precision in _BITS else ("Gather", "MatMul"))
    return _in_blocks(model, _BITS[precision]) if precision in _BITS else model


def _store_halves(model: ir.Model, ops: tuple[str, ...]) -> None:
    """Matrices that these operators read, in half precision."""
    graph = model.graph
    for node in list(graph):
        if node.op_type not in ops:
            continue
        index = 0 if node.op_type == "Gather" else 1
        weights = node.inputs[index]
        tensor = weights.const_value if weights is not None else None
        if tensor is None or tensor.dtype != ir.DataType.FLOAT or tensor.size < _LEAST_WEIGHTS:
            continue
        half = constant(graph, f"{weights.name}.fp16", tensor.numpy().astype(np.float16))  # type: ignore[union-attr]
        node.replace_input_with(index, half)
        if node.op_type == "Gather":  # a row is widened when it is read
            row = node.outputs[0]
            cast = ir.node("Cast", [row], {"to": ir.DataType.FLOAT})
            graph.insert_after(node, cast)
            row.replace_all_uses_with(cast.outputs[0])
            cast.replace_input_with(0, row)
            row.dtype = ir.DataType.FLOAT16
        else:  # ONNX Runtime widens the matrix once, when it opens the graph
            cast = ir.node("Cast", [half], {"to": ir.DataType.FLOAT})
            graph.insert_before(node, cast)
            node.replace_input_with(1, cast.outputs[0])
        cast.outputs[0].name = f"{node.name}.fp32"
    RemoveUnusedNodesPass()(model)


def _in_blocks(model: ir.Model, bits: int) -> ir.Model:
    with _own_logging():
        from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

    ir.external_data.load_to_model(model)  # the quantizer does not know where files lie
    products = {node.name: node.inputs[1] for node in model.graph if node.op_type == "MatMul"}
    wide = [name for name, weights in products.items() if _is_wide(weights)]
    proto: Any = ir.to_proto(model)
    for block, others in ((_WIDE_BLOCK, [name for name in products if name not in wide]), (_BLOCK, wide)):
        quantizer = MatMulNBitsQuantizer(
            proto,
            bits=bits,
            block_size=block,
            is_symmetric=True,
            accuracy_level=_INT8_ACTIVATIONS,
            nodes_to_exclude=others,
        )
        quantizer.process()
        proto = quantizer.model.model
    quantized: ir.Model = ir.from_proto(proto)
    return quantized


def _is_wide(weights: ir.Value | None) -> bool:
    rows = weights.const_value.shape[0] if weights is not None and weights.const_value is not None else 0
    return isinstance(rows, int) and rows >= _WIDE and rows % _WIDE_BLOCK == 0


@contextlib.contextmanager
def _own_logging() -> Iterator[None]:
    """When imported, the quantizer's module sets up logging for the whole process; that is the program's to do."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    try:
        yield
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
