"""Shrinking: the projections of one input in one product, logits for the wanted positions only."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

from anytime.export.fuse import constant

FIRST_LOGIT = "first_logit"
_TO_THE_END = np.iinfo(np.int64).max


def shrink(model: ir.Model) -> None:
    """Rewrite an exported graph, whose constants are initializers, in place; its numbers stay as they are."""
    _want_last_logits(model.graph)
    _pack_products(model.graph)
    RemoveUnusedNodesPass()(model)


def _want_last_logits(graph: ir.Graph) -> None:
    """Only positions from ``first_logit`` on go through the head, the widest product of a small model."""
    head = _head(graph)
    hidden = head.inputs[0]
    first = ir.Value(name=FIRST_LOGIT, type=ir.TensorType(ir.DataType.INT64), shape=ir.Shape([1]))
    graph.inputs.append(first)
    ends = constant(graph, "to_the_end", np.array([_TO_THE_END]))
    axes = constant(graph, "positions", np.array([1]))
    cut = ir.node("Slice", [hidden, first, ends, axes], name="wanted")
    cut.outputs[0].name = "wanted.out"
    graph.insert_before(head, cut)
    head.replace_input_with(0, cut.outputs[0])
    logits = next(value for value in graph.outputs if value.name == "logits")
    logits.shape = ir.Shape(["batch_size", "wanted", None])


def _head(graph: ir.Graph) -> ir.Node:
    """The product with the vocabulary, the last one before the logits."""
    value = next(value for value in graph.outputs if value.name == "logits")
    while (node := value.producer()) is not None:
        if node.op_type == "MatMul":
            return node
        if node.inputs[0] is None:
            break
        value = node.inputs[0]
    raise ValueError("no product makes the logits")


def _pack_products(graph: ir.Graph) -> None:
    """Products of one input with several constant matrices become one product, whose result is split."""
    by_input: dict[ir.Value, list[ir.Node]] = defaultdict(list)
    for node in graph:
        if node.op_type == "MatMul" and node.inputs[1] is not None and node.inputs[1].const_value is not None:
            by_input[node.inputs[0]].append(node)  # type: ignore[index]
    for source, products in by_input.items():
        if len(products) > 1:
            _pack(graph, source, products)


def _pack(graph: ir.Graph, source: ir.Value, products: list[ir.Node]) -> None:
    matrices = [node.inputs[1].const_value.numpy() for node in products]  # type: ignore[union-attr]
    name = f"{products[0].name}.packed"
    packed = constant(graph, f"{name}.weight", np.concatenate(matrices, axis=1))
    sizes = constant(graph, f"{name}.sizes", np.array([matrix.shape[1] for matrix in matrices]))
    product = ir.node("MatMul", [source, packed], name=name)
    product.outputs[0].name = f"{name}.out"
    split = ir.node("Split", [product.outputs[0], sizes], {"axis": -1}, num_outputs=len(products), name=f"{name}.split")
    graph.insert_before(products[0], [product, split])
    for old, new in zip(products, split.outputs, strict=True):
        new.name = f"{old.outputs[0].name}.part"
        old.outputs[0].replace_all_uses_with(new)
