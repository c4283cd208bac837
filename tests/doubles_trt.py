"""A double of TensorRT's run-time API, for the logic of the engine on it.

It has the attributes that ``adapter`` lists and no others. The model keeps each token in all its keys and its position
in all its values, refuses to read a cache in which they disagree, and says what a script says, so that every copy that
is missing, late or misplaced is seen.
"""

from __future__ import annotations

import enum
import json
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from anytime.runtime.gpu.device import ALIGNMENT
from anytime.testing import Script
from tests.doubles_device import DEVICES, FakeDevice


class Shapes(msgspec.Struct, frozen=True):
    """What the double of a plan says; its bytes are this as JSON."""

    rows: int = 4
    chunk: int = 64
    layers: int = 2
    heads: int = 2
    context: int = 256
    channels: int = 8
    vocab: int = 64
    update: str = "in-place"
    first_logit_on_host: bool = True
    scratch: int = 1000
    profiles: int = 2
    alias: str = "past_key_values"
    dtype: str = "HALF"
    host_code: bool = False


class _Location(enum.Enum):
    DEVICE = 0
    HOST = 1


class _Mode(enum.Enum):
    NONE = 0
    INPUT = 1
    OUTPUT = 2


class _Strategy(enum.Enum):
    USER_MANAGED = 2


class _ILogger:
    ERROR = "ERROR"
    INTERNAL_ERROR = "INTERNAL_ERROR"

    def log(self, severity: str, text: str) -> None: ...


def make_tensorrt(
    script: Script,
    version: str = "10.16.1",
    spent: Callable[[int, int], None] | None = None,
    kind: type[Run] | None = None,
) -> Any:
    """A module like ``tensorrt``, whose every plan's model says what ``script`` says.

    ``spent(tokens, context)`` is told every run when it is done; ``kind`` is of what a run is made, where not ``Run``.
    """

    class Engine(_Engine):
        def create_execution_context(self, strategy: _Strategy) -> _Context | None:
            assert strategy is _Strategy.USER_MANAGED
            return _Context(self._shapes, self._log, script, spent, kind or Run)

    if tuple(int(part) for part in version.split(".")[:2]) >= (10, 15):
        Engine.get_aliased_input_tensor = _aliased  # type: ignore[attr-defined]

    class Runtime:
        def __init__(self, log: _ILogger) -> None:
            self._log = log

        engine_host_code_allowed = False

        def deserialize_cuda_engine(self, plan: bytes) -> _Engine | None:
            try:
                shapes = msgspec.json.decode(plan, type=Shapes)
                if shapes.host_code and not self.engine_host_code_allowed:
                    self._log.log(_ILogger.ERROR, "this plan has host code, which is not allowed")
                    return None
                return Engine(shapes, self._log)
            except msgspec.DecodeError:
                self._log.log(
                    _ILogger.ERROR, "Serialization assertion stdVersionRead == serializationVersion failed.\n"
                )
                return None

    return SimpleNamespace(
        __version__=version,
        Runtime=Runtime,
        ILogger=_ILogger,
        TensorLocation=_Location,
        TensorIOMode=_Mode,
        ExecutionContextAllocationStrategy=_Strategy,
    )


def _aliased(engine: _Engine, name: str) -> str | None:
    shapes = engine._shapes
    prefix, _, part = name.partition(".")
    return f"{shapes.alias}.{part}" if prefix == "present" and shapes.alias else None


class _Engine:
    """``ICudaEngine``."""

    def __init__(self, shapes: Shapes, log: _ILogger) -> None:
        self._shapes, self._log = shapes, log
        self._tensors = tensors(shapes)
        self.num_optimization_profiles = shapes.profiles
        self.num_io_tensors = len(self._tensors)
        self.device_memory_size_v2 = shapes.scratch

    def get_tensor_name(self, index: int) -> str:
        return list(self._tensors)[index]

    def get_tensor_shape(self, name: str) -> Sequence[int]:
        return self._tensors[name][0]

    def get_tensor_dtype(self, name: str) -> Any:
        return SimpleNamespace(name=self._tensors[name][1])

    def get_tensor_mode(self, name: str) -> _Mode:
        return _Mode.INPUT if _is_input(name) else _Mode.OUTPUT

    def get_tensor_location(self, name: str) -> _Location:
        return _Location.HOST if name == "first_logit" and self._shapes.first_logit_on_host else _Location.DEVICE

    def get_tensor_profile_shape(self, name: str, profile: int) -> list[tuple[int, ...]]:
        least, most = profile_shapes(self._shapes, name, profile)
        return [least, most, most]


