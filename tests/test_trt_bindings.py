"""Our calls of TensorRT, held to NVIDIA's own bindings of several versions, and our graphs to NVIDIA's own builder.

Skipped unless ANYTIME_TRT_BINDINGS names a directory that ``python -m tests.trt_bindings DIR [--builder]`` made.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from anytime.bundle import Bundle, Precision
from anytime.errors import ExportError
from anytime.export.plan import compile_graph
from anytime.plans import PlanOptions, tensorrt_graph
from tests.checkpoints import ARCHITECTURES, save_checkpoint
from tests.fake_tensorrt import FakeTensorRT, Uses
from tests.test_plan import INPUTS, write_bundle
from tests.trt_bindings import BINDINGS, BINDINGS_OF_BUILDER, run

MADE = Path(os.environ.get("ANYTIME_TRT_BINDINGS", ""))
pytestmark = pytest.mark.skipif(
    "ANYTIME_TRT_BINDINGS" not in os.environ, reason="ANYTIME_TRT_BINDINGS names no directory of tests.trt_bindings"
)
needs_builder = pytest.mark.skipif(not (MADE / "builder").is_dir(), reason="made without --builder")

# Says what of the uses this TensorRT does not have; signatures are what pybind11 writes into docstrings.
COMPARE = """
import json, re, tensorrt

def arities(doc, name):
    for signature in re.findall(rf"^(?:\\d+\\. )?{re.escape(name)}\\((.*)\\) -> ", doc, re.MULTILINE):
        parts, depth = [""], 0
        for letter in signature:
            depth += (letter in "[(") - (letter in "])")
            if letter == "," and not depth:
                parts.append("")
            else:
                parts[-1] += letter
        parts = [part for part in parts if part.strip() and not part.strip().startswith("self")]
        yield sum("=" not in part for part in parts), len(parts)

def missing(kind, name, count):
    where = getattr(tensorrt, kind, None) if kind else tensorrt
    if where is None or not hasattr(where, name):
        return f"{kind}.{name}"
    if count is not None:
        found = list(arities(getattr(where, name).__doc__, name))
        if not any(least <= count <= most for least, most in found):
            return f"{kind}.{name} with {count} arguments, it takes {found}"

print(json.dumps([what for use in json.loads(input()) if (what := missing(*use))]))
"""


NO_BUILDER = """
import tensorrt
try:
    tensorrt.Builder(tensorrt.Logger(tensorrt.Logger.ERROR))
except TypeError:
    print("none")
"""


def compare(version: str, uses: Any) -> list[str]:
    code = COMPARE.replace("input()", repr(json.dumps(sorted(uses, key=str))))
    return json.loads(checked(run(MADE, version, code)))  # type: ignore[no-any-return]


def checked(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def uses_of_a_build(bundle: Bundle, version: str) -> Uses:
    """All that a build makes use of in this version, with every option, and where it goes wrong."""
    uses: Uses = set()
    for trouble in ({}, {"knows_timings": False}, {"parses": False}):
        trt = FakeTensorRT(INPUTS, version, **trouble)
        options = PlanOptions(version_compatible=True, hardware_compatible=True)
        try:
            compile_graph(trt.module, bundle, tensorrt_graph(bundle, version), options, b"foreign")
        except ExportError:
            assert trouble == {"parses": False}
        uses |= trt.uses
    return uses


@pytest.mark.parametrize("version", BINDINGS)
def test_the_calls_of_a_build_exist(version: str, tmp_path: Path) -> None:
    """Every class, attribute and enumerator that a build uses is there, and every method takes that many arguments."""
    uses = uses_of_a_build(write_bundle(tmp_path / "bundle"), version)
    assert len(uses) >= 30
    assert ("IBuilderConfig", "set_timing_cache", 2) in uses
    assert compare(version, uses) == []


@pytest.mark.parametrize("version", BINDINGS)
def test_the_comparison_sees_what_is_not_there(version: str) -> None:
    """A method that there never was, and one with too many arguments, are found."""
    wrong = [("Builder", "create_plan", 1), ("Builder", "create_network", 3), ("NoClass", "name", None)]
    assert len(compare(version, wrong)) == len(wrong)


@pytest.mark.parametrize("version", BINDINGS)
def test_the_cache_is_updated_in_place_from_where_tensorrt_can(version: str) -> None:
    """The layers that the graph in place becomes are in the versions that get it, and in no others."""
    layers = [
        ("INetworkDefinition", f"add_{name}", None) for name in ("kv_cache_update", "attention", "rotary_embedding")
    ]
    newer = tuple(map(int, version.split(".")[:2])) >= (10, 15)
    assert len(compare(version, layers)) == (0 if newer else len(layers))


def test_a_library_that_gives_no_builder_raises_what_we_expect() -> None:
    """Without a driver the constructor raises TypeError, which a build reports as such."""
    for version in BINDINGS:
        assert checked(run(MADE, version, NO_BUILDER)).strip() == "none", version


# Builds plans of a bundle's graphs, and counts the layers that the parser makes of each.
BUILD = """
import collections, json, tensorrt
from anytime.bundle import Bundle
from anytime.export.plan import compile_graph
from anytime.plans import PlanOptions

bundle, found = Bundle.load({path!r}), []
for graph in bundle.manifest.graphs[1:]:
    for options in (PlanOptions(chunk=64), PlanOptions(rows=8, chunk=16, hardware_compatible=True)):
        plan, timings = compile_graph(tensorrt, bundle, graph, options, b"")
        logger, flags = tensorrt.Logger(tensorrt.Logger.ERROR), tensorrt.NetworkDefinitionCreationFlag
        network = tensorrt.Builder(logger).create_network(1 << int(flags.STRONGLY_TYPED))
        tensorrt.OnnxParser(network, logger).parse_from_file(str(bundle.file(graph.file)))
        kinds = collections.Counter(network.get_layer(i).type.name for i in range(network.num_layers))
        found.append((graph.update, plan.nbytes, timings.nbytes, kinds))
print(json.dumps(found))
"""


@needs_builder
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("name", "precision"), [*((name, "fp16") for name in ARCHITECTURES), ("qwen3", "int8"), ("qwen3", "int4")]
)
def test_nvidia_s_parser_and_builder_take_the_graphs(name: str, precision: Precision, tmp_path: Path) -> None:
    """Both graphs of every architecture and precision become plans; a cache in place becomes TensorRT's own layers."""
    pytest.importorskip("torch")
    from anytime.export import export_checkpoint

    checkpoint = save_checkpoint(name, tmp_path / "checkpoint")
    bundle = export_checkpoint(checkpoint, tmp_path / "out", precision=precision, max_context=128, engine="tensorrt")
    done = run(MADE, BINDINGS_OF_BUILDER, BUILD.format(path=str(bundle.path)), libraries="builder")
    found = json.loads(checked(done).splitlines()[-1])
    assert [update for update, *_ in found] == ["in-place", "in-place", "appended", "appended"]
    layers = bundle.manifest.kv.layers
    for update, plan, timings, kinds in found:
        assert plan > bundle.manifest.files["tensorrt.weights"].size / 2
        assert timings > 0
        assert kinds.get("KV_CACHE_UPDATE", 0) == (2 * layers if update == "in-place" else 0)
        assert kinds.get("ATTENTION_INPUT", 0) == (layers if update == "in-place" else 0)
        assert bool(kinds.get("DEQUANTIZE", 0)) == (precision != "fp16")
