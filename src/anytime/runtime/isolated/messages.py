"""What crosses between the two processes: data only, as msgpack."""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

import msgspec

from anytime import errors
from anytime.errors import AnswerFormatError, AnytimeError, EngineError
from anytime.ext.slots import FAILED, FINAL, VALID, Slots
from anytime.runtime.answer import Answer
from anytime.runtime.answers.formats import AnswerFormat, Choices, JsonSchema, Regex, Text
from anytime.runtime.engine import EngineName, EngineSpec
from anytime.runtime.isolation import Isolation
from anytime.runtime.sampling import Sampling
from anytime.scheduler.profile import LatencyProfile

_ANSWERS = msgspec.msgpack.Decoder(Answer)  # made here, not when the first answer is due
_SPARE_BYTES = 8  # a longer reason needs a separator, and a longer header
How: TypeAlias = Literal["hurry", "tighten", "extend"]
_FORMATS: dict[str, type[Any]] = {kind.__name__: kind for kind in (Choices, Regex, JsonSchema, Text)}


class Start(msgspec.Struct, frozen=True):
    """What a worker is started with. File descriptors are inherited under their numbers."""

    parent: int
    memory: int
    bells: list[int]
    bundle: str | None = None
    threads: int | None = None
    engine: EngineName = "onnxruntime"
    profile_file: str | None = None
    profile: LatencyProfile | None = None  # what the first worker found or measured
    estimate: bool = False
    speculate: bool = False
    overload: str = "degrade"
    isolation: Isolation = Isolation()
    formats: tuple[list[Any], ...] = ()  # to be compiled before the first request


class Ready(msgspec.Struct, frozen=True, tag=True):
    """A worker's first words; ``profile`` only where it was started without."""

    spec: EngineSpec
    profile: LatencyProfile | None
    realtime: dict[str, str]


class Failed(msgspec.Struct, frozen=True, tag=True):
    """An error, by the name of its class."""

    kind: str
    message: str

    def error(self) -> AnytimeError:
        kind = getattr(errors, self.kind, EngineError)
        made: AnytimeError = kind(self.message)
        return made


class Ask(msgspec.Struct, frozen=True, tag=True):
    """A request; ``keywords`` are those of ``submit``."""

    prompt: str
    answer: list[Any]
    sampling: Sampling | None
    keywords: dict[str, Any]


class Prepare(msgspec.Struct, frozen=True, tag=True):
    """Compile this answer format."""

    answer: list[Any]


class Steer(msgspec.Struct, frozen=True, tag=True):
    """Do this to the request under way that has this serial."""

    serial: int
    how: How
    deadline_ns: int = 0


class Drift(msgspec.Struct, frozen=True, tag=True):
    """Say why the latency profile should be measured anew."""


Message: TypeAlias = "Ask | Prepare | Steer | Drift"


class Found(msgspec.Struct, frozen=True):
    """An answer in a slot: the best so far, or the final one, or what was wrong with the request."""

    sequence: int
    final: bool
    answer: Answer | None
    failed: Failed | None = None


def failed(error: BaseException) -> Failed:
    """An error on its way; one that is none of the package's is a fault of the worker's."""
    if isinstance(error, AnytimeError):
        return Failed(type(error).__name__, str(error))
    return Failed("EngineError", f"unexpected {error!r} in the isolated process")


def pack_format(answer: AnswerFormat) -> list[Any]:
    """An answer format as its name and arguments.

    Raises:
        AnswerFormatError: it is none.
    """
    name = type(answer).__name__
    if type(answer) is not _FORMATS.get(name):
        raise AnswerFormatError(f"unknown answer format {answer!r}: use Choices, Regex, JsonSchema or Text")
    if isinstance(answer, Choices):
        return [name, *answer.texts]
    if isinstance(answer, Regex):
        return [name, answer.pattern, answer.max_tokens]
    if isinstance(answer, JsonSchema):
        return [name, answer.schema, answer.max_tokens]
    return [name, answer.max_tokens]


def unpack_format(packed: list[Any]) -> AnswerFormat:
    name, *arguments = packed
    made: AnswerFormat = _FORMATS[name](*arguments)
    return made


def unpack_message(raw: bytes) -> Message:
    return msgspec.msgpack.decode(raw, type=Ask | Prepare | Steer | Drift)


def publish(slots: Slots, slot: int, serial: int, answer: Answer, final: bool) -> None:
    """Put an answer into its slot; a thought that is too long for it is cut."""
    flags = (FINAL if final else 0) | (VALID if answer.valid else 0)
    text, detail = answer.text.encode(), _detail(answer)
    excess = len(text) + len(detail) - slots.answer_bytes
    if excess > 0:
        why = f"the thought is cut: an isolated answer has {slots.answer_bytes} bytes"
        kept = answer.thought.encode()[: -excess - len(why) - _SPARE_BYTES].decode(errors="ignore")
        reason = "; ".join(filter(None, (answer.reason, why)))
        detail = _detail(msgspec.structs.replace(answer, thought=kept, reason=reason))
    if not slots.publish(slot, serial, answer.confidence, flags, text, detail):
        publish_failure(slots, slot, serial, EngineError(f"the answer has {len(text)} bytes, more than a slot holds"))


def publish_failure(slots: Slots, slot: int, serial: int, error: BaseException) -> None:
    """Say in its slot why there will be no answer."""
    message = failed(error)
    room = slots.answer_bytes - 256
    cut = msgspec.structs.replace(message, message=message.message.encode()[:room].decode(errors="ignore"))
    slots.publish(slot, serial, 0.0, FINAL | FAILED, b"", msgspec.msgpack.encode(cut))


def read(slots: Slots, slot: int, serial: int) -> Found | None:
    """What a slot holds for a request."""
    raw = slots.read(slot, serial)
    if raw is None:
        return None
    sequence, flags, _, _, text, detail = raw
    if flags & FAILED:
        return Found(sequence, True, None, msgspec.msgpack.decode(detail, type=Failed))
    answer = msgspec.structs.replace(_ANSWERS.decode(detail), text=text.decode())
    return Found(sequence, bool(flags & FINAL), answer)


def _detail(answer: Answer) -> bytes:
    return msgspec.msgpack.encode(msgspec.structs.replace(answer, text=""))
