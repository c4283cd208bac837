"""Replaying: the loop and the policies as they are, over a recording instead of an engine, on a clock of its own.

Every run takes what the latency profile predicts for it, times a pace. Plans are made with predictions times a factor,
as the runtime makes them. What a line would answer between two recorded probes is what it answered at the one before.
"""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from anytime.calibrate.record import Pass, Probe, Recording
from anytime.runtime.answer import Source
from anytime.runtime.bank import AnswerBank, Candidate
from anytime.runtime.engine import EngineSpec
from anytime.runtime.forecast import Forecast
from anytime.runtime.job import Job, Machine
from anytime.runtime.loop import Loop
from anytime.runtime.policies.policy import Plan, Policy
from anytime.runtime.prompt import Codec
from anytime.runtime.sampling import Sampling
from anytime.scheduler.admission import HANDOVER_NS, Refusal, admit
from anytime.scheduler.pace import Pace, slowed
from anytime.scheduler.profile import LatencyProfile


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a request would have returned; ``answer`` None where it was refused, or nothing was found in time."""

    answer: Candidate | None
    right: bool
    elapsed_ns: int  # until the caller had it, who leaves once it was to be ready
    thought_tokens: int  # of all lines
    answer_tokens: int  # of all answers
    stopped: str


@dataclass(slots=True)
class _Clock:
    now_ns: int = 0

    def now(self) -> int:
        return self.now_ns


class _Bank(AnswerBank):
    """Takes nothing once the caller has left."""

    def __init__(self, clock: _Clock, ready_ns: int, choose: Callable[[Sequence[Candidate]], Candidate]) -> None:
        super().__init__(choose=choose)
        self._clock, self._ready_ns = clock, ready_ns

    def offer(self, candidate: Candidate) -> bool:
        return self._clock.now_ns <= self._ready_ns and super().offer(candidate)


@dataclass(frozen=True, slots=True)
class _Format:
    kind: str
    answer_steps: int


@dataclass(frozen=True, slots=True)
class _NothingCached:
    parked: int = 0


@dataclass(frozen=True, slots=True)
class _Idle:
    spec: EngineSpec

    @property
    def free_rows(self) -> int:
        """But for the request's own, and the one that holds what the bundle ships."""
        return self.spec.max_rows - 2


@dataclass(slots=True, eq=False)
class _Line:
    """A line of thought: how far into its pass it is."""

    number: int
    recorded: Pass
    tokens: int = 0
    since_probe: int = 0
    extended: int = 0
    last_answer: str = ""
    agreed: int = 0

    @property
    def ends(self) -> bool:
        return self.recorded.complete and self.tokens >= self.recorded.thought_tokens

    @property
    def at_boundary(self) -> bool:
        i = bisect.bisect_left(self.recorded.boundaries, self.tokens)
        return i < len(self.recorded.boundaries) and self.recorded.boundaries[i] == self.tokens

    def to_boundary(self) -> int:
        """Tokens up to the one before which a burst stops."""
        i = bisect.bisect_right(self.recorded.boundaries, self.tokens)
        stop = self.recorded.boundaries[i] if i < len(self.recorded.boundaries) else self.recorded.thought_tokens
        return max(1, min(stop, self.recorded.thought_tokens) - self.tokens)

    def answer(self) -> Probe:
        return self.recorded.answer(self.tokens)

    def agree(self, text: str) -> int:
        self.agreed = self.agreed + 1 if text == self.last_answer else 0
        self.last_answer = text
        return self.agreed


