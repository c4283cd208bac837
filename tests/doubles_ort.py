"""A double of the onnxruntime package on a GPU, which is that of ``doubles_trt``; and that GPU with the host's memory.

A session runs the double's model, or another kind of run, when somebody waits for the device. Runs of one graph are
captured as ONNX Runtime does it: the first one is made, later ones repeat it with what it had bound and read on the
host, whatever has changed since. Graphs belong to the thread that captured them.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt

from anytime.runtime.gpu.device import ALIGNMENT
from anytime.testing import Script
from tests.doubles_device import CudaFailure, FakeDevice
from tests.doubles_trt import Run, Shapes, tensors

FELL_BACK = (
    "[ONNXRuntimeError] : 1 : FAIL : This session contains graph nodes that are assigned to the default CPU EP, but "
    "fallback to CPU EP has been explicitly disabled by the user."
)


class Fail(Exception):
    """What ONNX Runtime raises; it derives from nothing else."""


class HostDevice(FakeDevice):
    """The GPU of ``FakeDevice``, whose addresses are those of memory that a real session can use."""

    def __init__(self, size: int = 64 << 20) -> None:
        super().__init__(size, graphs=False)
        self._begin = self.memory.ctypes.data
        self._next = -(-self._begin // ALIGNMENT) * ALIGNMENT

    def allocate(self, size: int) -> int:
        address, self._next = self._next, self._next + -(-size // ALIGNMENT) * ALIGNMENT
        if self._next - self._begin > self.memory.nbytes:
            raise CudaFailure("out of memory")
        self.log.append("allocate")
        self.at(address, size)[:] = 0
        self.free -= size
        return address

    def at(self, address: int, size: int) -> npt.NDArray[np.uint8]:
        assert self._begin <= address <= address + size <= self._next, f"{address:#x} is not the GPU's"
        return self.memory[address - self._begin : address - self._begin + size]


class _Options:
    """``SessionOptions`` and ``RunOptions``."""

    def __init__(self) -> None:
        self.log_severity_level, self.enable_mem_pattern = 2, True
        self.entries: dict[str, str] = {}
        self.devices: tuple[Any, dict[str, str]] | None = None

    def add_session_config_entry(self, name: str, value: str) -> None:
        self.entries[name] = value

    add_run_config_entry = add_session_config_entry

    def add_provider_for_devices(self, devices: list[Any], options: dict[str, str]) -> None:
        assert devices, "no devices are given"
        self.devices = (devices, options)


class _Binding:
    def __init__(self) -> None:
        self.places: dict[str, tuple[str, Any, tuple[int, ...], int]] = {}

    def bind_input(self, name: str, device: str, index: int, dtype: Any, shape: tuple[int, ...], place: int) -> None:
        assert index == 0
        self.places[name] = (device, dtype, shape, place)

    bind_output = bind_input


def make_onnxruntime(
    device: FakeDevice,
    script: Script,
    shapes: Shapes,
    *,
    version: str = "1.31.1",
    cuda: str = "13.0",
    available: tuple[str, ...] = ("CUDAExecutionProvider", "CPUExecutionProvider"),
    falls_back: bool = False,
    honest: bool = True,
    ep_devices: tuple[Any, ...] = (),
    spent: Callable[[int, int], None] | None = None,
    kind: type[Run] = Run,
) -> Any:
    """A module like ``onnxruntime``; its ``sessions`` are those that were made.

    ``falls_back``: no provider but the CPU's works. ``honest``: it says so where that has been asked for.
    """
    sessions: list[Any] = []
    registered: list[tuple[str, str]] = []

    class InferenceSession:
        def __init__(self, file: str, settings: _Options, providers: Any = None, enable_fallback: int = 1) -> None:
            wanted = providers[0][0] if providers else settings.devices[0][0].ep_name  # type: ignore[index]
            self.file, self.settings, self.fallback = file, settings, enable_fallback
            self.options = providers[0][1] if providers else settings.devices[1]  # type: ignore[index]
            if falls_back and honest and settings.entries.get("session.disable_cpu_ep_fallback") == "1":
                raise Fail(FELL_BACK)
            self.providers = ["CPUExecutionProvider"] if falls_back else [wanted, "CPUExecutionProvider"]
            self.graphs: dict[tuple[int, str], Run] = {}
            self.runs: list[str] = []
            self.failure = ""
            sessions.append(self)

        def get_providers(self) -> list[str]:
            return self.providers

        def get_inputs(self) -> list[Any]:
            return [SimpleNamespace(name=name) for name in tensors(shapes)]

        def get_outputs(self) -> list[Any]:
            return []

        def io_binding(self) -> _Binding:
            return _Binding()

        def run_with_iobinding(self, binding: _Binding, options: _Options) -> None:
            if self.failure:
                raise Fail(self.failure)
            plugin = self.providers[0].startswith("Nv")
            graph = options.entries.get("cuda_graph_annotation_id" if plugin else "gpu_graph_id", "0")
            self.runs.append(graph)
            run = self.graphs.get((threading.get_ident(), graph)) or self._run_of(binding)
            if graph != "-1" and self.options["enable_cuda_graph"] == "1":
                self.graphs[threading.get_ident(), graph] = run
            device.submit("run", run)

        def _run_of(self, binding: _Binding) -> Run:
            for name, (place, dtype, _, _) in binding.places.items():
                assert place == ("cpu" if name == "first_logit" else "cuda"), f"{name} is bound on {place}"
                kinds = {"INT64": np.int64, "FLOAT": np.float32, "HALF": np.float16}
                assert dtype is kinds[tensors(shapes)[name][1]]
            assert set(binding.places) == set(tensors(shapes))
            addresses = {name: place for name, (*_, place) in binding.places.items()}
            ids = binding.places["input_ids"][2]
            first = device.host_number(addresses["first_logit"])
            assert binding.places["logits"][2] == (ids[0], ids[1] - first, shapes.vocab)
            return kind(shapes, device, addresses, ids, first, script, spent)

    return SimpleNamespace(
        __version__=version,
        cuda_version=cuda,
        SessionOptions=_Options,
        RunOptions=_Options,
        InferenceSession=InferenceSession,
        get_available_providers=lambda: list(available),
        get_ep_devices=lambda: list(ep_devices) if registered else [],
        register_execution_provider_library=lambda name, path: registered.append((name, path)),
        preload_dlls=lambda: print("libcudnn was not found"),
        sessions=sessions,
        registered=registered,
    )
