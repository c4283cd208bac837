"""The rounds: in each of them every contender does everything once, so that the machine's drift hits all alike."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from bench.peers import cache
from bench.peers.child import Child, ContenderError
from bench.peers.roster import SCRIPTS, Contender
from bench.peers.samples import BUDGETS_MS, CONTEXTS, PREFILLS, Measured
from bench.peers.shapes import Shape

PROMPT, STEPS, GREEDY = 64, 32, 64
_SETTLE_S = 0.02  # some contenders' threads spin a little before they sleep
_ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1"}  # for the limit, which brings its own

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Seat:
    """A contender ready to be started: its interpreter, and what it loads."""

    contender: Contender
    python: Path
    model: Path


@dataclass(frozen=True, slots=True)
class Effort:
    """How many rounds, and in how many fresh processes the loading is timed."""

    rounds: int
    loads: int


class Group:
    """Contenders that are loaded at the same time, of which one works. ``close`` it.

    One that fails drops out with everything that was measured of it, and a note says why.
    """

    def __init__(self, shape: Shape, threads: int, progress: Progress) -> None:
        self._shape, self._threads, self._progress = shape, threads, progress
        self._children: dict[Contender, Child] = {}
        self._limit = Child([sys.executable, "-m", "bench.peers.limit"], _ONE_THREAD)
        self.measured: dict[Contender, Measured] = {}
        self.notes: list[str] = []

    def measure(self, seats: Sequence[Seat], effort: Effort) -> None:
        for seat in seats:
            self.measured[seat.contender] = Measured(seat.contender, cache.size(seat.model))
        for _ in range(effort.loads):
            for seat in seats:
                self._guarded(seat.contender, partial(self._load, seat))
        for number in range(effort.rounds):
            self._round(number)
        for contender in list(self.measured):
            self._guarded(contender, partial(self._last, contender))

    def close(self) -> None:
        for child in (*self._children.values(), self._limit):
            child.close()

    def _guarded(self, contender: Contender, do: Callable[[], None]) -> None:
        """Do it, unless the contender has dropped out; it does if this fails."""
        if contender not in self.measured:
            return
        self._progress(f"{self._shape.name}: {contender.name}")
        try:
            do()
        except ContenderError as error:
            self.notes.append(f"{self._shape.name}: {contender.name} is left out: {error}")
            del self.measured[contender]
            if contender in self._children:
                self._children.pop(contender).close()

    def _load(self, seat: Seat) -> None:
        """A fresh process, timed until it has its first token; it stays until the next one comes."""
        contender = seat.contender
        if contender in self._children:
            self._children.pop(contender).close()
        given: dict[str, Any] = {"path": str(seat.model), "threads": self._threads}
        given |= {"context": self._shape.context, "vocab": self._shape.vocab}
        command = [str(seat.python), "-m", f"bench.peers.contenders.{SCRIPTS[contender.engine]}"]
        begin = time.perf_counter_ns()
        self._children[contender] = Child(command)
        self._children[contender].ask("load", **given)
        self.measured[contender].load_ns.append(time.perf_counter_ns() - begin)
        time.sleep(_SETTLE_S)

    def _round(self, number: int) -> None:
        """Everything once, in an order that turns from round to round."""
        contenders = list(self.measured)
        limits = {bits: self._read(bits) for bits in {contender.bits for contender in contenders}}
        first = number % len(contenders) if contenders else 0
        for contender in contenders[first:] + contenders[:first]:
            self.measured[contender].limit_ns.append(limits[contender.bits])
            self._guarded(contender, partial(self._turn, contender))

    def _read(self, bits: int) -> int:
        size = self._shape.parameters * bits // 8
        return int(self._limit.ask("read", size=size, threads=self._threads))

    def _turn(self, contender: Contender) -> None:
        measured = self.measured[contender]
        for tokens in PREFILLS:
            measured.prefill_ns[tokens].append(self._ask(contender, "prefill", tokens=tokens))
        for context in CONTEXTS:
            measured.step_ns[context].append(self._ask(contender, "steps", context=context, count=STEPS))
        for ms in BUDGETS_MS:
            measured.tokens[ms].append(self._ask(contender, "budget", ms=ms, prompt=PROMPT))

    def _last(self, contender: Contender) -> None:
        measured = self.measured[contender]
        if self._shape.question:
            measured.greedy = self._ask(contender, "greedy", tokens=self._shape.question, count=GREEDY)
        measured.memory = self._ask(contender, "memory")

    def _ask(self, contender: Contender, op: str, **given: Any) -> Any:
        value = self._children[contender].ask(op, **given)
        time.sleep(_SETTLE_S)
        return value
