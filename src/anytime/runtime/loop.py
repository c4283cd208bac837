"""The anytime loop: the instant answer, then thought with probes, then the close, one step at a time.

The policy says what to think; this loop keeps the deadline. What can be done next is decided by
``ext.latency.Latency.next_action`` from the time left alone, and nothing is begun that would not leave time for a close
behind it. Between two steps the engine may serve another request (``worker``), or run this one's next steps beside
another's, so the loop is a generator that yields there what comes next. Nothing here reads a clock other than the
machine's.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence
from typing import Protocol

import msgspec

from anytime.ext.latency import CLOSE, PROBE, Latency
from anytime.runtime.answer import Source, Stopped
from anytime.runtime.bank import Candidate
from anytime.runtime.engine import Burst
from anytime.runtime.job import Ahead, Job, Machine, Steps
from anytime.runtime.policies.policy import CONCLUDE, Extend, Plan, View
from anytime.scheduler.admission import MOST_STEPS, resume_ns

PROBE_SHARE = 0.04  # of the thinking time may go into probes
_LEAST_PROBE_SPACING = 8


class Thinking(Protocol):
    """Lines of thought, in the engine (``team.Team``) or replayed from a recording. See ``Team`` for each."""

    @property
    def width(self) -> int: ...
    @property
    def tokens(self) -> int: ...
    @property
    def context(self) -> int: ...
    @property
    def effort(self) -> str: ...
    @property
    def extended(self) -> int: ...
    @property
    def resumable(self) -> bool: ...
    @property
    def over(self) -> bool: ...
    @property
    def since_probe(self) -> int: ...
    @property
    def at_boundary(self) -> bool: ...
    def feed(self) -> bool: ...
    def begin(self) -> list[Candidate]: ...
    def reframing(self, effort: str) -> tuple[int, int]: ...
    def start(self, plan: Plan) -> None: ...
    def stop(self) -> None: ...
    def extend(self, text: str) -> None: ...
    def advance(self, steps: int, left_ns: int, room: int) -> None: ...
    def ahead(self) -> Burst | None: ...
    def took(self, taken: Sequence[int]) -> None: ...
    def probe(self, source: Source) -> list[Candidate]: ...
    def finish(self, every: bool) -> list[Candidate]: ...


class Loop:
    """Drives one request's thinking to its end."""

    def __init__(self, job: Job, machine: Machine, team: Thinking) -> None:
        self._job, self._machine, self._team = job, machine, team
        self._close, self._answer_steps = len(machine.codec.close_ids), job.answer.answer_steps
        self._plan = Plan()
        self._ended = 0  # lines of the plan that ended by themselves
        self._thought = 0  # tokens of the one that ended last
        self._spacing = 0

    def run(self) -> Steps:
        """Think until the policy is content, nothing is left to think, or the time is up; outcomes are in the job."""
        while self._team.feed():
            yield None
        self._offer(self._team.begin())
        self._job.answered = True
        yield None
        verdict = self._job.policy.begin(self._view())
        if self._job.bank.found and (verdict == CONCLUDE or self._job.hurried):
            self._job.stopped = "early"
        elif self._start(verdict if isinstance(verdict, Plan) else Plan()):
            yield from self._think()

    def _think(self) -> Steps:
        while self._team.width:
            taken = yield self._ahead
            self._job.resume_ns = 0
            if self._job.cancelled:
                return
            if taken is not None:
                self._team.took(taken)
            elif not (yield from self._go_on()):
                return
        # the lines have not ended, they were dropped
        self._job.stopped, self._job.reason = "error", "the model's logits were no numbers: it cannot go on"

    def _start(self, plan: Plan) -> bool:
        """Begin a plan's lines, where there is time to ask for their effort; whether there was."""
        if plan.effort not in (None, self._team.effort) and not self._fits_asking(plan.effort):
            return False
        if plan.width > self._machine.rows:
            plan = msgspec.structs.replace(plan, width=self._machine.rows)
        self._plan, self._ended = plan, 0
        self._team.start(plan)
        self._spacing = self._probe_spacing()
        return True

    def _fits_asking(self, effort: str) -> bool:
        """Whether there is time and room to change the prompt's effort, with a close behind it."""
        context, again = self._team.reframing(effort)
        left_ns, latency = self._left_ns(), self._machine.latency
        for size in self._machine.profile.chunks(again, 1):
            left_ns -= latency.upper_ns(size, context)
            context += size
        fits = context + self._close + self._answer_steps + 2 <= self._max_context
        return fits and left_ns >= latency.closing_ns(context, self._close, self._answer_steps)

    def _go_on(self) -> Generator[None, None, bool]:
        """One step, probe or close, or all closes of the reserve; False when that was the last."""
        team, full = self._team, self._room() <= 0
        if not self._fits():
            return self._out_of_time()
        if team.over or full:
            return self._finish(full)
        if self._job.hurried:
            self._cut()
            self._job.stopped = "early"
            return False
        if self._limited:
            return self._cut()
        left_ns = self._left_ns()
        action = self._latency.next_action(
            left_ns, team.context, self._close, self._answer_steps, self._probe_due(), False
        )
        if action == CLOSE:
            return (yield from self._spend_reserve())
        if action == PROBE:
            self._offer(team.probe("probe"))
            return self._judge("early") if team.width else True
        team.advance(self._steps(left_ns), left_ns, self._room())
        return True

    def _ahead(self) -> Ahead | None:
        """What comes next, where that is nothing but more of one greedy thought."""
        team, job = self._team, self._job
        if job.hurried or job.cancelled or job.resume_ns or team.over or self._limited:
            return None
        if self._room() <= 0 or self._probe_due():
            return None
        burst = team.ahead()
        return Ahead(burst, self._most_steps()) if burst is not None else None

    def _steps(self, left_ns: int) -> int:
        """Steps in a row that are sure to leave time for the close."""
        context, most = self._team.context, self._most_steps()
        return max(1, self._latency.sure_steps(left_ns, context, self._close, self._answer_steps, most))

    def _most_steps(self) -> int:
        """Steps in a row up to where a probe or the limit may be."""
        team = self._team
        room = min(self._room(), MOST_STEPS)
        if self._plan.probes:
            room = min(room, 2 * self._spacing - 1 - team.since_probe)
        if self._plan.limit is not None:
            room = min(room, self._plan.limit - team.tokens)
        return room

    @property
    def _limited(self) -> bool:
        """Whether the plan's limit is reached."""
        return self._plan.limit is not None and self._team.tokens >= self._plan.limit

    def _finish(self, full: bool) -> bool:
        """Answer for good on the lines that end here; all of them when the context is full."""
        if full and not self._team.over:
            self._job.reason = "the model's context is full"
        found = self._team.finish(every=full)
        self._ended += sum(candidate.complete for candidate in found)
        return self._finished(found, "early" if full and not self._ended else "complete")

    def _cut(self) -> bool:
        """Close all lines at the plan's limit."""
        return self._finished(self._team.finish(every=True), "early")

    def _finished(self, found: Sequence[Candidate], ending: Stopped) -> bool:
        if not found and not self._team.width:
            return True  # not even the last answer could be written: as when the lines are dropped
        self._thought = max((candidate.thought_tokens for candidate in found), default=self._thought)
        self._offer(found)
        return self._judge(ending)

    def _judge(self, ending: Stopped) -> bool:
        """Ask the policy after an answer; False when the thinking is done."""
        job, team = self._job, self._team
        verdict = job.policy.judge(self._view())
        if isinstance(verdict, Plan):
            self._start(verdict)
        elif isinstance(verdict, Extend) and team.resumable and not team.width:
            if not self._extend(verdict.text):
                job.stopped = "deadline"
                return False
        elif verdict == CONCLUDE and job.bank.found and team.width:
            job.stopped = "early"
            return False
        if not team.width:
            job.stopped = ending
        return team.width > 0

    def _extend(self, text: str) -> bool:
        """Let the thought that ended go on, where the words and a close behind them fit; whether they did."""
        words = len(self._machine.codec.encode_text(text))
        context = self._job.prompt_tokens + self._thought + words
        closing_ns = self._latency.closing_ns(context, self._close, self._answer_steps)
        cost_ns = self._latency.upper_ns(words, context) + closing_ns
        if cost_ns > self._left_ns() or context + self._close + self._answer_steps + 2 > self._max_context:
            return False
        self._team.extend(text)
        return True

    def _out_of_time(self) -> bool:
        """No close fits any more: at its own deadline that is the end, but what others need now, they may yet leave.

        Whether there may be time for more.
        """
        job = self._job
        job.stopped = "deadline"
        if job.until_ns == job.ready_ns:
            return False
        job.resume_ns = resume_ns(self._latency.closing_ns(self._team.context, self._close, self._answer_steps))
        return True

    def _spend_reserve(self) -> Generator[None, None, bool]:
        """Close the thought; what that leaves of the reserve buys more of it, each token with a close of its own.

        The reserve was an upper bound. Once an answer is in the bank, being likely to fit is enough for the next one:
        should it not, the caller leaves with the one before. So others may have the engine between two of them. Whether
        there may be time for more.
        """
        self._job.stopped = "deadline"
        while not self._job.cancelled and self._team.width and self._fits():
            if self._team.over or self._room() <= 0:
                self._finish(self._room() <= 0)
                return False
            if self._limited:
                self._cut()
                return False
            self._offer(self._team.probe("thought"))
            if self._team.width and self._fits():
                yield
        return not self._job.cancelled and self._team.width > 0 and self._out_of_time()

    def _offer(self, found: Sequence[Candidate]) -> None:
        for candidate in found:
            if self._job.bank.offer(candidate):
                self._job.news.set()

    @property
    def _latency(self) -> Latency:
        return self._machine.latency_of(self._plan.width)

    def _left_ns(self) -> int:
        return self._job.until_ns - self._machine.clock.now()

    def _fits(self) -> bool:
        """Whether a close is likely to fit."""
        likely_ns = self._latency.likely_closing_ns(self._team.context, self._close, self._answer_steps)
        return self._left_ns() >= likely_ns

    @property
    def _max_context(self) -> int:
        return self._machine.engine.spec.max_context

    def _room(self) -> int:
        """Thought tokens for which the context has room, with a close behind them."""
        return self._max_context - 2 - self._team.context - self._close - self._answer_steps

    def _probe_due(self) -> bool:
        """At the end of a line of text once the spacing is reached; anywhere at twice the spacing."""
        if not self._plan.probes:
            return False
        since, at_boundary = self._team.since_probe, self._team.at_boundary
        return since + 1 >= (self._spacing if at_boundary else 2 * self._spacing)

    def _probe_spacing(self) -> int:
        """Thought tokens between probes, so that probes cost at most ``PROBE_SHARE`` of the thinking."""
        latency, context = self._latency, self._job.prompt_tokens
        step_ns = latency.run_ns(1, context)
        extra_ns = latency.run_ns(1 + self._close, context) - step_ns + self._answer_steps * step_ns
        return max(_LEAST_PROBE_SPACING, math.ceil(extra_ns / (PROBE_SHARE * step_ns)))

    def _view(self) -> View:
        team = self._team
        return View(
            prompt_tokens=self._job.prompt_tokens,
            kind=self._job.answer.kind,
            effort=team.effort,
            efforts=self._machine.codec.efforts,
            found=self._job.bank.found,
            width=team.width,
            tokens=team.tokens,
            ended=self._ended,
            extended=team.extended,
            rows=self._machine.rows,
            spent=self._job.thought_tokens + self._job.answer_tokens,
            room=self._thought_room,
            forecast=self._machine.forecast,
        )

    def _thought_room(self, width: int) -> int:
        """Thought tokens that so many lines can each still take, from here, with a close behind them.

        By the request's own deadline: what others need now they may yet leave, and a thought that was begun with an
        effort for less, or without probes to end it early, stays such.
        """
        latency, context = self._machine.latency_of(width), self._team.context
        left_ns = self._job.ready_ns - self._machine.clock.now()
        spare_ns = left_ns - latency.closing_ns(context, self._close, self._answer_steps)
        return latency.think_steps(spare_ns, context, max(0, self._room()))
