"""Fusing: each layer's exported attention becomes one operator over a cache of fixed size.

Optimum's graph normalizes and rotates queries and keys, concatenates the cache and spells attention out, some hundred
nodes a layer. The rewriter looks for exactly that shape, from ``present.<layer>.key`` back to the projections and on
to the heads' output, and replaces it by our own operator (``ext/attention_op.c``), which does all of that in place. A
graph in which one layer does not match is left as it is: exported unfused, never wrongly.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

DOMAIN, SEQLENS, WINDOW = "anytime", "seqlens_k", "local_window_size"
CHANNELS, MOST_CHANNELS = 16, 256  # of a head: a multiple of, and at most
_NORMALIZATION = {"Cast", "Pow", "ReduceMean", "Add", "Sqrt", "Div", "Mul"}


class NoMatch(Exception):
    """A layer does not have the shape that can be fused; says where it differs."""


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer's attention.

    ``rotary`` holds cos and sin of every position, each [positions, head_dim / 2]; None where nothing is rotated.
    ``window`` is how many positions a query sees, -1 for all.
    """

    heads: int
    kv_heads: int
    rotary: tuple[Any, Any] | None
    window: int


def fuse(model: ir.Model, layers: list[Layer]) -> None:
    """Rewrite an exported model, whose constants are initializers, in place.

    Raises:
        NoMatch: it has another shape; the model is then of no further use.
    """
    graph = model.graph
    last = ir.Value(name=SEQLENS, type=ir.TensorType(ir.DataType.INT32), shape=ir.Shape(["batch_size"]))
    graph.inputs.append(last)
    for index, layer in enumerate(layers):
        _fuse_layer(graph, index, layer, [last, *_tables(graph, layer)])
    for value in [*graph.inputs, *graph.outputs]:
        if value.name and value.name.startswith(("past_key_values", "present")):
            assert value.shape is not None
            batch, heads, _, channels = value.shape
            value.shape = ir.Shape([batch, heads, "max_context", channels])
    model.opset_imports[DOMAIN] = 1
    RemoveUnusedNodesPass()(model)
    for value in list(graph.inputs):
        if value.name in ("attention_mask", "position_ids"):
            graph.inputs.remove(value)


def _tables(graph: ir.Graph, layer: Layer) -> list[ir.Value | None]:
    """Initializers of a layer's rotation; layers that see a window rotate in their own way."""
    if layer.rotary is None:
        return [None, None]
    kind = "all" if layer.window < 0 else "window"
    return [
        constant(graph, f"rotary_{name}.{kind}", np.asarray(table, np.float32))
        for name, table in zip(("cos", "sin"), layer.rotary, strict=True)
    ]


def constant(graph: ir.Graph, name: str, array: Any) -> ir.Value:
    """An initializer of this name, made where there is none yet."""
    if name in graph.initializers:
        return graph.initializers[name]
    value = ir.Value(name=name, const_value=ir.tensor(array, name=name))
    graph.register_initializer(value)
    return value


def _fuse_layer(graph: ir.Graph, index: int, layer: Layer, positions: list[ir.Value | None]) -> None:
    outputs = {value.name: value for value in graph.outputs}
    key, value = outputs[f"present.{index}.key"], outputs[f"present.{index}.value"]
    key_concat, value_concat = _made(key, "Concat"), _made(value, "Concat")
    softmax = _softmax_behind(key)
    scores = _made(_made(_value(softmax, 0), "Add").inputs[0], "MatMul")
    query, scale_q = _scaled(scores.inputs[0])
    keys, scale_k = _scaled(scores.inputs[1])
    _made(keys, "Transpose")
    heads = [query, _value(key_concat, 1)]
    if layer.rotary is not None:
        heads = [_unrotated(part) for part in heads]
    q, k, v = (_projected(part) for part in (*heads, _value(value_concat, 1)))
    if v.norm is not None:
        raise NoMatch("values are normalized")
    out = _output_of(softmax)
    packed = pack(graph, out, f"attention.{index}", [q.source, k.source, v.source])
    attention = ir.node(
        "Attention",
        inputs=[packed, key_concat.inputs[0], value_concat.inputs[0], *positions, q.norm, k.norm],
        attributes={
            "num_heads": layer.heads,
            "kv_num_heads": layer.kv_heads,
            "scale": float(scale_q * scale_k),
            "epsilon": q.epsilon,
            WINDOW: layer.window,
        },
        domain=DOMAIN,
        num_outputs=3,
        name=f"attention.{index}",
    )
    graph.insert_before(out, attention)
    joined, *present = attention.outputs
    joined.name = f"attention.{index}.out"
    out.outputs[0].replace_all_uses_with(joined)
    for old, new in zip((key, value), present, strict=True):
        name, old.name = old.name, f"{old.name}.unfused"
        new.name, new.type, new.shape = name, old.type, old.shape
        graph.outputs[graph.outputs.index(old)] = new


