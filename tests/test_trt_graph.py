"""The graphs for TensorRT, run by ONNX Runtime: both ways to extend the cache, against the checkpoint."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anytime.bundle import Bundle, Precision
from anytime.errors import ExportError
from anytime.plans import APPENDED, IN_PLACE
from anytime.runtime.engine import Row
from anytime.runtime.loading import open_bundle
from tests.checkpoints import ARCHITECTURES, save_checkpoint
from tests.trt_session import TrtSession

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
ir = pytest.importorskip("onnx_ir")

pytestmark = pytest.mark.filterwarnings("ignore")  # torch's tracer and Optimum warn about themselves

UPDATES = ("in-place", "appended")
CONTEXT = 96
# Random weights have no slack for rounding.
MOST_DIFFERENCE: dict[Precision, float] = {"fp16": 2e-3, "int8": 0.05, "int4": 0.5}
# What TensorRT 10.3 parses, of what a decoder is made of; the rest is for the versions that have it.
PLAIN = {
    *("Add", "And", "Cast", "Concat", "DequantizeLinear", "Div", "Gather", "Greater", "Less", "LessOrEqual", "MatMul"),
    *("Mul", "Pow", "ReduceMean", "Reshape", "Shape", "Sigmoid", "Slice", "Softmax", "Split", "Sqrt", "Sub", "Tanh"),
    *("Transpose", "Unsqueeze", "Where"),
}
FROM_10_15 = {"Attention", "RotaryEmbedding", "TensorScatter"}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    root = tmp_path_factory.mktemp("checkpoints")
    return cache(lambda name: save_checkpoint(name, root / name))


@pytest.fixture(scope="module")
def exact(checkpoint: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A checkpoint's fused graph in single precision."""
    from anytime.export.checkpoint import load_model
    from anytime.export.graph import export_graph, fused_graph, write_graph

    root = tmp_path_factory.mktemp("exact")

    def make(name: str) -> Path:
        exported = export_graph(checkpoint(name), root / name)
        write_graph(fused_graph(exported, load_model(checkpoint(name)), CONTEXT), root / f"{name}.onnx")
        return root / f"{name}.onnx"

    return cache(make)


@pytest.fixture(scope="module")
def bundle(
    checkpoint: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str, Precision], Bundle]:
    from anytime.export import export_checkpoint

    root = tmp_path_factory.mktemp("bundles")

    def make(name: str, precision: Precision) -> Bundle:
        out = root / f"{name}-{precision}"
        return export_checkpoint(checkpoint(name), out, precision=precision, max_context=CONTEXT, engine="tensorrt")

    return cache(make)


def variant(bundle: Bundle, update: str) -> Path:
    return bundle.file(next(graph.file for graph in bundle.manifest.graphs if graph.update == update))


def graph_of(bundle: Bundle, update: str) -> Any:
    return ir.load(variant(bundle, update)).graph


def difference(checkpoint: Path, graph: Path) -> float:
    """From transformers' logits, relative to the largest, of three rows that go their own ways.

    Each row is prefilled alone in chunks; then all make steps together, standing at different positions; then one runs
    on by several tokens.
    """
    model = transformers.AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float32).eval()
    ids = np.random.default_rng(1).integers(3, model.config.vocab_size, (3, 80))
    with torch.no_grad():
        expected = model(torch.from_numpy(ids)).logits.numpy()
    session, lengths, worst = TrtSession(graph, rows=3, behind=3.0), [0, 0, 0], 0.0

    def step(rows: list[int], count: int) -> float:
        past = [lengths[row] for row in rows]
        tokens = np.stack([ids[row, at : at + count] for row, at in zip(rows, past, strict=True)])
        logits = session.run(rows, tokens, past)
        for row in rows:
            lengths[row] += count
        wanted = np.stack([expected[row, at : at + count] for row, at in zip(rows, past, strict=True)])
        return float(np.abs(logits - wanted).max())

    for row, chunks in enumerate(((40,), (16, 7), (1,))):
        worst = max(worst, *(step([row], count) for count in chunks))
    worst = max(worst, *(step([0, 1, 2], 1) for _ in range(20)), step([1], 9), step([2, 0], 1))
    return worst / float(np.abs(expected).max())