def _is_input(name: str) -> bool:
    return name in ("input_ids", "past_length", "first_logit") or name.startswith("past_key_values")


def tensors(shapes: Shapes) -> dict[str, tuple[tuple[int, ...], str]]:
    """Shape and type of every tensor."""
    cache = (-1, shapes.heads, shapes.context, shapes.channels)
    new = (-1, shapes.heads, -1, shapes.channels)
    found: dict[str, tuple[tuple[int, ...], str]] = {
        "input_ids": ((-1, -1), "INT64"),
        "past_length": ((-1,), "INT64"),
        "first_logit": ((1,), "INT64"),
        "logits": ((-1, -1, shapes.vocab), "FLOAT"),
    }
    for part in parts(shapes):
        found[f"past_key_values.{part}"] = (cache, shapes.dtype)
        appended = shapes.update == "appended"
        found[f"new.{part}" if appended else f"present.{part}"] = (new if appended else cache, shapes.dtype)
    return found


def parts(shapes: Shapes) -> list[str]:
    return [f"{i}.{part}" for i in range(shapes.layers) for part in ("key", "value")]


def profile_shapes(shapes: Shapes, name: str, profile: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    rows, tokens = ((shapes.rows, 1), (1, shapes.chunk))[profile]
    most = {"input_ids": (rows, tokens), "past_length": (rows,), "first_logit": (1,)}
    least = {"input_ids": (1, 1), "past_length": (1,), "first_logit": (1,)}
    cache = (shapes.heads, shapes.context, shapes.channels)
    return least.get(name, (1, *cache)), most.get(name, (rows, *cache))


class _Context:
    """``IExecutionContext``."""

    def __init__(
        self, shapes: Shapes, log: _ILogger, script: Script, spent: Callable[[int, int], None] | None, kind: type[Run]
    ) -> None:
        self._plan, self._log, self._script, self._spent, self._kind = shapes, log, script, spent, kind
        self._profile: int | None = None
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._addresses: dict[str, int] = {}
        self._unsettled = True  # what a first run does must not come to be in a graph
        self._scratch = 0

    def _refuse(self, text: str) -> bool:
        self._log.log(_ILogger.ERROR, text)
        return False

    def set_device_memory(self, memory: int, size: int) -> None:
        assert memory % ALIGNMENT == 0
        assert size >= self._plan.scratch
        self._scratch = memory

    def set_optimization_profile_async(self, profile_index: int, stream_handle: int) -> bool:
        if profile_index >= self._plan.profiles:
            return self._refuse(f"there is no profile {profile_index}")

        def apply() -> None:
            self._profile = profile_index

        DEVICES[stream_handle].submit("profile", apply)
        return True

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        assert self._profile is not None, "the profile has not been set yet: nobody has waited for it"
        least, most = profile_shapes(self._plan, name, self._profile)
        if len(shape) != len(least) or any(not a <= n <= b for a, n, b in zip(least, shape, most, strict=True)):
            return self._refuse(f"{name} {shape} is not within {least} and {most}")
        if self._shapes.get(name) != shape:
            self._shapes[name], self._unsettled = shape, True
        return True

    def set_tensor_address(self, name: str, memory: int) -> bool:
        on_host = name == "first_logit" and self._plan.first_logit_on_host
        if not on_host and (memory % ALIGNMENT or not memory):
            return self._refuse(f"{name} is not aligned")
        self._addresses[name] = memory
        return True

    def infer_shapes(self) -> list[str]:
        wanted = [name for name in tensors(self._plan) if _is_input(name)]
        missing = [name for name in wanted if name not in self._shapes]
        return missing + [name for name in ("first_logit",) if name not in self._addresses]

    def execute_async_v3(self, stream_handle: int) -> bool:
        device = DEVICES[stream_handle]
        names = tensors(self._plan)
        if any(name not in self._addresses for name in names) or self.infer_shapes() or not self._scratch:
            return self._refuse("an address or a shape is missing")
        if device.recording is not None and self._unsettled:
            return self._refuse("operation not permitted when stream is capturing")
        if self._plan.update == "in-place" and any(
            self._addresses[f"present.{part}"] != self._addresses[f"past_key_values.{part}"]
            for part in parts(self._plan)
        ):
            return self._refuse("the cache must be updated in place")
        self._unsettled = False
        first = device.host_number(self._addresses["first_logit"]) if self._plan.first_logit_on_host else None
        shape, addresses = self._shapes["input_ids"], dict(self._addresses)
        run = self._kind(self._plan, device, addresses, shape, first, self._script, self._spent)
        device.submit("enqueue", run)
        return True


class Run:
    """One run of the model, with the addresses and shapes it was queued with."""

    def __init__(
        self,
        plan: Shapes,
        device: FakeDevice,
        addresses: dict[str, int],
        shape: tuple[int, ...],
        first_logit: int | None,
        script: Script,
        spent: Callable[[int, int], None] | None,
    ) -> None:
        self.plan, self._device, self._addresses, self._script = plan, device, addresses, script
        self.rows, self.tokens = shape
        self._first_logit, self._spent = first_logit, spent

    @property
    def first_logit(self) -> int:
        """As it was when the run was queued, where it is the host's."""
        return int(self.array("first_logit", (1,), np.int64)[0]) if self._first_logit is None else self._first_logit

    def array(self, name: str, shape: tuple[int, ...], dtype: Any) -> npt.NDArray[Any]:
        count = int(np.prod(shape))
        return self._device.numbers(self._addresses[name], count, dtype).reshape(shape)

    def __call__(self) -> None:
        plan, rows, tokens = self.plan, self.rows, self.tokens
        ids = self.array("input_ids", (rows, tokens), np.int64)
        past = self.array("past_length", (rows,), np.int64)
        first = self.first_logit
        assert 0 <= first < tokens, f"there are no logits from {first} of {tokens} tokens on"
        assert ((ids >= 0) & (ids < plan.vocab)).all(), "a token outside the vocabulary reads elsewhere"
        logits = self.array("logits", (rows, tokens - first, plan.vocab), np.float32)
        held = [self._held(row, int(past[row])) for row in range(rows)]
        for row in range(rows):
            self._write(row, ids[row], int(past[row]))
            for token in range(first, tokens):
                said = self._script((*held[row], *(int(i) for i in ids[row, : token + 1])))
                logits[row, token - first] = 0.0
                if said < 0:
                    logits[row, token - first] = np.nan
                else:
                    logits[row, token - first, said] = 5.0
        if self._spent is not None:
            self._spent(tokens, int(past.max()))

    def _held(self, row: int, length: int) -> tuple[int, ...]:
        """The tokens in a row of the cache, which all layers, heads and channels must agree on."""
        plan = self.plan
        assert 0 <= length <= plan.context
        shape = (self.rows, plan.heads, plan.context, plan.channels)
        tokens: npt.NDArray[Any] | None = None
        for part in parts(plan):
            held = self.array(f"past_key_values.{part}", shape, np.float16)[row]
            assert np.isfinite(held).all(), "0 times what is no number is none either"
            held = held[:, :length]
            if part.endswith("value"):
                assert (held == np.arange(length)[None, :, None]).all(), f"positions in {part}: {held[0, :, 0]}"
                continue
            tokens = held[0, :, 0] if tokens is None else tokens
            assert (held == tokens[None, :, None]).all(), f"tokens in {part}"
        assert tokens is not None
        return tuple(int(token) for token in tokens)

    def _write(self, row: int, ids: npt.NDArray[Any], past: int) -> None:
        plan, tokens = self.plan, self.tokens
        for part in parts(plan):
            content = np.arange(past, past + tokens) if part.endswith("value") else ids
            if plan.update == "appended":
                new = self.array(f"new.{part}", (self.rows, plan.heads, tokens, plan.channels), np.float16)
                new[row] = content[None, :, None]
            else:
                assert past + tokens <= plan.context, "a write behind the cache"
                shape = (self.rows, plan.heads, plan.context, plan.channels)
                cache = self.array(f"present.{part}", shape, np.float16)
                cache[row, :, past : past + tokens] = content[None, :, None]


def plan_bytes(shapes: Shapes) -> bytes:
    return json.dumps(msgspec.to_builtins(shapes)).encode()
