"""The anytime loop: prefill with the instant answer, then thought with probes, then the close, one step at a time.

plan → step → commit. What to do next is decided by ``ext.latency.Latency.next_action`` from the time left alone; the
engine runs it; the tokens and any answer are committed. Probes and closes ride along with the token that was due
anyway: the engine runs ``[pending, close tag]`` in one go, the first logits continue the thought and the last ones
begin an answer, and the tag is forgotten again. Nothing here reads a clock other than the machine's.
"""

from __future__ import annotations

import itertools
import math
import threading
from dataclasses import dataclass, field

from anytime.errors import EngineError, PromptError, StepTerminated
from anytime.ext.latency import CLOSE, PROBE, Latency
from anytime.ext.logits import greedy, pick
from anytime.runtime.answer import Source, Stopped
from anytime.runtime.bank import AnswerBank, Candidate
from anytime.runtime.cursors import Compiled
from anytime.runtime.engine import Engine, FloatArray, Row, Seq
from anytime.runtime.lookup import Lookup
from anytime.runtime.prefixes import Prefixes
from anytime.runtime.prompt import Codec
from anytime.runtime.sampling import Sampler, Sampling
from anytime.scheduler.admission import Refusal, Work, admit
from anytime.scheduler.clock import Clock
from anytime.scheduler.profile import LatencyProfile

PROBE_SHARE = 0.04  # of the thinking time may go into probes
_LEAST_PROBE_SPACING = 8
_MOST_STEPS = 8  # that the engine takes in a row before the clock is looked at again


@dataclass(frozen=True, slots=True)
class Machine:
    """What every request runs on: an engine, its tokens, its measured speeds and a clock.

    ``prefixes`` is what is prefilled already. ``speculate`` lets a greedy thought guess ahead (``lookup``).
    """

    engine: Engine
    codec: Codec
    profile: LatencyProfile
    latency: Latency
    clock: Clock
    prefixes: Prefixes
    speculate: bool = False


@dataclass(slots=True)
class Job:
    """One request on its way. The engine's thread writes the second part, the caller reads it."""

    generation: int
    prompt: str
    ready_ns: int  # the answer must be in the bank by now
    answer: Compiled
    sampling: Sampling
    bank: AnswerBank
    cancelled: bool = False

    done: threading.Event = field(default_factory=threading.Event)
    news: threading.Event = field(default_factory=threading.Event)
    started: bool = False
    prompt_tokens: int = 0
    cached_tokens: int = 0  # of the prompt, which an earlier request had run
    thought: list[int] = field(default_factory=list)
    answer_tokens: int = 0  # of all answers
    token_cap: int = 0
    stopped: Stopped = "deadline"
    reason: str = ""
    failure: Exception | None = None


def decode(job: Job, machine: Machine) -> None:
    """Answer a job as well as its time allows; every outcome is left in the job and its bank.

    Raises:
        PromptError: the prompt cannot be encoded.
        EngineError: the engine failed.
    """
    prompt = machine.codec.encode(job.prompt)
    job.prompt_tokens = len(prompt)
    max_context = machine.engine.spec.max_context
    close_tokens, answer_steps = len(machine.codec.close_ids), job.answer.answer_steps
    if len(prompt) + close_tokens + answer_steps > max_context:
        raise PromptError(
            f"the prompt has {len(prompt)} tokens and the answer up to {answer_steps + 1}, "
            f"more than the model's context of {max_context}: shorten one of them"
        )
    seq = machine.prefixes.take(prompt)
    try:
        job.cached_tokens = seq.length
        work = Work(len(prompt), seq.length, close_tokens, answer_steps, max_context)
        outcome = admit(work, job.ready_ns - machine.clock.now(), machine.profile)
        if isinstance(outcome, Refusal):
            job.stopped, job.reason = "rejected", outcome.reason
        else:
            job.token_cap = outcome.token_cap
            _Loop(job, machine, work, seq, prompt).run()
    except StepTerminated:
        job.stopped = "cancelled" if job.cancelled else "deadline"
    except EngineError:
        machine.engine.close(seq)
        raise
    machine.prefixes.park(seq, prompt)


