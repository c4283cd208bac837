"""The clients of ``bench.guarantee together`` in simulated time, and one Reasoner that serves them.

The Reasoner is the real one, with its worker's thread. While that runs the engine, time passes there, and clients come
and leave in it; while it has nothing to do, time passes here, on to the next arrival. So the two never act at once, and
what happens follows from the seed.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from anytime.runtime.loading import Loaded
from anytime.runtime.pending import Pending
from anytime.runtime.questions import Question
from anytime.runtime.reasoner import Reasoner
from anytime.scheduler.clock import NS_PER_S
from anytime.scheduler.profile import LatencyProfile
from anytime.testing import MockClock
from bench.contenders import FALLBACK, Request, asked_format
from bench.guarantee.asking import floors_of, verdict
from bench.guarantee.concurrent import CLIENTS
from bench.guarantee.serve_as import choose_by
from bench.order.remembered import Remembered
from bench.order.simulated import NEVER, SimulatedEngine
from examples.highway.paced import Drawn, Residuals, residuals_of


class Outcome(NamedTuple):
    """What a client got. ``quality``: the calibrated probability of being right, 0 where the model gave no answer."""

    quality: float
    right: bool
    stopped: str
    elapsed_ns: int


class Machine(msgspec.Struct):
    """The model, and how fast it is."""

    loaded: Loaded
    model: Remembered
    profile: LatencyProfile
    residuals: Residuals

    def reasoner(self) -> tuple[Reasoner, SimulatedEngine, MockClock]:
        """A new one, whose step times are those of any other."""
        clock = MockClock()
        engine = SimulatedEngine(self.model, Drawn(self.profile, self.residuals, seed=0), clock)
        return Reasoner(engine, self.loaded.codec, self.profile, self.loaded.bundle, clock=clock), engine, clock

    def floors(self, questions: Sequence[Question]) -> dict[str, int]:
        """The floor of each question, ns."""
        reasoner, _, _ = self.reasoner()
        with reasoner:
            return floors_of(reasoner, questions)


def machine_of(loaded: Loaded, profile: LatencyProfile) -> Machine:
    return Machine(loaded, Remembered(loaded.engine), profile, residuals_of(profile))


class Crowd:
    """Requests that arrive, each taken by a client that is free, which leaves with its answer at its deadline."""

    def __init__(
        self, reasoner: Reasoner, clock: MockClock, arrivals: Sequence[tuple[int, Request]], policy: str
    ) -> None:
        self.outcomes: dict[int, Outcome] = {}
        self._reasoner, self._clock, self._policy = reasoner, clock, policy
        self._arrivals, self._arrived = arrivals, 0
        self._waiting: dict[int, Pending] = {}
        self._left: list[Pending] = []  # whose step may still run

    def due_ns(self) -> int:
        return min(self._arrival_ns(), *(pending.job.ready_ns for pending in self._waiting.values()), NEVER)

    def happen(self) -> None:
        """Clients leave whose answer is there or whose time is up; others ask."""
        for place, pending in list(self._waiting.items()):
            if pending.job.done.is_set() or pending.job.ready_ns <= self._clock.now():
                self._leave(place)
        while self._arrival_ns() <= self._clock.now():
            self._ask(self._arrivals[self._arrived][1])

    def _arrival_ns(self) -> int:
        """When a client asks next; not before one is free."""
        free = self._arrived < len(self._arrivals) and len(self._waiting) < CLIENTS
        return self._arrivals[self._arrived][0] if free else NEVER

    def _ask(self, request: Request) -> None:
        question = request.question
        pending = self._reasoner.submit(
            question.question,
            budget=request.budget_ns / NS_PER_S,
            answer=asked_format(question),
            fallback=FALLBACK,
            policy=self._policy,
        )
        self._waiting[self._arrived] = pending
        self._arrived += 1

    def _leave(self, place: int) -> None:
        pending, question = self._waiting.pop(place), self._arrivals[place][1].question
        self._left.append(pending)
        answer = pending.leave()
        valid, right = verdict(question, answer)
        self.outcomes[place] = Outcome(
            quality=answer.confidence if valid else 0.0,
            right=right,
            stopped=answer.stopped,
            elapsed_ns=self._clock.now() - pending.received_ns,
        )

    def serve(self) -> list[Outcome]:
        """Until the last one has left; what each got, in the order of arrivals."""
        while len(self.outcomes) < len(self._arrivals):
            while (running := self._running()) is not None:
                running.job.done.wait()
            self._left.clear()
            self.happen()
            if not self._waiting and self._arrived < len(self._arrivals):
                self._clock.advance(max(0, self._arrival_ns() - self._clock.now()))
                self.happen()
        return [self.outcomes[place] for place in range(len(self._arrivals))]

    def _running(self) -> Pending | None:
        """One that the engine is not done with, whether or not its client has left."""
        known = (*self._left, *list(self._waiting.values()))
        return next((pending for pending in known if not pending.job.done.is_set()), None)


def served(
    machine: Machine,
    requests: Sequence[tuple[int, Request]],
    discipline: str | None,
    thought_ns: int = 0,
    policy: str = "auto",
) -> list[Outcome]:
    """What these requests get, each at the instant at which it arrives, by a discipline (None: ours).

    ``thought_ns`` is what a whole request takes, where the discipline goes by that.
    """
    reasoner, engine, clock = machine.reasoner()
    with reasoner:
        if discipline is not None:
            choose_by(discipline, thought_ns, reasoner)
        crowd = engine.meanwhile = Crowd(reasoner, clock, requests, policy)
        return crowd.serve()


def arriving(requests: Sequence[Request], rate: float, seed: str) -> list[tuple[int, Request]]:
    """At random, so many a second: the instants that ``bench.guarantee together`` draws."""
    source = random.Random(seed)
    instants = itertools.accumulate(source.expovariate(rate) for _ in requests)
    return [(round(NS_PER_S * instant), request) for instant, request in zip(instants, requests, strict=True)]


def one_by_one(requests: Sequence[Request]) -> list[tuple[int, Request]]:
    """Each when the one before has long had its answer."""
    instants = itertools.accumulate(request.budget_ns + NS_PER_S for request in requests)
    return list(zip(instants, requests, strict=True))