class _Replayed:
    """``Team`` over a recording."""

    def __init__(
        self, recording: Recording, job: Job, machine: Machine, clock: _Clock, costs: Pace, pace: float
    ) -> None:
        self._costs, self._pace = costs, pace
        self._recording, self._job, self._machine, self._clock = recording, job, machine, clock
        self._close = len(machine.codec.close_ids)
        self._lines: list[_Line] = []
        self._rested: _Line | None = None
        self.effort = machine.codec.effort
        self._thoughts = recording.plain
        self._numbers, self._drawn = itertools.count(), itertools.count()
        self._instant = ""
        self._greedy = True

    def feed(self) -> bool:
        return False

    def begin(self) -> list[Candidate]:
        cached = self._job.cached_tokens
        self._prefill(cached, self._thoughts.prompt_tokens + self._close - cached, 1 + self._close)
        line = _Line(0, self._thoughts.passes[0])
        found = self._answers([line], "instant", [False])
        self._instant = line.last_answer
        return found

    def _prefill(self, context: int, tokens: int, want: int) -> None:
        for size in self._machine.profile.chunks(tokens, want):
            self._spend(self._costs.latency().run_ns(size, context))
            context += size

    def reframing(self, effort: str) -> tuple[int, int]:
        return self._machine.codec.reframing(self._thoughts.prompt_tokens, self.effort, effort)

    def start(self, plan: Plan) -> None:
        if plan.effort is not None and plan.effort != self.effort:
            self._prefill(*self.reframing(plan.effort), 1)
            self.effort, self._thoughts = plan.effort, self._recording.efforts[plan.effort]
        sampling = plan.sampling or Sampling()
        self._greedy = plan.width == 1 and sampling.temperature == 0.0
        if plan.width > 1:
            self._spend((plan.width - 1) * self._machine.profile.fork_ns(self._thoughts.prompt_tokens))
        self._rested = None
        self._lines = [
            _Line(
                next(self._numbers),
                self._pass(sampling),
                last_answer=self._instant,
            )
            for _ in range(plan.width)
        ]

    def _pass(self, sampling: Sampling) -> Pass:
        """The greedy pass, or the next of the drawn ones, coming round again; greedy too where none was recorded."""
        greedy, *drawn = self._thoughts.passes
        return drawn[next(self._drawn) % len(drawn)] if drawn and sampling.temperature > 0.0 else greedy

    def stop(self) -> None:
        self._lines, self._rested = [], None

    def extend(self, text: str) -> None:
        """Only what the greedy thought says behind its first "Wait" was recorded."""
        line, waited = self._rested, self._thoughts.waited
        assert line is not None
        assert waited is not None
        words = len(self._machine.codec.encode_text(text))
        self._spend(self._costs.latency().run_ns(words, self._thoughts.prompt_tokens + line.tokens))
        line.recorded, line.tokens, line.extended = waited, line.tokens + words, line.extended + 1
        self._lines, self._rested = [line], None

    @property
    def width(self) -> int:
        return len(self._lines)

    @property
    def tokens(self) -> int:
        return max((line.tokens for line in self._lines), default=0)

    @property
    def context(self) -> int:
        return self._thoughts.prompt_tokens + self.tokens

    @property
    def extended(self) -> int:
        lines = self._lines or ([self._rested] if self._rested else [])
        return max((line.extended for line in lines), default=0)

    @property
    def resumable(self) -> bool:
        line = self._rested
        return line is not None and line.extended == 0 and self._greedy and self._thoughts.waited is not None

    @property
    def over(self) -> bool:
        return any(line.ends for line in self._lines)

    @property
    def since_probe(self) -> int:
        return max(line.since_probe for line in self._lines)

    @property
    def at_boundary(self) -> bool:
        return max(self._lines, key=lambda line: line.since_probe).at_boundary

    def advance(self, steps: int, left_ns: int, room: int) -> None:
        latency, context = self._costs.latency(self.width), self.context
        taken = min(steps, self._lines[0].to_boundary()) if self._greedy else 1
        self._spend(sum(latency.run_ns(1, context + i) for i in range(taken)))
        for line in self._lines:
            self._commit(line, taken)

    def ahead(self) -> None:
        """What is recorded is not run, so nothing can be run beside it."""

    def took(self, taken: Sequence[int]) -> None:
        """Never: nothing is ahead."""

    def probe(self, source: Source) -> list[Candidate]:
        self._spend(self._costs.latency(self.width).run_ns(1 + self._close, self.context))
        for line in self._lines:
            self._commit(line, 1)
            line.since_probe = 0
        return self._answers(self._lines, source, [False] * self.width)

    def finish(self, every: bool) -> list[Candidate]:
        lines = [line for line in self._lines if every or line.ends]
        self._spend(self._costs.latency(len(lines)).run_ns(self._close, self.context))
        found = self._answers(lines, "thought", [line.ends for line in lines])
        self._lines = [line for line in self._lines if line not in lines]
        self._rested = lines[0]
        return found

    def _answers(self, lines: Sequence[_Line], source: Source, complete: Sequence[bool]) -> list[Candidate]:
        probes = [line.answer() for line in lines]
        latency, steps = self._costs.latency(len(lines)), max(probe.answer_tokens for probe in probes) - 1
        self._spend(steps * latency.run_ns(1, self.context + self._close))
        found = []
        for line, probe, ended in zip(lines, probes, complete, strict=True):
            self._job.answer_tokens += probe.answer_tokens
            if probe.text is not None:
                found.append(self._rated(line, probe, probe.text, source, ended))
        return found

    def _rated(self, line: _Line, probe: Probe, text: str, source: Source, complete: bool) -> Candidate:
        candidate = Candidate(
            text,
            probe.likelihood,
            source,
            line.tokens,
            probe.answer_tokens,
            likelihood=probe.likelihood,
            effort=self.effort,
            complete=complete,
            agreed=line.agree(text),
            line=line.number,
        )
        forecast = self._machine.forecast
        return forecast.rated(candidate, self._job.prompt_tokens, self._recording.kind) if forecast else candidate

    def _commit(self, line: _Line, tokens: int) -> None:
        line.tokens += tokens
        line.since_probe += tokens
        self._job.thought_tokens += tokens

    def _spend(self, ns: int) -> None:
        self._clock.now_ns += round(self._pace * ns)


