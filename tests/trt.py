"""Engines on the doubles of ``doubles_trt``, for the tests of the engine on TensorRT."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from anytime.bundle import Bundle, Graph, KvLayout
from anytime.plans import PlanOptions, Sidecar, graph_sha256, plans_dir
from anytime.runtime.gpu.engine import GpuEngine
from anytime.runtime.trt.adapter import TensorRT
from anytime.runtime.trt.engine import trt_engine
from anytime.runtime.trt.plan import find_plan
from anytime.testing import Script
from tests.conftest import write_bundle
from tests.doubles_device import FakeDevice
from tests.doubles_trt import Shapes, make_tensorrt, plan_bytes

VERSIONS = {"in-place": "10.16.1", "appended": "10.3.0"}
GRAPHS = (
    Graph("model.onnx", "fp32", 18, "onnxruntime>=1.23", 0.0),
    Graph("model.onnx", "fp16", 24, "tensorrt>=10.15", 0.0, update="in-place"),
    Graph("model.onnx", "int8", 20, "tensorrt>=10.3", 0.0, update="appended"),
)


def weighed(tokens: Sequence[int]) -> int:
    """The likeliest next token, which depends on every token and where it stands."""
    return sum((i + 1) * (token + 3) for i, token in enumerate(tokens)) % 64


def trt_bundle(out: Path, **changes: object) -> Bundle:
    """A bundle with graphs for both ways to update the cache."""
    return write_bundle(out, **{"kv": KvLayout(2, 2, 8, "float32", "shared"), "graphs": GRAPHS, **changes})


def store_plan(bundle: Bundle, shapes: Shapes, content: bytes | None = None, /, **changes: object) -> Path:
    """A plan in the state directory, as export leaves it, with this note beside it; its file."""
    content = plan_bytes(shapes) if content is None else content
    graph = next(graph for graph in bundle.manifest.graphs if graph.update == shapes.update)
    sidecar = Sidecar(
        tensorrt=VERSIONS[shapes.update],
        compute_capability="8.7",
        graph_sha256=graph_sha256(bundle.manifest, graph),
        bundle=bundle.id,
        options=PlanOptions(rows=shapes.rows, chunk=shapes.chunk),
        plan_sha256=hashlib.sha256(content).hexdigest(),
    )
    sidecar = msgspec.structs.replace(sidecar, **changes)
    folder = plans_dir(bundle)
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{sidecar.key()}.plan"
    file.write_bytes(content)
    note = file.with_suffix(".json")
    note.write_bytes(msgspec.json.encode(sidecar))
    age = len(list(folder.glob("*.json")))  # the clock of a file system may be too coarse for "newer"
    os.utime(note, ns=(age, age))
    return file


def make_engine(
    bundle: Bundle,
    shapes: Shapes,
    script: Script = weighed,
    device: FakeDevice | None = None,
    spent: Callable[[int, int], None] | None = None,
) -> tuple[GpuEngine, FakeDevice]:
    """An engine on a plan of these shapes, which is stored."""
    device = device or FakeDevice()
    store_plan(bundle, shapes)
    version = VERSIONS[shapes.update]
    tensorrt: Any = TensorRT(make_tensorrt(script, version, spent))
    return trt_engine(bundle, find_plan(bundle, version, "8.7"), tensorrt, device), device
