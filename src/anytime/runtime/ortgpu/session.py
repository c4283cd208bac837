"""A session of ONNX Runtime on a GPU. Its own providers are asserted: asked for a GPU, it never runs on the CPU.

ONNX Runtime keeps captured CUDA graphs for each thread that runs a session, so one thread of the session's own does.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from queue import SimpleQueue
from typing import Any, TypeAlias

import msgspec
import numpy as np

from anytime.errors import DeviceError, EngineError
from anytime.runtime.ortgpu.provider import TENSORRT_RTX, Provider

NO_GRAPH = -1
_ERRORS = 3  # as a level of logging
_Call: TypeAlias = tuple[Callable[[], None], SimpleQueue[BaseException | None]]


class RunFailed(Exception):
    """ONNX Runtime could not run on the GPU."""


class Bound(msgspec.Struct, frozen=True):
    """A tensor of a run: the memory that it is in, for as long as the run can be made."""

    name: str
    dtype: type[np.generic]
    shape: tuple[int, ...]
    address: int
    on_host: bool = False


class Session:
    """Runs of a graph with inputs and outputs at fixed addresses."""

    def __init__(self, module: Any, session: Any, provider: Provider, device_type: str = "cuda") -> None:
        """Raises: DeviceError: the session's own first provider is not the one that was asked for."""
        self.version = str(module.__version__)
        self.provider = provider
        found = list(session.get_providers())
        if found[:1] != [provider.name]:
            raise DeviceError(_fallen_back(provider, self.version, f"its session runs on {', '.join(found) or 'none'}"))
        self._module, self._session, self._device_type = module, session, device_type
        self._thread = _Thread()

    def check(self, inputs: set[str], outputs: set[str]) -> None:
        """Raises: EngineError: the graph has other inputs or outputs."""
        found = {node.name for node in (*self._session.get_inputs(), *self._session.get_outputs())}
        other = sorted(found ^ (inputs | outputs))
        if other:
            raise EngineError(
                f"the graph is not one that this anytime writes (it differs in {', '.join(other[:3])}): export it again"
            )

    def bind(self, inputs: Sequence[Bound], outputs: Sequence[Bound], graph: int) -> Callable[[], None]:
        """A run, to be made any number of times; those of one ``graph`` are captured, none of ``NO_GRAPH`` is.

        What a graph reads on the host is as it was when it was captured. Calling it raises ``RunFailed`` where ONNX
        Runtime cannot.
        """
        binding = self._session.io_binding()
        for one in inputs:
            place = "cpu" if one.on_host else self._device_type
            binding.bind_input(one.name, place, 0, one.dtype, one.shape, one.address)
        for one in outputs:
            binding.bind_output(one.name, self._device_type, 0, one.dtype, one.shape, one.address)
        options = self._module.RunOptions()
        options.add_run_config_entry(self.provider.graph_option, str(graph))
        options.add_run_config_entry("disable_synchronize_execution_providers", "1")  # who wants the results waits

        def run() -> None:
            self._thread.call(lambda: self._session.run_with_iobinding(binding, options))

        return run


def open_session(
    module: Any, provider: Provider, file: Path, options: dict[str, str], devices: Sequence[Any] = ()
) -> Session:
    """A session of the graph in a file, with the provider's options; a plug-in's on the first of its devices.

    Raises:
        DeviceError: it would run on the CPU, at least in part.
        EngineError: ONNX Runtime cannot open it.
    """
    settings = module.SessionOptions()
    settings.log_severity_level = _ERRORS
    settings.enable_mem_pattern = False  # a block of memory for each length of a prompt would be kept
    settings.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    try:
        if provider is TENSORRT_RTX:
            settings.add_provider_for_devices(list(devices[:1]), options)
            session = module.InferenceSession(str(file), settings)
        else:
            providers = [(provider.name, options)]
            session = module.InferenceSession(str(file), settings, providers=providers, enable_fallback=0)
    except Exception as error:  # ONNX Runtime's exceptions have no common base
        text = str(error).strip()
        if "fallback to CPU" in text:
            raise DeviceError(_fallen_back(provider, module.__version__, text)) from error
        raise EngineError(
            f"onnxruntime {module.__version__} cannot open {file.name} with {provider.name} ({text}): end other "
            "programs that use the GPU, try another version of it, or use another engine"
        ) from error
    return Session(module, session, provider)


def _fallen_back(provider: Provider, version: str, how: str) -> str:
    return (
        f"onnxruntime {version} was asked for {provider.name} and takes the CPU instead ({how}): above it says what it "
        f"misses, mostly CUDA's libraries or cuDNN, which {provider.remedy} brings"
    )


class _Thread:
    """Does one thing after another, in a thread that ends with its owner."""

    def __init__(self) -> None:
        self._calls: SimpleQueue[_Call | None] = SimpleQueue()
        threading.Thread(target=_loop, args=(self._calls,), name="anytime-onnxruntime", daemon=True).start()
        weakref.finalize(self, self._calls.put, None)

    def call(self, work: Callable[[], None]) -> None:
        """Raises: RunFailed: with what it raised."""
        done: SimpleQueue[BaseException | None] = SimpleQueue()  # of its own: Ctrl-C may end a wait early
        self._calls.put((work, done))
        error = done.get()
        if error is not None:
            raise RunFailed(str(error).strip()) from error


def _loop(calls: SimpleQueue[_Call | None]) -> None:
    while (call := calls.get()) is not None:
        work, done = call
        try:
            work()
        except BaseException as error:
            done.put(error)
        else:
            done.put(None)
        del work, call  # they hold the session, which may go now
