"""Machines with ONNX Runtime and a GPU, on doubles, for the tests of the engines on ONNX Runtime's GPU providers."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import pytest

from anytime.bundle import Bundle
from anytime.runtime.gpu.device import Device
from anytime.runtime.gpu.engine import GpuEngine
from anytime.runtime.ortgpu import engine as opening
from anytime.runtime.ortgpu import provider
from anytime.runtime.ortgpu.session import open_session
from anytime.targets.gpu import Gpu
from anytime.testing import Script
from tests.doubles_device import FakeDevice
from tests.doubles_ort import make_onnxruntime
from tests.doubles_trt import Shapes
from tests.trt import weighed

APPENDED = Shapes(update="appended", rows=4, chunk=64, context=256)
RTX = SimpleNamespace(ep_name="NvTensorRTRTXExecutionProvider")
PLUGIN = SimpleNamespace(__version__="0.5.0", get_library_path=lambda: "/plug-in.so")


class Machine:
    """What is installed: change it, then open an engine."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._patch = monkeypatch
        self.device = FakeDevice(graphs=False)
        self.packages = ["onnxruntime-gpu"]
        self.has(Gpu("Double", "8.7", "13.2"))
        self.onnxruntime()
        monkeypatch.setattr(provider, "_installed", lambda name: name in self.packages)
        monkeypatch.setattr(opening, "_open_device", self._opened)
        monkeypatch.setitem(sys.modules, "onnxruntime_ep_nv_tensorrt_rtx", PLUGIN)

    def _opened(self, _provider: Any) -> Device:
        return self.device

    def has(self, gpu: Gpu | Exception) -> None:
        """This GPU, or what the driver says instead."""

        def probe() -> Gpu:
            if isinstance(gpu, Exception):
                raise gpu
            return gpu

        self._patch.setattr(opening, "probe", probe)

    def onnxruntime(self, script: Script = weighed, shapes: Shapes = APPENDED, **what: Any) -> Any:
        """This onnxruntime; see ``make_onnxruntime``."""
        self.module = make_onnxruntime(self.device, script, shapes, **what)
        self._patch.setitem(sys.modules, "onnxruntime", self.module)
        return self.module


def make_ort_engine(
    bundle: Bundle, script: Script = weighed, device: FakeDevice | None = None, **what: Any
) -> tuple[GpuEngine, FakeDevice, Any]:
    """An engine on the double of ONNX Runtime's CUDA provider, its GPU and the session it runs."""
    device = device or FakeDevice(graphs=False)
    module = make_onnxruntime(device, script, APPENDED, **what)
    graph = opening.graph_of(bundle)
    options = {"enable_cuda_graph": "1"}
    file = bundle.file(graph.file)
    engine = opening.ort_engine(bundle, graph, device, lambda: open_session(module, provider.CUDA, file, options))
    return engine, device, module.sessions[0]
