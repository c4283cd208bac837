"""The attention operator against a plain reference in double precision."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anytime.ext import attention

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

CONTEXT = 160
Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Shape:
    heads: int
    kv_heads: int
    channels: int
    window: int
    rotates: bool
    norms: bool
    threads: int = 1


def session(shape: Shape) -> Any:
    """A graph of this one operator."""
    from onnx import TensorProto, helper

    optional = [("cos", shape.rotates), ("sin", shape.rotates), ("q_norm", shape.norms), ("k_norm", shape.norms)]
    names = ["qkv", "past_key", "past_value", "last", *(name if given else "" for name, given in optional)]
    node = helper.make_node(
        "Attention",
        names,
        ["out", "present_key", "present_value"],
        domain="anytime",
        num_heads=shape.heads,
        kv_num_heads=shape.kv_heads,
        local_window_size=shape.window,
        scale=0.3,
        epsilon=1e-6,
    )
    info = helper.make_tensor_value_info
    inputs = [info(n, TensorProto.INT32 if n == "last" else TensorProto.FLOAT, None) for n in names if n]
    outputs = [info(name, TensorProto.FLOAT, None) for name in node.output]
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("anytime", 1)]
    graph = helper.make_graph([node], "attention", inputs, outputs)
    model = helper.make_model(graph, opset_imports=opsets, ir_version=9)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = shape.threads
    options.register_custom_ops_library(attention.__file__)
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def feeds(shape: Shape, lasts: list[int], positions: int, seed: int) -> dict[str, Array]:
    rng = np.random.default_rng(seed)
    rows, d = len(lasts), shape.channels
    width = (shape.heads + 2 * shape.kv_heads) * d
    found: dict[str, Array] = {
        "qkv": rng.standard_normal((rows, positions, width)).astype(np.float32),
        "past_key": rng.standard_normal((rows, shape.kv_heads, CONTEXT, d)).astype(np.float32),
        "past_value": rng.standard_normal((rows, shape.kv_heads, CONTEXT, d)).astype(np.float32),
        "last": np.array(lasts, dtype=np.int32),
    }
    if shape.rotates:
        angles = rng.standard_normal((CONTEXT, d // 2))
        found |= {"cos": np.cos(angles).astype(np.float32), "sin": np.sin(angles).astype(np.float32)}
    if shape.norms:
        found |= {name: rng.standard_normal(d).astype(np.float32) for name in ("q_norm", "k_norm")}
    return found


def reference(shape: Shape, given: dict[str, Array]) -> tuple[Array, Array, Array]:
    """One query after the other, softmax over what it sees."""
    wide = {name: array.astype(np.float64) for name, array in given.items() if name != "last"}
    qkv, keys, values = wide["qkv"], wide["past_key"].copy(), wide["past_value"].copy()
    rows, positions, _ = qkv.shape
    d, group = shape.channels, shape.heads // shape.kv_heads

    def turned(head: Array, norm: str, position: int) -> Array:
        if norm in wide:
            head = head / np.sqrt((head**2).mean() + 1e-6) * wide[norm]
        if "cos" not in wide:
            return head
        cos, sin, (a, b) = wide["cos"][position], wide["sin"][position], np.split(head, 2)
        return np.concatenate([a * cos - b * sin, b * cos + a * sin])

    out = np.zeros((rows, positions, shape.heads, d))
    for row in range(rows):
        first = int(given["last"][row]) + 1 - positions
        split = qkv[row].reshape(positions, -1, d)
        for n in range(positions):
            for h in range(shape.kv_heads):
                keys[row, h, first + n] = turned(split[n, shape.heads + h], "k_norm", first + n)
                values[row, h, first + n] = split[n, shape.heads + shape.kv_heads + h]
        for n in range(positions):
            end = first + n + 1
            start = max(0, end - shape.window) if shape.window > 0 else 0
            for h in range(shape.heads):
                query = turned(split[n, h], "q_norm", first + n)
                scores = 0.3 * keys[row, h // group, start:end] @ query
                weights = np.exp(scores - scores.max())
                out[row, n, h] = weights / weights.sum() @ values[row, h // group, start:end]
    return out.reshape(rows, positions, -1), keys, values


shapes = st.builds(
    Shape,
    heads=st.sampled_from([4, 8]),
    kv_heads=st.sampled_from([1, 2, 4]),
    channels=st.sampled_from([16, 32, 48, 64, 80, 112, 128]),
    window=st.sampled_from([-1, 1, 5, 64, 100]),
    rotates=st.booleans(),
    norms=st.booleans(),
    threads=st.sampled_from([1, 2]),
)


@settings(max_examples=60)
@given(shapes, st.lists(st.integers(0, CONTEXT - 1), min_size=1, max_size=3), st.integers(1, 80), st.integers(0, 99))
def test_the_operator_is_the_reference(shape: Shape, lasts: list[int], positions: int, seed: int) -> None:
    """Any heads, lengths, windows, rows and tiles: outputs and cache to rounding, nothing else in the cache touched."""
    positions = min(positions, min(lasts) + 1)
    given = feeds(shape, lasts, positions, seed)
    out, keys, values = session(shape).run(None, given)
    expected = reference(shape, given)
    for got, wanted in zip((out, keys, values), expected, strict=True):
        np.testing.assert_allclose(got, wanted, rtol=2e-4, atol=2e-5)


def test_many_products_are_shared_among_threads() -> None:
    """A run large enough to wake threads gives what one thread gives."""
    shape = Shape(heads=8, kv_heads=4, channels=128, window=-1, rotates=True, norms=True)
    given = feeds(shape, [CONTEXT - 1, CONTEXT - 1], CONTEXT, 7)
    one = session(shape).run(None, given)
    two = session(Shape(8, 4, 128, -1, True, True, threads=2)).run(None, given)
    for a, b in zip(one, two, strict=True):
        np.testing.assert_array_equal(a, b)


def test_extreme_scores_stay_finite() -> None:
    """Scores far apart and far from zero overflow nothing."""
    shape = Shape(heads=4, kv_heads=2, channels=48, window=-1, rotates=False, norms=False)
    given = feeds(shape, [99], 3, 1)
    for factor in (1e3, -1e3):
        scaled = {**given, "past_key": given["past_key"] * np.float32(factor)}
        out, *_ = session(shape).run(None, scaled)
        np.testing.assert_allclose(out, reference(shape, scaled)[0], rtol=1e-3, atol=1e-4)


def test_a_shape_that_is_never_fused_gives_no_number() -> None:
    """Channels that are no multiple of sixteen come out as NaN, not as something that looks like a result."""
    shape = Shape(heads=4, kv_heads=2, channels=24, window=-1, rotates=False, norms=False)
    out, *_ = session(shape).run(None, feeds(shape, [5], 1, 1))
    assert np.isnan(out).all()


@settings(max_examples=60)
@given(
    st.sampled_from(attention.widths()),
    st.sampled_from([16, 32, 48, 80, 128, 256]),
    st.lists(st.tuples(st.integers(0, CONTEXT - 1), st.integers(1, CONTEXT)), min_size=1, max_size=32),
    st.integers(0, 99),
)
def test_every_width_of_vectors_is_the_reference(
    lanes: int, channels: int, looks: list[tuple[int, int]], seed: int
) -> None:
    """Whatever vectors a processor has: the same attention to rounding, few queries or many, over any range."""
    rng = np.random.default_rng(seed)
    queries = rng.standard_normal((len(looks), channels)).astype(np.float32)
    keys, values = (rng.standard_normal((CONTEXT, channels)).astype(np.float32) for _ in range(2))
    froms = np.array([min(start, end - 1) for start, end in looks])
    ends = np.array([end for _, end in looks])
    wanted = []
    for query, start, end in zip(queries.astype(np.float64), froms, ends, strict=True):
        scores = 0.3 * keys[start:end] @ query
        weights = np.exp(scores - scores.max())
        wanted.append(weights / weights.sum() @ values[start:end])
    attention.attend(queries, froms, ends, keys, values, 0.3, lanes)
    np.testing.assert_allclose(queries, wanted, rtol=2e-4, atol=2e-5)


def test_vectors_are_as_wide_as_the_processors() -> None:
    """Wider vectors than a processor's own fall apart into single floats, narrower ones waste it."""
    known = Path("/proc/cpuinfo").read_text()
    flags = set(next((line for line in known.splitlines() if line.startswith("flags")), "").split())
    assert attention.widths()[-1] == 4
    assert 16 not in attention.widths() or "avx512f" in flags
    assert 8 not in attention.widths() or "avx2" in flags


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"lanes": 5}, "lanes is 5: this processor has vectors of"),
        ({"queries": np.zeros((33, 16), np.float32)}, "queries are 33 x 16: give 1 to 32"),
        ({"queries": np.zeros((2, 24), np.float32)}, "a multiple of 16 channels"),
        ({"keys": np.zeros((9, 16), np.float32)}, "keys are 9 x 16, values 8 x 16: give as many"),
        ({"froms": np.zeros(1, np.int64)}, "there are 1 froms and 2 ends of 2 queries"),
        ({"ends": np.array([8, 9])}, r"query 1 looks at \[0, 9\): give a range within 8"),
        ({"froms": np.array([0, 8])}, r"query 1 looks at \[8, 8\)"),
    ],
)
def test_the_arithmetic_refuses_what_it_would_read_beyond(changed: dict[str, Any], said: str) -> None:
    """A shape or a range that memory does not hold: a clear error, and nothing is read."""
    given: dict[str, Any] = {
        "queries": np.zeros((2, 16), np.float32),
        "froms": np.zeros(2, np.int64),
        "ends": np.full(2, 8),
        "keys": np.zeros((8, 16), np.float32),
        "values": np.zeros((8, 16), np.float32),
        "scale": 1.0,
        "lanes": 4,
    }
    with pytest.raises(ValueError, match=said):
        attention.attend(**(given | changed))