@dataclass(frozen=True, slots=True)
class Replayer:
    """A machine that exists only as its latency profile.

    ``handover_ns``: from the request to the first run, tokenizing included. ``wake_ns``: from the last answer until it
    is in the caller's hands. ``pace``: measured over predicted time of a run, on average. ``factor``: what the runtime
    multiplies predictions by when it plans, because it has seen slow runs (``Pace``). See ``calibrate.typical`` for
    those of a profile.
    """

    profile: LatencyProfile
    codec: Codec
    forecast: Forecast | None
    spec: EngineSpec
    handover_ns: int = HANDOVER_NS // 4
    wake_ns: int = HANDOVER_NS // 4
    pace: float = 1.0
    factor: float = 1.0
    planning: Pace = field(init=False)  # neither is shown anything by a replay
    costs: Pace = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "planning", Pace(slowed(self.profile, self.factor)))
        object.__setattr__(self, "costs", Pace(self.profile))

    def replay(self, recording: Recording, policy: Policy, budget_ns: int) -> Outcome:
        """What this request would have returned in this budget."""
        clock, profile = _Clock(self.handover_ns), self.planning.profile
        its_clock: Any = clock  # nobody waits on it
        engine: Any = _Idle(self.spec)
        nothing: Any = _NothingCached()
        machine = Machine(engine, self.codec, self.planning, its_clock, nothing, self.forecast)
        ready_ns = budget_ns - profile.delivery_ns
        bank = _Bank(clock, ready_ns, policy.choose)
        prompt_tokens = recording.plain.prompt_tokens
        answer: Any = _Format(recording.kind, recording.answer_steps)
        job = Job(0, "", range(prompt_tokens), ready_ns, answer, Sampling(), policy, bank)
        if isinstance(admit(machine.work(prompt_tokens, answer), ready_ns - clock.now_ns, profile), Refusal):
            job.stopped = "rejected"
        else:
            for _ in Loop(job, machine, _Replayed(recording, job, machine, clock, self.costs, self.pace)).run():
                pass  # nobody else is waiting
        best = bank.best()
        return Outcome(
            best,
            best is not None and best.text in recording.right,
            min(clock.now_ns + self.wake_ns, ready_ns),
            job.thought_tokens,
            job.answer_tokens,
            job.stopped if clock.now_ns <= ready_ns else "deadline",
        )
