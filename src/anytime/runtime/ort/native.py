"""ONNX Runtime's shared library: where it is, and opening a bundle's graph with it."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from anytime.bundle import Bundle, Graph
from anytime.errors import BundleError, EngineError
from anytime.ext import ort

_CPU_PRECISIONS = ("fp32", "fp16", "int8", "int4")


def load_library() -> str:
    """Load the library of the installed onnxruntime package, without importing the package; its version.

    Raises:
        EngineError: there is none, or it is too old.
    """
    spec = find_spec("onnxruntime")
    if spec is None or not spec.submodule_search_locations:
        raise EngineError("onnxruntime is not installed: pip install 'anytime[cpu]'")
    folder = Path(spec.submodule_search_locations[0]) / "capi"
    found = sorted(folder.glob("libonnxruntime.so*"))
    if not found:
        raise EngineError(f"{folder} has no libonnxruntime.so: install onnxruntime from its wheel (pip)")
    try:
        return ort.load(str(found[0]))
    except OSError as error:
        raise EngineError(f"{found[0]} cannot be used ({error}): pip install 'anytime[cpu]'") from error


def open_session(bundle: Bundle, graph: Graph, threads: int) -> ort.Session:
    """Open one of the bundle's graphs on the CPU.

    Raises:
        BundleError: ONNX Runtime cannot.
    """
    file = bundle.file(graph.file)
    try:
        return ort.Session(str(file), threads, growing=bundle.manifest.kv.layout == "growing")
    except ort.OrtError as error:
        raise BundleError(f"ONNX Runtime cannot open {file}: {error}") from error


def graph_for(bundle: Bundle, version: str) -> Graph:
    """The first variant that this ONNX Runtime can run on a CPU.

    Raises:
        BundleError: there is none.
    """
    graphs = [graph for graph in bundle.manifest.graphs if graph.update is None]  # the others are TensorRT's
    runnable = [graph for graph in graphs if graph.precision in _CPU_PRECISIONS]
    if not runnable:
        held = ", ".join(graph.precision for graph in graphs)
        raise BundleError(
            f"bundle {bundle.path} holds weights in {held}, and a CPU runs {', '.join(_CPU_PRECISIONS)}: "
            "export it again with another --precision"
        )
    have = _parts(version)
    for graph in runnable:
        name, _, needs = graph.runtime.partition(">=")
        if name == "onnxruntime" and have >= _parts(needs):
            return graph
    needs = ", ".join(graph.runtime for graph in runnable)
    raise BundleError(f"bundle {bundle.path} needs {needs}; this is onnxruntime {version}: upgrade it")


def _parts(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
