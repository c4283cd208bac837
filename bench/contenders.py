"""Who answers in the deadline bench: the runtime, the same wait without a model, and an uninterrupted thought."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias, TypeVar

from anytime import Answer, Health, Reasoner, Sampling
from anytime.runtime.answers.formats import AnswerFormat
from anytime.runtime.bank import AnswerBank
from anytime.runtime.engine import Row
from anytime.runtime.job import Job, Machine
from anytime.runtime.pending import Pending
from anytime.runtime.policies.until import UntilDeadline
from anytime.runtime.questions import Question
from anytime.scheduler.clock import NS_PER_MS, NS_PER_S, seconds_to_ns

T = TypeVar("T")
Outcome: TypeAlias = tuple[Answer, int, "int | None"]  # the caller's stamp on return, and when the answer was found
FALLBACK = "(fallback)"
HANG_S = 1.0  # a call that is not back this long after its deadline hangs
# Generations of runs that belong to no request; the Reasoner numbers its own from 1.
_CONTROL_GENERATION, _UNINTERRUPTED_GENERATION = -2, 0


@dataclass(frozen=True, slots=True)
class Request:
    """A question with a budget. ``floor_ns``: the least budget in which the model can answer it."""

    number: int
    question: Question
    budget_ns: int
    floor_ns: int


class Delivery(NamedTuple):
    """One call as its caller saw it; a call that hung has no times. ``late`` goes by the caller's stamp on return."""

    request: int
    question: str
    budget_ms: float
    floor_ms: float
    elapsed_ms: float | None
    slack_ms: float | None
    late: bool
    flagged_late: bool
    hung: bool
    overrun: bool
    valid: bool
    stopped: str
    source: str
    thought_tokens: int
    token_cap: int
    handover_ms: float | None  # from the moment the returned answer was found until the caller had it


class Uninterrupted(NamedTuple):
    """A thought that nobody stopped: its tokens by the deadline, and whether it had closed itself by then."""

    request: int
    budget_ms: float
    tokens: int
    completed: bool
    elapsed_ms: float


def watched(call: Callable[[], T], limit_s: float) -> T | None:
    """Call on a thread of its own; None when it is not back within the limit: the thread is then left behind."""
    returned: list[T] = []
    raised: list[BaseException] = []

    def run() -> None:
        try:
            returned.append(call())
        except BaseException as error:  # handed on to whoever waits below
            raised.append(error)

    thread = threading.Thread(target=run, name="bench-caller", daemon=True)
    thread.start()
    thread.join(limit_s)
    if raised:
        raise raised[0]
    return returned[0] if returned else None


def asked_format(question: Question) -> AnswerFormat:
    """The answer format of a question, which the bench cannot do without."""
    answer = question.format()
    if answer is None:
        raise SystemExit(f"question {question.id} has no choices, regex or schema: give a file of questions that do")
    return answer


def floor_ns(reasoner: Reasoner, question: Question) -> int:
    """The least budget in which this question gets an answer of the model."""
    return seconds_to_ns(reasoner.floor(question.question, asked_format(question)))


def settle(reasoner: Reasoner) -> None:
    """Wait, a second or so at most, until a step that was left behind has ended: no contender pays for another."""
    for _ in range(1_000):
        if reasoner.health() is Health.READY:
            return
        time.sleep(0.001)


def ours(reasoner: Reasoner, request: Request) -> Outcome:
    """The runtime as a user calls it."""
    clock, found = reasoner._machine.clock, list[int]()

    def stamp(text: str) -> bool:
        found.append(clock.now())
        return True

    question, budget_s = request.question, request.budget_ns / NS_PER_S
    # Not the default, which would end a thought whose answer is sure: how much thought there was time for is measured.
    answer = reasoner.answer(
        question.question,
        budget=budget_s,
        answer=asked_format(question),
        fallback=FALLBACK,
        accept=stamp,
        policy="until-deadline",
    )
    return answer, clock.now(), found[-1] if found else None


