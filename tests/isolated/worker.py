"""A worker of an isolated reasoner whose engine does what the first letter of the prompt says; for this folder's tests.

It answers 'left', and 'right' behind 20 tokens of thought. Behind the first published answer it stands still until it
is told to end (h), for ever (d), is killed (k) or stopped (s) there; or it is killed before there is any answer (x), or
takes 10 ms for each step of a thought that fills the context (e), or loses its GPU behind the first run (g).
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Sequence

from anytime.bundle import Bundle
from anytime.errors import EngineError
from anytime.ext.slots import ADMITTED, TAKEN, Slots
from anytime.runtime.engine import FloatArray, Health, Row
from anytime.runtime.isolated.messages import Ready, Start
from anytime.runtime.isolated.serve import main
from anytime.runtime.isolated.settings import pin, settle
from anytime.runtime.prompt import Codec
from anytime.runtime.reasoner import Reasoner
from anytime.scheduler.clock import MonotonicClock
from anytime.testing import ScriptedEngine

FAR_NS = 2**62
SIGNALS = {"k": signal.SIGKILL, "s": signal.SIGSTOP}


class _Clock(MonotonicClock):
    """Runs of the engine take the time they take."""

    def advance(self, by_ns: int) -> None:
        pass


class _Engine(ScriptedEngine):
    def __init__(self, codec: Codec, start: Start, clock: _Clock) -> None:
        assert start.profile is not None
        super().__init__(clock, start.profile.latency(), self._next, vocab_size=64, max_context=256)  # type: ignore[arg-type]
        self._codec, self._slots = codec, Slots(start.memory, start.bells)
        self._told, self._never = threading.Condition(), threading.Event()
        self._gone = False
        (self._endless,) = codec.encode_text("e")
        self._think, self._close = codec.encode("a")[-1], codec.close_ids[0]

    def _next(self, tokens: Sequence[int]) -> int:
        begin = list(tokens).index(self._think) + 1 if self._think in tokens else len(tokens)
        thought = list(tokens[begin:])
        if self._close in thought:
            end = thought.index(self._close)
            (word,) = self._codec.encode_text("left" if end < 20 else "right")
            return word if end + 1 == len(thought) else min(self._codec.stop_ids)
        return self._codec.encode_text("a")[0] if len(thought) < 60 or tokens[0] == self._endless else self._close

    def run(self, rows: Sequence[Row], generation: int) -> list[FloatArray]:
        tokens = [*rows[0].seq.state, *rows[0].tokens]
        deed = self._codec.decode(tokens[:1])
        if deed == "x":
            os.kill(os.getpid(), signal.SIGKILL)
        if deed == "e":
            self._never.wait(0.01)
        if deed == "g" and rows[0].seq.length:
            self._gone = True
            raise EngineError("the GPU was lost")
        if deed in "hdks" and rows[0].seq.length:
            self._stand(deed, generation)
        return super().run(rows, generation)

    def health(self) -> Health:
        return Health.LOST if self._gone else Health.READY

    def _stand(self, deed: str, generation: int) -> None:
        slot, serial = self._busy()
        self._slots.wait(slot, serial, 0, False, FAR_NS)  # until the first answer is published
        if deed in SIGNALS:
            os.kill(os.getpid(), SIGNALS[deed])
        with self._told:
            self._told.wait_for(lambda: deed == "h" and self._terminated == generation)

    def _busy(self) -> tuple[int, int]:
        for slot in range(self._slots.count):
            serial = asked_in(self._slots, slot)
            if self._slots.stage(slot, serial) in (TAKEN, ADMITTED):
                return slot, serial
        raise AssertionError("the engine runs, and nobody has asked")

    def terminate(self, generation: int) -> None:
        with self._told:
            super().terminate(generation)
            self._told.notify_all()


def asked_in(slots: Slots, slot: int) -> int:
    """The serial of the request in a slot, as it stands in the memory."""
    size = 128 + slots.request_bytes + 2 * (64 + slots.answer_bytes)
    return int.from_bytes(os.pread(slots.fd, 8, 64 + slot * size), "little")


def load(start: Start) -> tuple[Reasoner, Ready]:
    assert start.bundle is not None
    assert start.profile is not None
    affinity = pin(start.isolation)
    bundle, clock = Bundle.load(start.bundle), _Clock()
    codec = Codec(bundle)
    engine = _Engine(codec, start, clock)
    reasoner = Reasoner(engine, codec, start.profile, bundle, clock)
    return reasoner, Ready(engine.spec, start.profile, {"affinity": affinity, **settle(start.isolation)})


if __name__ == "__main__":
    main(load)