class _Loop:
    """The loop over one sequence, which may hold the beginning of the prompt already."""

    def __init__(self, job: Job, machine: Machine, work: Work, seq: Seq, prompt: list[int]) -> None:
        self._job, self._machine, self._work, self._seq, self._prompt = job, machine, work, seq, prompt
        self._close = machine.codec.close_ids
        self._tag = machine.codec.close_tag_ids
        self._sampler = Sampler(job.sampling)
        self._greedy = job.sampling.temperature == 0.0
        self._lookup = Lookup(machine.latency, prompt) if machine.speculate and self._greedy else None
        self._ends = [*machine.codec.stop_ids, self._tag[-1], *machine.codec.boundary_ids]
        self._spacing = self._probe_spacing()
        self._since_probe = 0

    def run(self) -> None:
        logits = self._prefill()
        pending = self._sampler.next(logits[0])
        self._answer(logits[-1], "instant")
        self._forget(len(self._prompt))
        self._think(pending)

    def _prefill(self) -> FloatArray:
        """Run the prompt with the close tag in chunks; the logits at the prompt's last token and at the tag's."""
        want = 1 + len(self._close)
        tokens = [*self._prompt, *self._close][self._seq.length :]
        for size in self._machine.profile.chunks(len(tokens), want)[:-1]:
            self._run(tokens[:size], 1)
            tokens = tokens[size:]
            if self._job.cancelled:
                raise StepTerminated("cancelled between two chunks of the prompt")
        return self._run(tokens, want)

    def _think(self, pending: int) -> None:
        """Think, probe and close until the thought is complete or the time is up; ``pending`` was not run yet."""
        job = self._job
        while not job.cancelled:
            ends, full = self._ends_thought(pending), self._context_full()
            action = self._machine.latency.next_action(
                self._left_ns(),
                self._seq.length,
                len(self._close),
                job.answer.answer_steps,
                self._probe_due(pending),
                ends or full,
            )
            if action == CLOSE:
                self._spend_reserve(pending)
                return
            pending = self._probe(pending, "probe") if action == PROBE else self._advance(pending)
        job.stopped = "cancelled"

    def _spend_reserve(self, pending: int) -> None:
        """Close the thought; what that leaves of the reserve buys more of it, each token with a close of its own.

        The reserve was an upper bound. Once an answer is in the bank, being likely to fit is enough for the next one:
        should it not, the caller leaves with the one before.
        """
        job = self._job
        while not job.cancelled:
            ends, full = self._ends_thought(pending), self._context_full()
            job.stopped = "complete" if ends else "early" if full else "deadline"
            job.reason = "the model's context is full" if full and not ends else ""
            likely_ns = self._machine.latency.likely_closing_ns(
                self._seq.length, len(self._close), job.answer.answer_steps
            )
            if self._left_ns() < likely_ns:
                return
            if ends or full:
                self._finish(pending, ends)
                return
            pending = self._probe(pending, "thought")
        job.stopped = "cancelled"

    def _left_ns(self) -> int:
        return self._job.ready_ns - self._machine.clock.now()

    def _advance(self, pending: int) -> int:
        """Think on by one token or several, within what is sure to fit; the token that comes next."""
        if not self._greedy:
            logits = self._run([pending], 1)
            self._commit(pending)
            return self._sampler.next(logits[0])
        if self._lookup is not None and (draft := self._draft(self._lookup, pending)):
            return self._verify(self._lookup, pending, draft)
        room = min(2 * self._spacing - 1 - self._since_probe, self._room(), _MOST_STEPS)
        latency, job = self._machine.latency, self._job
        steps = latency.sure_steps(self._left_ns(), self._seq.length, len(self._close), job.answer.answer_steps, room)
        taken = self._machine.engine.extend(self._seq, pending, max(1, steps), self._ends, job.generation)
        for token in (pending, *taken[:-1]):
            self._commit(token)
        return taken[-1]

    def _draft(self, lookup: Lookup, pending: int) -> list[int]:
        """Guesses that end no thought, fit the context, and leave time for the close behind them."""
        draft = lookup.draft(pending, self._seq.length)[: max(0, self._room() - 1)]
        ending = {*self._machine.codec.stop_ids, self._tag[-1]}
        draft = list(itertools.takewhile(lambda token: token not in ending, draft))
        latency, behind = self._machine.latency, self._seq.length + 1 + len(draft)
        closing_ns = latency.closing_ns(behind, len(self._close), self._job.answer.answer_steps)
        return draft if latency.upper_ns(1 + len(draft), self._seq.length) + closing_ns <= self._left_ns() else []

    def _verify(self, lookup: Lookup, pending: int, draft: list[int]) -> int:
        """One run over the pending token and its guessed followers; keeps those that the model would have written."""
        keep = self._seq.length + 1
        logits = self._run([pending, *draft], 1 + len(draft))
        self._commit(pending)
        right = 0
        while (token := greedy(logits[right])) == (draft[right] if right < len(draft) else None):
            self._commit(token)
            right += 1
        self._forget(keep + right)
        lookup.record(len(draft), right)
        return token

    def _probe(self, pending: int, source: Source) -> int:
        """A step whose token brings the close tag along, and what the model would answer now."""
        keep = self._seq.length + 1
        logits = self._run([pending, *self._close], 1 + len(self._close))
        following = self._sampler.next(logits[0])
        self._commit(pending)
        self._since_probe = 0
        self._answer(logits[-1], source)
        self._forget(keep)
        return following

    def _finish(self, pending: int, ends: bool) -> None:
        """Close the thought for good and answer."""
        if ends:
            self._forget(self._seq.length - self._strip_tag(pending))
            tokens = self._close
        else:
            self._commit(pending)
            tokens = [pending, *self._close]
        self._answer(self._run(tokens, 1)[-1], "thought")

    def _answer(self, logits: FloatArray, source: Source) -> None:
        """Write an answer behind the close tag, its first token from ``logits``, and offer it to the bank."""
        cursor, probabilities = self._job.answer.start(), []
        while True:
            token, probability = pick(logits, cursor.allowed())
            cursor.push(token)
            probabilities.append(probability)
            if cursor.done:
                break
            logits = self._run([token], 1)[0]
        self._job.answer_tokens += len(probabilities)
        if (text := cursor.text) is not None:
            confidence = cursor.confidence(probabilities)
            candidate = Candidate(text, confidence, source, len(self._job.thought), len(probabilities))
            if self._job.bank.offer(candidate):
                self._job.news.set()

    def _run(self, tokens: list[int], want: int) -> FloatArray:
        return self._machine.engine.run([Row(self._seq, tokens, want)], self._job.generation)[0]

    def _forget(self, length: int) -> None:
        self._machine.engine.truncate(self._seq, length)

    def _commit(self, token: int) -> None:
        self._job.thought.append(token)
        self._since_probe += 1
        if self._lookup is not None:
            self._lookup.push(token)

    def _ends_thought(self, pending: int) -> bool:
        if pending in self._machine.codec.stop_ids:
            return True
        n = len(self._tag)
        return pending == self._tag[-1] and (n == 1 or self._job.thought[1 - n :] == self._tag[:-1])

    def _strip_tag(self, pending: int) -> int:
        """Take the tag's own tokens out of the thought again; how many of them were run."""
        run = 0 if pending in self._machine.codec.stop_ids else len(self._tag) - 1
        del self._job.thought[len(self._job.thought) - run :]
        return run

    def _room(self) -> int:
        """Thought tokens for which the context has room, with a close behind them."""
        behind = len(self._close) + self._job.answer.answer_steps + 1
        return self._work.max_context - 1 - self._seq.length - behind

    def _context_full(self) -> bool:
        return self._room() <= 0

    def _probe_due(self, pending: int) -> bool:
        """At the end of a line of thought once the spacing is reached; anywhere at twice the spacing."""
        at_boundary = pending in self._machine.codec.boundary_ids
        return self._since_probe + 1 >= (self._spacing if at_boundary else 2 * self._spacing)

    def _probe_spacing(self) -> int:
        """Thought tokens between probes, so that probes cost at most ``PROBE_SHARE`` of the thinking."""
        latency, context = self._machine.latency, self._work.prompt_tokens
        step_ns = latency.run_ns(1, context)
        extra_ns = latency.run_ns(1 + len(self._close), context) - step_ns + self._job.answer.answer_steps * step_ns
        return max(_LEAST_PROBE_SPACING, math.ceil(extra_ns / (PROBE_SHARE * step_ns)))
