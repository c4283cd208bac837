"""Fusing: each layer's exported attention becomes one GroupQueryAttention over a cache of fixed size.

Optimum's graph rotates queries and keys, concatenates the cache and spells attention out, some ninety nodes a layer.
The rewriter looks for exactly that shape, from ``present.<layer>.key`` to the output projection, and replaces it by
ONNX Runtime's contrib operator (com.microsoft), which rotates, appends to the cache in place and attends. A graph in
which one layer does not match is left as it is: exported unfused, never wrongly.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

SEQLENS, TOTAL = "seqlens_k", "total_sequence_length"


class NoMatch(Exception):
    """A layer does not have the shape that can be fused; says where it differs."""


@dataclass(frozen=True, slots=True)
class Shape:
    """The attention's shape, and the rotation of every position: [positions, head_dim / 2]."""

    heads: int
    kv_heads: int
    head_dim: int
    cos: Any
    sin: Any


def fuse(model: Any, layers: int, shape: Shape) -> None:
    """Rewrite an exported model in place.

    Raises:
        NoMatch: it has another shape; the model is then of no further use.
    """
    _Rewriter(model.graph, shape).rewrite(layers)
    from onnx import helper

    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    _prune(model.graph)


class _Rewriter:
    def __init__(self, graph: Any, shape: Shape) -> None:
        self._graph, self._shape = graph, shape
        self._maker = {output: node for node in graph.node for output in node.output}
        self._users: dict[str, list[Any]] = {}
        for node in graph.node:
            for name in node.input:
                self._users.setdefault(name, []).append(node)
        self._constants = {tensor.name: tensor for tensor in graph.initializer}

    def rewrite(self, layers: int) -> None:
        from onnx import TensorProto, helper, numpy_helper

        for name, table in (("rotary_cos", self._shape.cos), ("rotary_sin", self._shape.sin)):
            self._graph.initializer.append(numpy_helper.from_array(np.asarray(table, dtype=np.float32), name))
        flat = np.array([0, 0, -1], dtype=np.int64)
        self._graph.initializer.append(numpy_helper.from_array(flat, "rows_by_channels"))
        nodes = [node for layer in range(layers) for node in self._layer(layer)]
        self._graph.node.extend(nodes)
        kept = [info for info in self._graph.input if info.name not in ("attention_mask", "position_ids")]
        del self._graph.input[:]
        self._graph.input.extend(kept)
        self._graph.input.append(helper.make_tensor_value_info(SEQLENS, TensorProto.INT32, ["batch_size"]))
        self._graph.input.append(helper.make_tensor_value_info(TOTAL, TensorProto.INT32, []))
        for info in (*self._graph.input, *self._graph.output):
            if info.name.startswith(("past_key_values", "present")):
                info.type.tensor_type.shape.dim[2].dim_param = "max_context"

    def _layer(self, layer: int) -> Iterator[Any]:
        """The nodes that replace one layer's attention."""
        from onnx import helper

        key_concat, value_concat = (self._maker[f"present.{layer}.{part}"] for part in ("key", "value"))
        softmax = self._softmax_behind(key_concat.output[0])
        scores = self._made(self._made(softmax.input[0], "Add").input[0], "MatMul")
        query, scale_q = self._scaled(scores.input[0])
        keys, scale_k = self._scaled(scores.input[1])
        self._made(keys, "Transpose")
        parts = {
            "query": self._before_transpose(self._unrotated(query)),
            "key": self._before_transpose(self._unrotated(key_concat.input[1])),
            "value": self._before_transpose(value_concat.input[1]),
        }
        flat = {}
        for part, source in parts.items():
            flat[part] = f"fused.{layer}.{part}"
            yield helper.make_node("Reshape", [source, "rows_by_channels"], [flat[part]])
        out = self._output_of(softmax)
        present = [f"present.{layer}.key", f"present.{layer}.value"]
        for concat in (key_concat, value_concat):
            self._graph.node.remove(concat)
        self._graph.node.remove(out)
        past = [f"past_key_values.{layer}.key", f"past_key_values.{layer}.value"]
        yield helper.make_node(
            "GroupQueryAttention",
            [*flat.values(), *past, SEQLENS, TOTAL, "rotary_cos", "rotary_sin"],
            [out.output[0], *present],
            name=f"attention.{layer}",
            domain="com.microsoft",
            num_heads=self._shape.heads,
            kv_num_heads=self._shape.kv_heads,
            scale=float(scale_q * scale_k),
            do_rotary=1,
            rotary_interleaved=0,
        )

    def _made(self, name: str, op: str) -> Any:
        """The node that makes ``name``, which must be an ``op``."""
        node = self._maker.get(name)
        if node is None or node.op_type != op:
            raise NoMatch(f"{name} is made by {node.op_type if node else 'nothing'}, not {op}")
        return node

    def _softmax_behind(self, name: str) -> Any:
        """The softmax that a layer's keys end up in."""
        seen, front = set(), [name]
        while front:
            for node in self._users.get(front.pop(), []):
                if node.op_type == "Softmax":
                    return node
                if node.op_type != "Shape" and node.name not in seen:
                    seen.add(node.name)
                    front.extend(node.output)
        raise NoMatch(f"no softmax behind {name}")

    def _scaled(self, name: str) -> tuple[str, float]:
        """What is multiplied by a constant, and the constant."""
        product = self._made(name, "Mul")
        factor = self._constant(product.input[1])
        if factor.size != 1:
            raise NoMatch(f"{name} is not scaled by a number")
        return product.input[0], float(factor.reshape(()))

    def _constant(self, name: str) -> Any:
        from onnx import numpy_helper

        if name in self._constants:
            return numpy_helper.to_array(self._constants[name])
        node = self._made(name, "Constant")
        return numpy_helper.to_array(node.attribute[0].t)

    def _unrotated(self, name: str) -> str:
        """The tensor before ``x·cos + rotate_half(x)·sin``, the two halves of a head rotated against each other."""
        plain, turned = (self._made(part, "Mul") for part in self._made(name, "Add").input)
        halves = self._made(turned.input[0], "Concat")
        negated, kept = self._made(halves.input[0], "Neg"), self._made(halves.input[1], "Slice")
        source = str(plain.input[0])
        if {self._made(negated.input[0], "Slice").input[0], kept.input[0]} != {source}:
            raise NoMatch(f"{name} is rotated in another way")
        return source

    def _before_transpose(self, name: str) -> str:
        """[batch, position, head, channel] before it was turned to [batch, head, position, channel]."""
        node = self._made(name, "Transpose")
        if list(node.attribute[0].ints) != [0, 2, 1, 3]:
            raise NoMatch(f"{name} is transposed by {list(node.attribute[0].ints)}")
        return str(node.input[0])

    def _output_of(self, softmax: Any) -> Any:
        """The reshape that joins the heads' outputs, behind softmax (and its guard against NaN) times values."""
        name = softmax.output[0]
        for ops in (("Where",), ("MatMul",), ("Transpose",), ("Reshape",)):
            found = [node for node in self._users.get(name, []) if node.op_type in ops]
            if not found and ops == ("Where",):
                continue
            if len(found) != 1:
                raise NoMatch(f"{name} has no single {ops[0]} behind it")
            name = found[0].output[0]
        return found[0]


def _prune(graph: Any) -> None:
    """Drop nodes that no output needs, in an order in which inputs come before users, and what only they used."""
    maker = {output: node for node in graph.node for output in node.output}
    ordered: list[Any] = []
    done: set[int] = set()

    def visit(name: str) -> None:
        stack = [(name, False)]
        while stack:
            current, expanded = stack.pop()
            node = maker.get(current)
            if node is None or id(node) in done:
                continue
            if expanded:
                done.add(id(node))
                ordered.append(node)
            else:
                stack.append((current, True))
                stack.extend((source, False) for source in node.input)

    for output in graph.output:
        visit(output.name)
    used = {name for node in ordered for name in node.input}
    nodes = [type(node).FromString(node.SerializeToString()) for node in ordered]
    tensors = [type(t).FromString(t.SerializeToString()) for t in graph.initializer if t.name in used]
    del graph.node[:], graph.initializer[:], graph.value_info[:]
    graph.node.extend(nodes)
    graph.initializer.extend(tensors)
