"""One request and its control, as their callers see them."""

from __future__ import annotations

import contextlib
import math
import os
import random
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from anytime import Answer, Reasoner
from anytime.runtime.questions import Question
from anytime.scheduler.clock import MONOTONIC, NS_PER_MS, NS_PER_S
from bench.contenders import FALLBACK, Request, asked_format, control, floor_ns


class Asked(NamedTuple):
    """A request as its caller saw it, times in milliseconds. ``lateness_ms``: behind the deadline, 0 when on time.

    ``waited_ms`` is how long the control of this request, which asked for nothing, came back behind the same deadline.
    ``quality`` is the calibrated probability that the answer is right, 0 where the model gave none in time.
    """

    number: int
    budget_ms: float
    floor_ms: float
    elapsed_ms: float
    lateness_ms: float
    control_ms: float
    valid: bool
    right: bool
    quality: float
    stopped: str
    source: str
    thought_tokens: int


def draw(
    questions: Sequence[Question], count: int, limits_ms: tuple[float, float], floors_ns: dict[str, int], seed: str
) -> list[Request]:
    """Questions at random, with budgets uniform on a logarithmic scale above the floor of each."""
    source = random.Random(seed)
    drawn = []
    for number in range(count):
        question = source.choice(questions)
        spare_ms = math.exp(source.uniform(*map(math.log, limits_ms)))
        floor = floors_ns[question.id]
        drawn.append(Request(number, question, floor + round(spare_ms * NS_PER_MS), floor))
    return drawn


def floors_of(reasoner: Reasoner, questions: Sequence[Question]) -> dict[str, int]:
    """The floor of each question; compiles its format, too."""
    return {question.id: floor_ns(reasoner, question) for question in questions}


@contextlib.contextmanager
def woken_first() -> Iterator[None]:
    """This thread, and those it starts here, have the lowest real-time priority, as a control loop's have.

    Where that is not permitted they have not. A waiting thread of an ordinary priority is woken late by its own system
    when an engine, which slept before, computes on its core.
    """
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(os.sched_get_priority_min(os.SCHED_FIFO)))
    except PermissionError:
        yield
        return
    try:
        yield
    finally:
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


def priority_note() -> str:
    """Whether ``woken_first`` is permitted here."""
    with woken_first():
        granted = os.sched_getscheduler(0) == os.SCHED_FIFO
    return "SCHED_FIFO" if granted else "an ordinary one, for SCHED_FIFO is not permitted"


def ask(reasoner: Reasoner, request: Request, policy: str) -> tuple[Answer, int]:
    """The answer, and when its caller had it."""
    question = request.question
    answer = reasoner.answer(
        question.question,
        budget=request.budget_ns / NS_PER_S,
        answer=asked_format(question),
        fallback=FALLBACK,
        policy=policy,
    )
    return answer, MONOTONIC.now()


def waited_ns(reasoner: Reasoner, request: Request) -> int:
    """How far behind its deadline the control was back, the same wait with no model; never negative."""
    answer, returned_ns, _ = control(reasoner, request)
    return max(0, returned_ns - answer.deadline_ns)


def verdict(question: Question, answer: Answer) -> tuple[bool, bool]:
    """Whether the model gave an answer that can be one, and whether it is right."""
    valid = answer.valid and answer.text in (question.choices or (answer.text,))
    return valid, valid and answer.text == question.answer


def seen(request: Request, answer: Answer, returned_ns: int, control_ns: int) -> Asked:
    lateness_ns = max(0, returned_ns - answer.deadline_ns)
    valid, right = verdict(request.question, answer)
    return Asked(
        number=request.number,
        budget_ms=_ms(request.budget_ns),
        floor_ms=_ms(request.floor_ns),
        elapsed_ms=_ms(returned_ns - answer.received_ns),
        lateness_ms=_ms(lateness_ns),
        control_ms=_ms(control_ns),
        valid=valid,
        right=right,
        quality=answer.confidence if valid and not lateness_ns else 0.0,
        stopped=answer.stopped,
        source=answer.source,
        thought_tokens=answer.tokens.thought,
    )


def asked(rows: Sequence[Sequence[object]]) -> list[Asked]:
    """Kept rows as what they were."""
    return [Asked(*row) for row in rows]  # type: ignore[arg-type]


def _ms(ns: int) -> float:
    return round(ns / NS_PER_MS, 4)