class _Nobody:
    """A worker that works on a request for ever, and does nothing: for one that only waits."""

    tapes = None

    def __init__(self, machine: Machine) -> None:
        self.machine = machine

    def cancel(self, job: Job) -> None:
        """There is nothing to stop."""

    def running(self, job: Job) -> bool:
        return True


def control(reasoner: Reasoner, request: Request) -> Outcome:
    """The same wait and the same guard with no model: a request that is under way and that no engine works on."""
    machine = reasoner._machine
    received_ns = machine.clock.now()
    deadline_ns = received_ns + request.budget_ns
    job = Job(
        generation=_CONTROL_GENERATION,
        request_id="control",
        prompt=(),
        ready_ns=deadline_ns - reasoner.profile.delivery_ns,
        answer=reasoner._compiled(asked_format(request.question)),
        sampling=Sampling(),
        policy=UntilDeadline(),
        bank=AnswerBank(),
        started=True,
    )
    nobody: Any = _Nobody(machine)
    pending = Pending(job, nobody, reasoner.bundle.id, received_ns, deadline_ns, FALLBACK)
    return pending.result(), machine.clock.now(), None


def deliver(contender: Callable[[Reasoner, Request], Outcome], reasoner: Reasoner, request: Request) -> Delivery:
    """Have a contender answer under the watchdog, and note what the caller saw."""
    settle(reasoner)
    outcome = watched(lambda: contender(reasoner, request), request.budget_ns / NS_PER_S + HANG_S)
    asked = (request.number, request.question.id, _ms(request.budget_ns), _ms(request.floor_ns))
    if outcome is None:
        return Delivery(*asked, None, None, True, True, True, True, False, "hung", "none", 0, 0, None)
    answer, returned_ns, found_ns = outcome
    return Delivery(
        *asked,
        elapsed_ms=_ms(returned_ns - answer.received_ns),
        slack_ms=_ms(answer.deadline_ns - returned_ns),
        late=returned_ns > answer.deadline_ns,
        flagged_late=answer.late,
        hung=False,
        overrun=answer.overrun,
        valid=answer.valid and answer.text in (request.question.choices or ()),
        stopped=answer.stopped,
        source=answer.source,
        thought_tokens=answer.tokens.thought,
        token_cap=answer.token_cap,
        handover_ms=None if found_ns is None else _ms(returned_ns - found_ns),
    )


def uninterrupted(reasoner: Reasoner, request: Request) -> Uninterrupted:
    """Encode, prefill, decode, and nothing else: how far the thought would be at the deadline if nobody kept it."""
    settle(reasoner)
    machine = reasoner._machine
    start_ns = machine.clock.now()
    tokens = machine.codec.encode(request.question.question)
    seq = machine.engine.open()
    thought: list[int] = []
    completed = False
    try:
        while not completed and seq.length + len(tokens) <= machine.engine.spec.max_context:
            logits = machine.engine.run([Row(seq, tokens, 1)], _UNINTERRUPTED_GENERATION)[0]
            tokens = [int(logits[-1].argmax())]
            if machine.clock.now() - start_ns > request.budget_ns:
                break
            thought += tokens
            completed = _closes(machine, thought)
    finally:
        machine.engine.close(seq)
    elapsed_ms = _ms(machine.clock.now() - start_ns)
    return Uninterrupted(request.number, _ms(request.budget_ns), len(thought), completed, elapsed_ms)


def _closes(machine: Machine, thought: list[int]) -> bool:
    """Whether the thought has just ended itself; what ended it is then taken out of it."""
    tag = machine.codec.close_tag_ids
    for end in ([thought[-1]] if thought[-1] in machine.codec.stop_ids else [], tag):
        if end and thought[-len(end) :] == end:
            del thought[-len(end) :]
            return True
    return False


def _ms(ns: int) -> float:
    return round(ns / NS_PER_MS, 4)