@pytest.mark.parametrize("update", UPDATES)
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_lowered_attention_is_the_checkpoint_s(
    name: str, update: Any, checkpoint: Callable[[str], Path], exact: Callable[[str], Path], tmp_path: Path
) -> None:
    """In single precision, where rounding hides nothing, every architecture's logits agree to 1e-5 for every row."""
    from anytime.export.graph import read_graph, write_graph
    from anytime.export.lower import lower

    graph = read_graph(exact(name))
    lower(graph, update, CONTEXT, ir.DataType.FLOAT)
    write_graph(graph, tmp_path / "graph.onnx")
    assert difference(checkpoint(name), tmp_path / "graph.onnx") <= 1e-5


@pytest.mark.parametrize("update", UPDATES)
@pytest.mark.parametrize("precision", MOST_DIFFERENCE)
def test_every_precision_says_what_it_lost(
    precision: Precision, update: str, checkpoint: Callable[[str], Path], bundle: Callable[[str, Precision], Bundle]
) -> None:
    """The logits of several rows differ from the checkpoint's by no more than about what the manifest says."""
    made = bundle("qwen3", precision)
    graph = next(graph for graph in made.manifest.graphs if graph.update == update)
    assert graph.precision == precision
    assert graph.difference <= MOST_DIFFERENCE[precision]
    assert difference(checkpoint("qwen3"), made.file(graph.file)) <= 3 * graph.difference


def test_single_precision_becomes_halves(bundle: Callable[[str, Precision], Bundle]) -> None:
    """A bundle in fp32 has its graph for ONNX Runtime in fp32 and those for TensorRT in fp16, the better one first."""
    graphs = bundle("llama", "fp32").manifest.graphs
    assert [(graph.precision, graph.runtime, graph.update) for graph in graphs] == [
        ("fp32", "onnxruntime>=1.23", None),
        ("fp16", IN_PLACE, "in-place"),
        ("fp16", APPENDED, "appended"),
    ]


@pytest.mark.parametrize("update", UPDATES)
def test_windows_and_large_activations_survive_halves(
    update: str, checkpoint: Callable[[str], Path], bundle: Callable[[str, Precision], Bundle]
) -> None:
    """Gemma, whose layers see windows and whose residual sums are large, agrees in fp16 too."""
    assert difference(checkpoint("gemma3"), variant(bundle("gemma3", "fp16"), update)) <= 5e-3


@pytest.mark.parametrize("update", UPDATES)
def test_what_lies_behind_a_row_s_end_is_not_seen(update: str, bundle: Callable[[str, Precision], Bundle]) -> None:
    """The cache of an earlier sequence changes not a bit of the next one's logits."""
    ids = np.random.default_rng(2).integers(3, 300, (2, 12))
    runs = []
    for behind in (0.0, 50.0):
        session = TrtSession(variant(bundle("qwen3", "fp16"), update), rows=2, behind=behind)
        runs.append([session.run([0, 1], ids, [0, 0]), session.run([0, 1], ids[:, :1], [12, 12])])
    for first, second in zip(*runs, strict=True):
        assert np.array_equal(first, second)


@pytest.mark.parametrize("update", UPDATES)
def test_logits_are_computed_from_the_wanted_position_on(
    update: str, bundle: Callable[[str, Precision], Bundle]
) -> None:
    """``first_logit`` cuts what comes before; the logits are in single precision."""
    file = variant(bundle("qwen3", "fp16"), update)
    ids = np.random.default_rng(3).integers(3, 300, (1, 9))
    every, last = TrtSession(file, 1).run([0], ids, [0]), TrtSession(file, 1).run([0], ids, [0], first=8)
    assert every.dtype == np.float32
    assert last.shape == (1, 1, every.shape[2])
    assert np.array_equal(every[:, 8:], last)