def pack(graph: ir.Graph, before: ir.Node, name: str, parts: list[ir.Value]) -> ir.Value:
    """Projections side by side in one product, with one sum where they have a bias; otherwise joined as they are."""
    biases = [_constant_side(part, "Add") for part in parts]
    products = [bias[0] if bias is not None else part for bias, part in zip(biases, parts, strict=True)]
    weights = [_constant_side(product, "MatMul") for product in products]
    sources = {weight[0] if weight is not None else None for weight in weights}
    if None in sources or len(sources) > 1 or len({bias is None for bias in biases}) > 1:
        nodes = [ir.node("Concat", parts, {"axis": -1})]
    else:
        matrix = np.concatenate([weight[1] for weight in weights if weight is not None], axis=1)
        product = ir.node("MatMul", [sources.pop(), constant(graph, f"{name}.weight", matrix)], name=f"{name}.product")
        nodes = [product]
        if biases[0] is not None:
            bias = np.concatenate([bias[1] for bias in biases if bias is not None])
            nodes.append(ir.node("Add", [product.outputs[0], constant(graph, f"{name}.bias", bias)]))
    for number, node in enumerate(nodes):
        node.outputs[0].name = f"{name}.packed.{number}"
    graph.insert_before(before, nodes)
    return nodes[-1].outputs[0]


def _constant_side(value: ir.Value, op: str) -> tuple[ir.Value, Any] | None:
    """The variable and the constant operand of the ``op`` that makes the value; None where another one does."""
    node = value.producer()
    if node is None or node.op_type != op:
        return None
    for i, side in enumerate(node.inputs):
        other = node.inputs[1 - i]
        if side is not None and side.const_value is not None and other is not None:
            return other, side.const_value.numpy()
    return None


def _value(node: ir.Node, index: int) -> ir.Value:
    value = node.inputs[index]
    if value is None:
        raise NoMatch(f"{node.op_type} {node.name} lacks input {index}")
    return value


def _made(value: ir.Value | None, op: str) -> ir.Node:
    """The node that makes the value, which must be an ``op``."""
    node = value.producer() if value is not None else None
    if value is None or node is None or node.op_type != op:
        raise NoMatch(f"{value.name if value else value} is made by {node.op_type if node else 'nothing'}, not {op}")
    return node


def _softmax_behind(value: ir.Value) -> ir.Node:
    """The softmax that a layer's keys end up in."""
    seen, front = set(), [value]
    while front:
        for node in front.pop().consumers():
            if node.op_type == "Softmax":
                return node
            if node.op_type != "Shape" and node not in seen:
                seen.add(node)
                front.extend(node.outputs)
    raise NoMatch(f"no softmax behind {value.name}")


def _scaled(value: ir.Value | None) -> tuple[ir.Value, float]:
    """What is multiplied by a constant, and the constant."""
    product = _made(value, "Mul")
    factor = _value(product, 1).const_value
    if factor is None or factor.size != 1:
        raise NoMatch(f"{product.name} does not scale by a number")
    return _value(product, 0), float(factor.numpy().reshape(()))


def _unrotated(value: ir.Value | None) -> ir.Value:
    """The tensor before ``x·cos + rotate_half(x)·sin``, the two halves of a head rotated against each other."""
    total = _made(value, "Add")
    plain, turned = (_made(part, "Mul") for part in total.inputs)
    halves = _made(turned.inputs[0], "Concat")
    negated, kept = _made(halves.inputs[0], "Neg"), _made(halves.inputs[1], "Slice")
    source = _value(plain, 0)
    if not (_made(negated.inputs[0], "Slice").inputs[0] is kept.inputs[0] is source):
        raise NoMatch(f"{total.name} rotates in another way")
    return source


@dataclass(frozen=True, slots=True)
class _Projection:
    """[batch, position, heads · channels] before it was split into heads, and the weights of the heads' norm if any."""

    source: ir.Value
    norm: ir.Value | None
    epsilon: float


def _projected(value: ir.Value) -> _Projection:
    """Where queries, keys or values, [batch, head, position, channel], come from.

    A head's normalization works on the last axis alone, so it may stand before the turn to [batch, head, ..] or behind.
    """
    turn = _behind(value, "Transpose")
    if list(turn.attributes["perm"].as_ints()) != [0, 2, 1, 3]:
        raise NoMatch(f"{turn.name} transposes in another way")
    split = _behind(_value(turn, 0), "Reshape")
    source = _value(split, 0)
    normed = _value(turn, 0) if turn.outputs[0] is value else value
    if normed is split.outputs[0]:
        return _Projection(source, None, 0.0)
    scaled = _made(normed, "Mul")
    sides = [_value(scaled, i) for i in (0, 1)]
    weights = [side for side in sides if side.const_value is not None]
    rest = [side for side in sides if side.const_value is None]
    epsilon = _behind(rest[0], "Add").inputs[1] if len(weights) == len(rest) else None
    if epsilon is None or epsilon.const_value is None or epsilon.const_value.size != 1:
        raise NoMatch(f"{scaled.name} is no normalization with constant weights")
    return _Projection(source, weights[0], float(epsilon.const_value.numpy().reshape(())))


def _behind(value: ir.Value | None, op: str) -> ir.Node:
    """The ``op`` that the value, or the normalization that makes it, takes its input from."""
    front, seen = [value], set()
    while front:
        node = current.producer() if (current := front.pop()) is not None else None
        if node is None or node in seen:
            continue
        if node.op_type == op:
            return node
        if node.op_type not in _NORMALIZATION:
            break
        seen.add(node)
        front.extend(node.inputs)
    raise NoMatch(f"no {op} before {value.name if value else value}")


def _output_of(softmax: ir.Node) -> ir.Node:
    """The reshape that joins the heads' outputs, behind softmax (and its guard against NaN) times values."""
    value = softmax.outputs[0]
    for op in ("Where", "MatMul", "Transpose", "Reshape"):
        found = [node for node in value.consumers() if node.op_type == op]
        if not found and op == "Where":
            continue
        if len(found) != 1:
            raise NoMatch(f"{value.name} has no single {op} behind it")
        value = found[0].outputs[0]
    return found[0]
