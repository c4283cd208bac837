"""What export writes, run by the engine on ONNX Runtime's GPU providers: real sessions, on the CPU instead."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from anytime.bundle import Bundle, Precision
from anytime.runtime.gpu.consistent import check_consistent
from anytime.runtime.gpu.engine import GpuEngine
from anytime.runtime.loading import open_bundle
from anytime.runtime.ortgpu.engine import graph_of, ort_engine
from anytime.runtime.ortgpu.provider import Provider
from anytime.runtime.ortgpu.session import Session
from tests.checkpoints import save_checkpoint
from tests.doubles_ort import HostDevice
from tests.test_trt_contract import CONTEXT, TOLERANCE, everything
from tests.test_trt_contract import engine_of as on_tensorrt

pytest.importorskip("torch")
pytest.importorskip("onnx_ir")
onnxruntime = pytest.importorskip("onnxruntime")
pytestmark = pytest.mark.filterwarnings("ignore")  # torch's tracer and Optimum warn about themselves

CPU = Provider("CPUExecutionProvider", "cpu", "gpu_graph_id")
_ERRORS = 3


class Queued:
    """A real session, whose runs are made when somebody waits for the device; a graph has one binding, for ever."""

    def __init__(self, file: Path, device: HostDevice) -> None:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = _ERRORS
        self._session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
        self._device = device
        self.bindings: dict[int, Any] = {}
        self.runs: Counter[int] = Counter()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)

    def run_with_iobinding(self, binding: Any, options: Any) -> None:
        graph = int(options.get_run_config_entry("gpu_graph_id"))
        assert graph == -1 or self.bindings.setdefault(graph, binding) is binding
        self.runs[graph] += 1
        self._device.submit("run", lambda: self._session.run_with_iobinding(binding, options))


def engine_of(bundle: Bundle) -> tuple[GpuEngine, Queued]:
    device, graph = HostDevice(), graph_of(bundle)
    session = Queued(bundle.file(graph.file), device)
    return ort_engine(bundle, graph, device, lambda: Session(onnxruntime, session, CPU, device_type="cpu")), session


@pytest.mark.parametrize("precision", ["fp16", "int8", "int4"])
def test_the_engine_runs_what_export_writes(
    precision: Precision, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Through the real binding, with the cache at addresses that never change: logits are those of the CPU's engine.

    Weights in fewer bits round otherwise in the CPU's graph, so that those are held to the engine on TensorRT's double.
    """
    from anytime.export import export_checkpoint

    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    checkpoint = save_checkpoint("qwen3", tmp_path / "checkpoint")
    exported = export_checkpoint(
        checkpoint, tmp_path / "out", precision=precision, max_context=CONTEXT, engine="tensorrt"
    )
    engine, session = engine_of(exported)
    check_consistent(engine, "")
    other = open_bundle(exported.path, threads=1).engine if precision == "fp16" else trt_engine_of(exported)
    found, expected = everything(engine), everything(other)
    for got, wanted in zip(found[:-2], expected, strict=False):
        np.testing.assert_allclose(got, wanted, atol=TOLERANCE * float(np.abs(wanted).max()))
    assert [len(taken) for taken in found[-2:]] == [6, 6]
    assert set(session.runs) == {-1, *range(1, 27)}


def trt_engine_of(bundle: Bundle) -> GpuEngine:
    return on_tensorrt(bundle, "appended")[0]
