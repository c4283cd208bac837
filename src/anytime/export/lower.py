"""Lowering: a fused graph's attention in standard operators that TensorRT parses, over a cache of the full context.

There are two ways to extend the cache. In place (TensorRT from 10.15): TensorScatter writes new keys and values into
it, and its output has the same address. Appended (TensorRT from 10.3): attention looks at the cache and at the new keys
and values side by side, and these are returned for the runtime to put behind it; the cache is only read.

Queries, keys and values are multiplied in the type of the cache; norms, rotation and softmax have single precision.
What a query may see is a mask over all positions there can be: TensorRT before 11 aligns a causal mask with the first
key, not the last.
"""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

import numpy as np
import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

from anytime.export.fuse import DOMAIN, SEQLENS, WINDOW
from anytime.export.write import Writer

Update: TypeAlias = Literal["in-place", "appended"]

PAST_LENGTH = "past_length"
_OPSETS: dict[Update, int] = {"in-place": 24, "appended": 20}
_IR_VERSIONS: dict[Update, int] = {"in-place": 12, "appended": 10}  # the format's own version
_SINGLE = ir.DataType.FLOAT
_HIDDEN = -1e30  # the score of what a query may not see
_TO_THE_END = np.iinfo(np.int64).max


def lower(model: ir.Model, update: Update, context: int, dtype: ir.DataType) -> None:
    """Rewrite a fused graph in place, for a cache of ``context`` positions in ``dtype``.

    Its inputs are then ``input_ids`` [batch, positions], ``past_length`` [batch] (tokens in each row's cache),
    ``first_logit`` [1] and ``past_key_values.<layer>.{key,value}`` [batch, head, context, channel]. Its outputs are
    ``logits``, and ``present.<layer>.{key,value}``, the cache, or ``new.<layer>.{key,value}`` [batch, head, positions,
    channel].
    """
    graph = model.graph
    ids = next(value for value in graph.inputs if value.name == "input_ids")
    past = ir.Value(name=PAST_LENGTH, type=ir.TensorType(ir.DataType.INT64), shape=ir.Shape(["batch_size"]))
    graph.inputs.append(past)
    for value in graph.inputs:
        if value.name and value.name.startswith("past_key_values"):
            assert value.shape is not None
            batch, heads, _, channels = value.shape
            value.shape, value.dtype = ir.Shape([batch, heads, context, channels]), dtype
    first = next(iter(graph))
    positions = _Positions(Writer(graph, "positions"), ids, past, context, update)
    for node in [node for node in graph if node.domain == DOMAIN]:
        _Attention(node, graph, positions, dtype).lower(update)
    graph.insert_before(first, positions.write.nodes)
    RemoveUnusedNodesPass()(model)
    graph.inputs.remove(next(value for value in graph.inputs if value.name == SEQLENS))
    del model.opset_imports[DOMAIN]
    model.opset_imports[""] = max(_OPSETS[update], model.opset_imports[""])
    model.ir_version = _IR_VERSIONS[update]


class _Positions:
    """Where the new tokens stand, and what each of them may see: made once, used in every layer."""

    def __init__(self, write: Writer, ids: ir.Value, past: ir.Value, context: int, update: Update) -> None:
        self.write, self.past, self.context = write, past, context
        every = write.constant("all_positions", np.arange(context))
        each = write("Slice", every, write.ints(0), write("Shape", ids, start=1, end=2), write.ints(0))
        self.new = write("Add", write("Unsqueeze", past, write.ints(1)), each)  # [batch, positions]
        self._queries = write("Unsqueeze", self.new, write.ints(1, 3))  # [batch, 1, positions, 1]
        self._keys = write("Unsqueeze", every, write.ints(0, 1, 2))  # [1, 1, 1, context]
        if update == "appended":  # what the cache holds behind a row's end is nowhere
            end = write("Unsqueeze", past, write.ints(1, 2, 3))
            kept = write("Where", write("Less", self._keys, end), self._keys, write.ints(2 * context))
            self._keys = write("Concat", kept, write("Unsqueeze", self.new, write.ints(1, 2)), axis=-1)
        self._seen: dict[int, ir.Value] = {}
        self._rows: dict[ir.Value, ir.Value] = {}

    def seen(self, window: int) -> ir.Value:
        """What each new token may see, [batch, 1, positions, keys]: so many positions back, -1 for all."""
        if window not in self._seen:
            write = self.write
            mask = write("LessOrEqual", self._keys, self._queries)
            if window >= 0:
                before = write("Sub", self._queries, write.ints(window))
                mask = write("And", mask, write("Greater", self._keys, before))
            self._seen[window] = mask
        return self._seen[window]

    def rows(self, table: ir.Value) -> ir.Value:
        """A table's cosines or sines for the new tokens, [batch, 1, positions, channels / 2]."""
        if table not in self._rows:
            found = self.write("Gather", table, self.new)
            self._rows[table] = self.write("Unsqueeze", found, self.write.ints(1))
        return self._rows[table]


