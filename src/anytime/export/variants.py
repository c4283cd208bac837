"""A bundle's graphs for TensorRT: one for each way to extend the cache, and the weights that they share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir

from anytime.bundle import Graph, Precision
from anytime.errors import ExportError
from anytime.export.graph import read_graph, write_graph
from anytime.export.halves import halve
from anytime.export.lower import Update, lower
from anytime.export.verify import TOLERANCE, verify
from anytime.plans import APPENDED, IN_PLACE

WEIGHTS = "tensorrt.weights"
_LEAST_SHARED = 1024  # bytes; smaller constants stay in the graph, where the parser reads shapes
_VARIANTS: tuple[tuple[Update, str], ...] = (("in-place", IN_PLACE), ("appended", APPENDED))


def write_variants(
    exact: Path, folder: Path, model: Any, precision: Precision, context: int, progress: Callable[[str], None]
) -> tuple[Graph, ...]:
    """Write the graphs of a fused graph in single precision; their weights are int8, int4, or else fp16.

    Raises:
        ExportError: a graph's logits are not the checkpoint's, or are no numbers in half precision.
    """
    stored: Precision = precision if precision in ("int8", "int4") else "fp16"
    graphs: list[Graph] = []
    for update, runtime in _VARIANTS:
        progress(f"lowering attention for TensorRT ({update}), holding its logits to the original's")
        _hold(exact, model, update, context)
        graph = read_graph(exact)
        halve(graph, stored)
        lower(graph, update, context, ir.DataType.FLOAT16)
        file = folder / f"tensorrt.{update}.onnx"
        _write(graph, file, folder / graphs[0].file if graphs else None)
        difference = _verify(model, file, context)
        if not np.isfinite(difference):
            raise ExportError(
                f"the graph for TensorRT ({update}) gives logits that are no numbers: this model's activations do not "
                "fit half precision; export it without --engine tensorrt"
            )
        graphs.append(Graph(file.name, stored, graph.opset_imports[""], runtime, difference, update, WEIGHTS))
    return tuple(graphs)


def _hold(exact: Path, model: Any, update: Update, context: int) -> None:
    """Lower in single precision, where rounding hides no mistake."""
    graph = read_graph(exact)
    lower(graph, update, context, ir.DataType.FLOAT)
    file = exact.with_name(f"{update}.onnx")
    write_graph(graph, file)
    difference = _verify(model, file, context)
    for written in exact.parent.glob(f"{update}.onnx*"):
        written.unlink()
    if not difference <= TOLERANCE:
        raise ExportError(
            f"the graph for TensorRT ({update}) gives logits that differ from the checkpoint's by {difference:.1e} "
            f"(relative), more than {TOLERANCE:.0e}: please report it, and export without --engine tensorrt"
        )


def _verify(model: Any, file: Path, context: int) -> float:
    import onnxruntime

    try:
        return verify(model, file, context)
    except Exception as error:  # an older ONNX Runtime does not know the operators
        raise ExportError(
            f"ONNX Runtime {onnxruntime.__version__} cannot run {file.name}, so it cannot be held to the checkpoint "
            f"({error}): export with a newer onnxruntime, where Python is 3.11 or newer"
        ) from error


def _write(graph: ir.Model, file: Path, first: Path | None) -> None:
    """Write a graph, its weights beside it, or pointing to those of the first one, whose names are the same."""
    if first is None:
        ir.save(graph, file, external_data=WEIGHTS, size_threshold_bytes=_LEAST_SHARED)
        return
    shared = ir.load(first).graph.initializers
    for name, value in graph.graph.initializers.items():
        if name in shared and isinstance(shared[name].const_value, ir.ExternalTensor):
            value.const_value = shared[name].const_value
    ir.save(graph, file)
