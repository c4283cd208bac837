"""What export writes, run by the engine on ONNX Runtime's GPU providers: real sessions, on the CPU instead."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from anytime.bundle import Bundle, Precision
from anytime.runtime.gpu import GpuEngine
from anytime.runtime.loading import open_bundle
from anytime.runtime.ortgpu.engine import graph_of, ort_engine
from anytime.runtime.ortgpu.provider import Provider
from anytime.runtime.ortgpu.session import Session
from anytime.runtime.trt.consistent import check_consistent
from tests.checkpoints import save_checkpoint
from tests.doubles_ort import HostDevice
from tests.test_trt_contract import CONTEXT, TOLERANCE, everything

pytest.importorskip("torch")
pytest.importorskip("onnx_ir")
onnxruntime = pytest.importorskip("onnxruntime")
pytestmark = pytest.mark.filterwarnings("ignore")  # torch's tracer and Optimum warn about themselves

CPU = Provider("CPUExecutionProvider", "cpu", "gpu_graph_id")
_SLACK = {"fp16": 1, "int8": 6, "int4": 20}  # the two graphs round weights in blocks of other sizes
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
def test_the_engine_runs_what_export_writes(precision: Precision, tmp_path: Path) -> None:
    """Through the real binding, with the cache at addresses that never change: logits are those of the CPU's engine."""
    from anytime.export import export_checkpoint

    checkpoint = save_checkpoint("qwen3", tmp_path / "checkpoint")
    exported = export_checkpoint(
        checkpoint, tmp_path / "out", precision=precision, max_context=CONTEXT, engine="tensorrt"
    )
    engine, session = engine_of(exported)
    check_consistent(engine, "")
    found, expected = everything(engine), everything(open_bundle(exported.path, threads=1).engine)
    *logits, _, _ = found
    for got, wanted in zip(logits, expected, strict=False):
        atol = _SLACK[precision] * TOLERANCE * float(np.abs(wanted).max())
        np.testing.assert_allclose(got, wanted, atol=atol)
    assert [len(taken) for taken in found[-2:]] == [6, 6]
    assert set(session.runs) == {-1, *range(1, 27)}