@pytest.mark.parametrize("precision", ["fp16", "int8", "int4"])
def test_the_cache_is_updated_as_tensorrt_wants_it(
    precision: Precision, bundle: Callable[[str, Precision], Bundle]
) -> None:
    """In place: a scatter into every cache, whose input nobody else reads and whose output is the graph's. Appended:
    operators of 10.3 alone. Both: half precision, full context, nothing of our own, no further inputs."""
    made = bundle("qwen3", precision)
    for update in UPDATES:
        graph = graph_of(made, update)
        shapes = {value.name: (value.dtype, list(value.shape)) for value in graph.inputs if "past_key" in value.name}
        assert all(kind == ir.DataType.FLOAT16 and shape[1:] == [2, CONTEXT, 32] for kind, shape in shapes.values())
        assert {value.name for value in graph.inputs} - set(shapes) == {"input_ids", "past_length", "first_logit"}
        assert {node.domain for node in graph} == {""}
        kinds = {node.op_type for node in graph}
        assert kinds <= PLAIN | (FROM_10_15 if update == "in-place" else set())
        scatters = [node for node in graph if node.op_type == "TensorScatter"]
        if update == "in-place":
            assert {node.inputs[0].name for node in scatters} == set(shapes)
            assert all(len(list(node.inputs[0].uses())) == 1 for node in scatters)
            assert {node.outputs[0].name for node in scatters} == {value.name for value in graph.outputs[1:]}


@pytest.mark.parametrize("precision", ["fp16", "int8", "int4"])
def test_the_graphs_are_what_their_opset_says(precision: Precision, bundle: Callable[[str, Precision], Bundle]) -> None:
    """ONNX's own checker takes them with types and shapes; what 10.3 gets is of the format that it knows."""
    onnx = pytest.importorskip("onnx")
    made = bundle("qwen3", precision)
    for graph in made.manifest.graphs[1:]:
        onnx.checker.check_model(made.file(graph.file), full_check=True)
        model = onnx.load(made.file(graph.file), load_external_data=False)
        assert [(opset.domain, opset.version) for opset in model.opset_import] == [("", graph.opset)]
        if graph.update == "appended":
            assert (graph.opset, model.ir_version) == (21 if precision == "int4" else 20, 10)


