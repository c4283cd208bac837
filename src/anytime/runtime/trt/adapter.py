"""TensorRT's run-time API as the engine uses it, one for 10.3, 10.13 to 10.16 and 11.x.

Of what these have in common only little is needed; what differs is asked for by name where it is used.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

import msgspec

from anytime.errors import DeviceError, EngineError

OLDEST, NEWEST_MAJOR = (10, 3), 11

# All that is used of TensorRT, by class, "" being the module; a test holds this file to it, and it to every version.
USED = {
    "": ("__version__", "ExecutionContextAllocationStrategy", "ILogger", "Runtime", "TensorIOMode", "TensorLocation"),
    "ExecutionContextAllocationStrategy": ("USER_MANAGED",),
    "ICudaEngine": (
        "create_execution_context",
        "device_memory_size_v2",
        "get_tensor_dtype",
        "get_tensor_location",
        "get_tensor_mode",
        "get_tensor_name",
        "get_tensor_profile_shape",
        "get_tensor_shape",
        "num_io_tensors",
        "num_optimization_profiles",
    ),
    "IExecutionContext": (
        "execute_async_v3",
        "infer_shapes",
        "set_device_memory",
        "set_input_shape",
        "set_optimization_profile_async",
        "set_tensor_address",
    ),
    "ILogger": ("ERROR", "INTERNAL_ERROR", "log"),
    "Runtime": ("deserialize_cuda_engine", "engine_host_code_allowed"),
    "TensorIOMode": ("OUTPUT",),
    "TensorLocation": ("HOST",),
}
# And what only some versions have: from 10.15 on, for caches that are updated in place.
SOMETIMES_USED = {"ICudaEngine": ("get_aliased_input_tensor",)}


class Tensor(msgspec.Struct, frozen=True):
    """An input or output of a model. -1 in ``shape``: it varies. ``on_host``: its address is one of the host's."""

    shape: tuple[int, ...]
    dtype: str
    output: bool
    on_host: bool


class TensorRT:
    """The installed TensorRT."""

    def __init__(self, module: Any) -> None:
        self.version = str(module.__version__)
        have = tuple(int(part) for part in self.version.split(".")[:2])
        if not OLDEST <= have < (NEWEST_MAJOR + 1, 0):
            oldest = ".".join(map(str, OLDEST))
            raise DeviceError(
                f"this is TensorRT {self.version}, anytime runs on {oldest} to {NEWEST_MAJOR}.x: install one of these"
            )
        self.trt = module
        self._log = _log_of(module)
        self._runtime: Any = None  # made when it is needed: without a driver it would crash

    @property
    def complaint(self) -> str:
        """The latest error that TensorRT has reported."""
        return self._log.latest or "it does not say why"

    def load(self, plan: bytes, host_code: bool) -> Model:
        """The model of a plan, whose weights are then on the GPU. Plans run native code: only ones that are trusted.

        ``host_code``: it brings code for the processor, too, as plans do that also run on later versions.

        Raises:
            EngineError: it cannot be loaded.
        """
        self._runtime = self._runtime or self.trt.Runtime(self._log)
        self._runtime.engine_host_code_allowed = host_code
        engine = self._runtime.deserialize_cuda_engine(plan)
        if engine is None:
            raise EngineError(f"TensorRT {self.version} cannot load the plan: {self.complaint}")
        return Model(self, engine)


class Model:
    """A loaded plan: its tensors by name, and contexts to run it in."""

    def __init__(self, tensorrt: TensorRT, engine: Any) -> None:
        self._tensorrt, self._engine = tensorrt, engine
        self.profiles = int(engine.num_optimization_profiles)
        self.scratch_bytes = int(engine.device_memory_size_v2)  # that every context needs, and those of one can share
        names = [engine.get_tensor_name(i) for i in range(engine.num_io_tensors)]
        self.tensors = {name: self._tensor(name) for name in names}

    def _tensor(self, name: str) -> Tensor:
        trt, engine = self._tensorrt.trt, self._engine
        return Tensor(
            shape=tuple(engine.get_tensor_shape(name)),
            dtype=engine.get_tensor_dtype(name).name,
            output=engine.get_tensor_mode(name) == trt.TensorIOMode.OUTPUT,
            on_host=engine.get_tensor_location(name) == trt.TensorLocation.HOST,
        )

    def largest(self, name: str, profile: int) -> tuple[int, ...]:
        """The largest shape that an input may have in an optimization profile."""
        return tuple(self._engine.get_tensor_profile_shape(name, profile)[2])

    def alias(self, output: str) -> str | None:
        """The input whose memory an output must share; None where this version does not tell."""
        ask = getattr(self._engine, "get_aliased_input_tensor", None)
        return None if ask is None else ask(output) or ""

    def context(self, profile: int, scratch: int, stream: int) -> Context:
        """A context for runs of one optimization profile. Those that share ``scratch`` must not run at the same time.

        Raises:
            EngineError: it cannot be made.
        """
        strategy = self._tensorrt.trt.ExecutionContextAllocationStrategy.USER_MANAGED
        context = self._engine.create_execution_context(strategy)
        if context is None:
            raise EngineError(f"TensorRT makes no execution context: {self._tensorrt.complaint}")
        context.set_device_memory(scratch, self.scratch_bytes)
        if not context.set_optimization_profile_async(profile, stream):
            raise EngineError(f"TensorRT does not take optimization profile {profile}: {self._tensorrt.complaint}")
        return Context(self._tensorrt, context, stream)


class Context:
    """Shapes and addresses of one run after another. The memory at the addresses is the caller's to keep."""

    def __init__(self, tensorrt: TensorRT, context: Any, stream: int) -> None:
        self._tensorrt, self._context, self._stream = tensorrt, context, stream

    def set_shape(self, name: str, shape: tuple[int, ...]) -> None:
        """Raises: EngineError: the optimization profile does not allow it."""
        if not self._context.set_input_shape(name, shape):
            raise EngineError(f"TensorRT does not take {name} as {shape}: {self._tensorrt.complaint}")

    def bind(self, name: str, address: int) -> None:
        """Raises: EngineError: the address cannot be one."""
        if not self._context.set_tensor_address(name, address):
            raise EngineError(f"TensorRT does not take {address:#x} for {name}: {self._tensorrt.complaint}")

    def check(self) -> None:
        """Raises: EngineError: a shape or a value that shapes depend on is still missing."""
        missing = self._context.infer_shapes()
        if missing:
            raise EngineError(f"TensorRT misses {', '.join(missing)}: {self._tensorrt.complaint}")

    def enqueue(self) -> None:
        """Queue a run. Raises: EngineError: TensorRT refuses it."""
        if not self._context.execute_async_v3(self._stream):
            raise EngineError(f"TensorRT failed: {self._tensorrt.complaint}")


def _log_of(trt: Any) -> Any:
    """TensorRT's errors, of which the latest is kept; anything less is not worth a line."""

    class Log(trt.ILogger):  # type: ignore[misc]  # TensorRT is not there when this is checked
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.latest = ""

        def log(self, severity: Any, text: str) -> None:
            if severity in (trt.ILogger.ERROR, trt.ILogger.INTERNAL_ERROR):
                self.latest = text.strip()

    return Log()


def import_tensorrt() -> TensorRT:
    """The installed TensorRT; nothing of it runs yet.

    Raises:
        DeviceError: there is none, or it is too old or too new.
    """
    try:
        return TensorRT(import_module("tensorrt"))
    except (ImportError, OSError) as error:
        raise DeviceError(f"TensorRT cannot be imported ({error}): install it, on a Jetson with JetPack") from error