class _Attention:
    """One layer's fused node, and what takes its place."""

    def __init__(self, node: ir.Node, graph: ir.Graph, positions: _Positions, dtype: ir.DataType) -> None:
        self.node, self.graph, self.positions, self.dtype = node, graph, positions, dtype
        self.write = Writer(graph, str(node.name))
        attributes: dict[str, Any] = {name: attribute.value for name, attribute in node.attributes.items()}
        self.heads, self.kv_heads = attributes["num_heads"], attributes["kv_num_heads"]
        self.scale, self.epsilon, self.window = attributes["scale"], attributes["epsilon"], attributes[WINDOW]
        past_key, past_value = node.inputs[1], node.inputs[2]
        assert past_key is not None
        assert past_value is not None
        assert past_key.shape is not None
        channels = past_key.shape[3]
        assert isinstance(channels, int)
        self.past_key, self.past_value, self.channels = past_key, past_value, channels
        self.cos, self.sin, self.query_norm, self.key_norm = (*node.inputs[4:], None, None, None, None)[:4]

    def lower(self, update: Update) -> None:
        write, in_place = self.write, update == "in-place"
        heads = (self.heads, self.kv_heads, self.kv_heads)
        sizes = write.ints(*(self.channels * count for count in heads))
        packed = write.several(3, "Split", self.node.inputs[0], sizes, axis=-1)
        norms = (self.query_norm, self.key_norm, None)
        query, key, value = (
            self._heads(part, count, norm) for part, count, norm in zip(packed, heads, norms, strict=True)
        )
        query, key = self._turned(query, in_place), self._turned(key, in_place)
        if not in_place:
            query = write("Mul", query, write.number(self.scale))
        query, key, value = (write("Cast", part, to=self.dtype) for part in (query, key, value))
        out, cache = (self._in_place if in_place else self._appended)(query, key, value)
        joined = write("Reshape", write("Transpose", out, perm=[0, 2, 1, 3]), write.ints(0, 0, -1))
        joined = write("Cast", joined, to=_SINGLE)
        self.graph.insert_before(self.node, write.nodes)
        self.node.outputs[0].replace_all_uses_with(joined)
        for old, new in zip(self.node.outputs[1:], cache, strict=True):
            assert old.name is not None
            _, layer, part = old.name.split(".")
            new.name = f"{'present' if in_place else 'new'}.{layer}.{part}"
            new.dtype, new.shape = self.dtype, self._cache_shape(in_place)
            self.graph.outputs[self.graph.outputs.index(old)] = new

    def _cache_shape(self, whole: bool) -> ir.Shape:
        positions = self.positions.context if whole else "sequence_length"
        return ir.Shape(["batch_size", self.kv_heads, positions, self.channels])

    def _heads(self, packed: ir.Value, count: int, norm: ir.Value | None) -> ir.Value:
        """Heads apart and normalized where there are weights, [batch, head, position, channel]."""
        write = self.write
        part = write("Reshape", packed, write.ints(0, 0, count, self.channels))
        if norm is not None:
            mean = write("ReduceMean", write("Mul", part, part), write.ints(-1), keepdims=1)
            length = write("Sqrt", write("Add", mean, write.number(self.epsilon)))
            part = write("Mul", write("Div", part, length), norm)
        return write("Transpose", part, perm=[0, 2, 1, 3])

    def _turned(self, heads: ir.Value, in_place: bool) -> ir.Value:
        """Queries or keys rotated, half a head against the other, where the layer does that."""
        if self.cos is None or self.sin is None:
            return heads
        write, half = self.write, self.channels // 2
        if in_place:
            return write("RotaryEmbedding", heads, self.cos, self.sin, self.positions.new)
        cos, sin = self.positions.rows(self.cos), self.positions.rows(self.sin)
        one, two = write.several(2, "Split", heads, write.ints(half, half), axis=-1)
        first = write("Sub", write("Mul", one, cos), write("Mul", two, sin))
        second = write("Add", write("Mul", two, cos), write("Mul", one, sin))
        return write("Concat", first, second, axis=-1)

    def _in_place(self, query: ir.Value, key: ir.Value, value: ir.Value) -> tuple[ir.Value, list[ir.Value]]:
        """[batch, head, position, channel], and the cache with the new keys and values in it."""
        write, past = self.write, self.positions.past
        cache = [
            write("TensorScatter", before, new, past, axis=2)
            for before, new in ((self.past_key, key), (self.past_value, value))
        ]
        return write("Attention", query, *cache, self.positions.seen(self.window), scale=self.scale), cache

    def _appended(self, query: ir.Value, key: ir.Value, value: ir.Value) -> tuple[ir.Value, list[ir.Value]]:
        """[batch, head, position, channel], and the new keys and values.

        The heads of a group lie one after the other in the rows of one product. Scores over cache and new keys share a
        softmax, and nothing of the cache is copied.
        """
        write, context = self.write, self.positions.context
        grouped = write("Reshape", query, write.ints(0, self.kv_heads, -1, self.channels))
        both = [write("MatMul", grouped, write("Transpose", keys, perm=[0, 1, 3, 2])) for keys in (self.past_key, key)]
        scores = write("Cast", write("Concat", *both, axis=-1), to=_SINGLE)
        scores = write("Reshape", scores, write.ints(0, self.heads, -1, 0))
        seen = write("Where", self.positions.seen(self.window), scores, write.number(_HIDDEN))
        weights = write("Cast", write("Softmax", seen, axis=-1), to=self.dtype)
        weights = write("Reshape", weights, write.ints(0, self.kv_heads, -1, 0))
        cached = write("Slice", weights, write.ints(0), write.ints(context), write.ints(3))
        fresh = write("Slice", weights, write.ints(context), write.ints(_TO_THE_END), write.ints(3))
        out = write("Add", write("MatMul", cached, self.past_value), write("MatMul", fresh, value))
        return write("Reshape", out, write.ints(0, self.heads, -1, self.channels)), [key, value]