def test_integers_are_symmetric_and_fit(bundle: Callable[[str, Precision], Bundle]) -> None:
    """Weights are dequantized without zero points, to halves; int4 in blocks, but for what has an odd width."""
    for precision, types in (("int8", {"INT8"}), ("int4", {"INT4", "INT8"})):
        graph = graph_of(bundle("qwen3", precision), "appended")
        nodes = [node for node in graph if node.op_type == "DequantizeLinear"]
        products = [node for node in graph if node.op_type == "MatMul" and node.inputs[1].producer() in nodes]
        assert len(nodes) == len(products) == 4 * 4 + 1
        assert {node.inputs[0].const_value.dtype.name for node in nodes} == types
        for node in nodes:
            integers, scales = (value.const_value for value in node.inputs)
            assert scales.dtype == ir.DataType.FLOAT16
            assert (scales.numpy() > 0).all()
            if integers.dtype == ir.DataType.INT4:
                rows, columns = integers.shape
                assert columns % 2 == 0
                assert scales.shape == (rows // node.attributes["block_size"].as_int(), columns)


@settings(deadline=None, max_examples=50)
@given(
    bits=st.sampled_from([8, 4]), block=st.sampled_from([32, 64]), scale=st.floats(1e-5, 1e3), seed=st.integers(0, 99)
)
def test_rounding_to_integers_loses_half_a_step(bits: int, block: int, scale: float, seed: int) -> None:
    """Every weight comes back to within half a step of its block, a column of zeros as zeros."""
    from anytime.export.halves import in_integers

    matrix = (np.random.default_rng(seed).normal(size=(128, 6)) * scale).astype(np.float32)
    matrix[:, 0] = 0
    integers, scales = in_integers(matrix, bits, block)
    assert np.abs(integers.astype(int)).max() <= 2 ** (bits - 1) - 1
    steps = np.repeat(scales.astype(np.float64), block, axis=0)
    assert (np.abs(integers.astype(float) * steps - matrix) <= steps * 0.500001).all()
    assert (integers[:, 0] == 0).all()
    assert (scales > 0).all()


def test_both_graphs_share_their_weights(bundle: Callable[[str, Precision], Bundle]) -> None:
    """One file holds the matrices of both; what is in the graphs themselves is small."""
    made = bundle("qwen3", "fp16")
    files = made.manifest.files
    assert {graph.weights for graph in made.manifest.graphs} == {None, "tensorrt.weights"}
    matrices = 2 * sum(
        value.const_value.size
        for value in graph_of(made, "appended").initializers.values()
        if value.const_value.dtype == ir.DataType.FLOAT16
    )
    assert files["tensorrt.weights"].size >= 0.9 * matrices
    assert all(files[f"tensorrt.{update}.onnx"].size < 0.3 * matrices for update in UPDATES)


def test_onnx_runtime_runs_its_own_graph_of_the_bundle(bundle: Callable[[str, Precision], Bundle]) -> None:
    """A bundle with graphs for TensorRT runs on the CPU as any other."""
    engine = open_bundle(bundle("llama", "fp32").path, threads=1).engine
    assert (engine.spec.name, engine.spec.precision) == ("onnxruntime", "fp32")
    assert np.isfinite(engine.run([Row(engine.open(), [5, 6, 7])], 1)[0]).all()


def test_attention_that_cannot_be_fused_is_refused(
    checkpoint: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There are graphs for TensorRT only of what was recognised; nothing is left half-written."""
    from anytime.export import export_checkpoint, graph
    from anytime.export.fuse import NoMatch

    def never(*_: Any) -> None:
        raise NoMatch("another shape")

    monkeypatch.setattr(graph, "fuse", never)
    with pytest.raises(ExportError, match="could not be fused, and so not be written for TensorRT"):
        export_checkpoint(checkpoint("llama"), tmp_path / "out", engine="tensorrt")
    assert list(tmp_path.iterdir()) == []


def test_a_mistake_in_lowering_is_found(
    checkpoint: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A graph with other logits than the checkpoint's is never written."""
    from anytime.export import export_checkpoint, lower

    monkeypatch.setattr(lower._Positions, "seen", lambda self, window, seen=lower._Positions.seen: seen(self, 4))
    with pytest.raises(ExportError, match=r"in-place\) gives logits that differ from the checkpoint's by"):
        export_checkpoint(checkpoint("llama"), tmp_path / "out", engine="tensorrt")
    assert list(tmp_path.iterdir()) == []


def test_weights_too_large_for_halves_are_refused(checkpoint: Callable[[str], Path], tmp_path: Path) -> None:
    """Products that overflow half precision are found before a bundle is written."""
    from anytime.export import export_checkpoint

    model = transformers.AutoModelForCausalLM.from_pretrained(checkpoint("qwen3"), dtype=torch.float32)
    model.model.layers[1].mlp.down_proj.weight.data *= 1e7
    large = tmp_path / "large"
    large.mkdir()
    for file in checkpoint("qwen3").iterdir():
        if file.is_file():
            (large / file.name).write_bytes(file.read_bytes())
    model.save_pretrained(large)
    with pytest.raises(ExportError, match=r"logits that are no numbers.*half precision"):
        export_checkpoint(large, tmp_path / "out", engine="tensorrt")


def test_an_older_onnx_runtime_is_named(
    checkpoint: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the graph cannot be held to the checkpoint, the message says which ONNX Runtime and what to do."""
    from anytime.export import export_checkpoint, variants

    def unknown(*_: Any) -> float:
        raise RuntimeError("no operator TensorScatter")

    monkeypatch.setattr(variants, "verify", unknown)
    with pytest.raises(
        ExportError, match=r"ONNX Runtime [\d.]+ cannot run in-place.onnx.*no operator TensorScatter.*newer"
    ):
        export_checkpoint(checkpoint("llama"), tmp_path / "out", engine="tensorrt")
