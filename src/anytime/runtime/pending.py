"""A question that has been asked: wait for its answer, look at the best so far, hurry it, or call it off."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeAlias

import msgspec

from anytime.runtime.answer import Answer, Stopped, Tokens
from anytime.runtime.bank import Candidate
from anytime.runtime.job import Job
from anytime.runtime.worker import Worker
from anytime.scheduler.deadline import moved_deadline

Fallback: TypeAlias = "str | Callable[[], str]"


class Pending(msgspec.Struct):
    """The caller's side of one request. Instants are nanoseconds of the machine's clock."""

    job: Job
    worker: Worker
    bundle_id: str
    received_ns: int
    deadline_ns: int
    fallback: Fallback
    noted: Callable[[Answer], None] | None = None  # shown the answer that is delivered
    final: Answer | None = None  # once the caller has left
    delivering: threading.RLock = msgspec.field(default_factory=threading.RLock)

    def result(self) -> Answer:
        """Wait until the thought is complete or the deadline is there, and take the best answer."""
        job, clock = self.job, self.worker.machine.clock
        try:
            while not job.done.is_set():
                job.moved.clear()
                if job.done.is_set():  # looked at behind the clear: a job that ends from here on sets the event again
                    break
                ready_ns = job.ready_ns
                if not clock.wait_until(job.moved, ready_ns) and job.ready_ns <= ready_ns:
                    break
        except BaseException:  # Ctrl-C in the middle of an answer: the engine must be free for the next one
            self.worker.cancel(job)
            raise
        return self.leave()

    def leave(self) -> Answer:
        """The answer as things stand now; a step that is still running is told to end, and nobody waits for it."""
        if self.final is not None:
            return self.final
        job = self.job
        in_time = job.done.is_set()
        overrun = not in_time and self.worker.running(job)
        if not in_time:
            self.worker.cancel(job)
        return self._deliver("deadline" if not in_time else job.stopped, overrun, cut=not in_time)

    def _deliver(self, stopped: Stopped, overrun: bool, cut: bool) -> Answer:
        with self.delivering:
            if self.final is not None:  # another thread called it off just then
                return self.final
            tapes = self.worker.tapes
            seen = tapes.seen(self.job) if tapes is not None else (0, 0)
            self.final = self.answer_with(self.job.bank.best(), stopped, overrun)
            if tapes is not None:
                tapes.leave(self.job, self.final, seen, cut)
            if self.noted is not None:
                self.noted(self.final)
            return self.final

    def best(self) -> Answer:
        """The best answer so far, as it would be returned now. Costs the engine nothing."""
        return self.answer_with(self.job.bank.best(), self.job.stopped, overrun=False)

    def thought(self) -> str:
        """The (first) line of thought, as far as it has come."""
        return self.worker.machine.codec.decode(list(self.job.thought))

    def cancel(self) -> Answer:
        """Stop thinking; the best answer so far. A step that runs is told to end, and nobody waits for it."""
        in_time = self.job.done.is_set()
        self.worker.cancel(self.job)
        return self.final or self._deliver(self.job.called_off or self.job.stopped, overrun=False, cut=not in_time)

    def answer_now(self) -> None:
        """Let the thought be closed where it stands, before all others; ``result`` has its answer soon."""
        self.worker.hurry(self.job)

    def tighten(self, *, budget: float | None = None, deadline: float | None = None) -> bool:
        """Want the answer sooner: ``budget`` seconds from now, or at a ``deadline``.

        False, and nothing is changed, where other requests leave no time for that, or it has ended.

        Raises:
            BudgetError: that is later than now agreed, or no instant.
        """
        return self._reschedule(budget, deadline, sooner=True)

    def extend(self, *, budget: float | None = None, deadline: float | None = None) -> bool:
        """Allow it more time: ``budget`` seconds from now, or until a ``deadline``. False where it has ended.

        Raises:
            BudgetError: that is sooner than now agreed, or no instant.
        """
        return self._reschedule(budget, deadline, sooner=False)

    def _reschedule(self, budget: float | None, deadline: float | None, sooner: bool) -> bool:
        delivery_ns = self.deadline_ns - self.job.ready_ns
        deadline_ns = moved_deadline(self.deadline_ns, self.worker.machine.clock.now(), budget, deadline, sooner)
        moved = self.worker.move(self.job, deadline_ns - delivery_ns)
        if moved:
            self.deadline_ns = deadline_ns
            self.job.moved.set()
            self.job.news.set()
        return moved

    def wait_for_news(self) -> bool:
        """Wait until there is a better answer or none can come; False once no more can."""
        job = self.job
        woken = self.worker.machine.clock.wait_until(job.news, job.ready_ns)
        job.news.clear()  # before looking at done: a job that ends from here on sets the event again
        return woken and not job.done.is_set()

    def answer_with(self, best: Candidate | None, stopped: Stopped, overrun: bool) -> Answer:
        """What is returned with this as the best one."""
        job = self.job
        reason = job.reason
        if best is None:
            text, why = fall_back(self.fallback)
            waited = "the request was still waiting for the engine" if stopped == "deadline" and not job.started else ""
            reason = "; ".join(part for part in (reason, job.bank.refusal(), waited, why) if part)
        else:
            text = best.text
        thought = best.thought[: best.thought_tokens] if best else []
        answer_tokens = best.answer_tokens if best else 0
        # Read last: the time of delivery, after everything that takes time.
        content = self.worker.machine.codec.decode(thought)
        delivered_ns = self.worker.machine.clock.now()
        return Answer(
            text=text,
            stopped=stopped,
            source=best.source if best else "fallback",
            effort=best.effort if best else "",
            confidence=best.confidence if best else 0.0,
            calibrated=self.worker.machine.forecast is not None and best is not None,
            reason=reason,
            thought=content,
            tokens=Tokens(
                prompt=job.prompt_tokens,
                cached=job.cached_tokens,
                thought=len(thought),
                discarded=max(0, job.thought_tokens - len(thought)),
                probe=job.answer_tokens - answer_tokens,
                answer=answer_tokens,
            ),
            token_cap=job.token_cap,
            faults=job.faults,
            late=delivered_ns > self.deadline_ns,
            overrun=overrun,
            received_ns=self.received_ns,
            deadline_ns=self.deadline_ns,
            delivered_ns=delivered_ns,
            request_id=job.request_id,
            bundle_id=self.bundle_id,
        )


def fall_back(fallback: Fallback) -> tuple[str, str]:
    """The caller's own answer, and what went wrong with it if anything."""
    if isinstance(fallback, str):
        return fallback, ""
    try:
        return fallback(), ""
    except Exception as error:  # the caller's own code must not cost the caller its answer
        return "", f"fallback() raised {error!r}"
