"""A thread of the caller's process holds the GIL, 100 ms at a time, while an isolated reasoner is asked.

A Python caller cannot be back before it has the GIL, so two things are measured apart: by native stamps, whether an
answer was in its slot and signalled by the deadline; and how long behind the GIL's being free the caller was back. The
control is the caller's own wait until the deadline less the delivery margin, at a slot that nobody fills; it is late
by its native stamp. Between two holds the GIL is free for a random while, so that no hold follows another at once.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import random
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from anytime import Answer, Isolation, Reasoner
from anytime.ext.slots import Slots
from anytime.runtime.isolated.pending import NO_SLOT
from anytime.runtime.isolated.seats import make_slots
from anytime.runtime.questions import Question
from anytime.scheduler.clock import MONOTONIC, NS_PER_MS, NS_PER_S
from bench.contenders import FALLBACK, Request, asked_format, settle
from bench.guarantee.asking import Asked, ask, draw, floors_of, seen
from bench.guarantee.kept import Rows

GIL = "gil-held"
BUDGETS_MS = (20.0, 100.0)  # above the floor
_HOLD_S = 0.1
_FREE_S = (0.02, 0.15)
_usleep = ctypes.PyDLL(None).usleep  # PyDLL does not release the GIL

Hold = tuple[int, int]  # from when until when, ns


class Stamps(NamedTuple):
    """One request's instants, ns. The worker stamps ``rung`` and ``final``, the caller's wait ``woken``.

    By ``rung`` the first answer was in its slot and signalled: whoever reads the slot has one from then on. At
    ``final`` the last one was published.
    """

    received: int
    posted: int
    rung: int
    final: int
    woken: int
    returned: int
    deadline: int


class Wait(NamedTuple):
    """Its control's: ``woken`` without the GIL, ``returned`` with it."""

    received: int
    began: int
    woken: int
    returned: int
    deadline: int


class Held(NamedTuple):
    """What holds did to a request, ms; instants are behind its deadline, and before it where negative.

    ``after_free_ms``: Python's return behind the instant at which its native wait was over and the GIL free.
    ``kept``: a hold kept the caller from returning. ``cut_off``: a hold kept the request, or its control, from being
    asked at all, so that nothing can be learnt from it. ``control_after_free_ms`` and ``control_kept``: the control's.
    """

    rung_ms: float
    final_ms: float
    returned_ms: float
    after_free_ms: float
    control_after_free_ms: float
    kept: bool
    control_kept: bool
    cut_off: bool


def hold(seconds: float) -> Hold:
    """Hold the GIL, and say from when until when. No bytecode runs between the stamps: it could be taken away there."""
    nap = functools.partial(_usleep, round(seconds * 1e6))
    calls = (functools.partial(time.monotonic_ns), nap, functools.partial(time.monotonic_ns))
    began_ns, _, ended_ns = tuple(map(functools.partial.__call__, calls))
    return began_ns, ended_ns


def within(holds: Sequence[Hold], start_ns: int, end_ns: int) -> list[Hold]:
    """The holds that lie at least in part between two instants."""
    return [(began_ns, ended_ns) for began_ns, ended_ns in holds if began_ns < end_ns and ended_ns > start_ns]


def judged(stamps: Stamps, wait: Wait, holds: Sequence[Hold]) -> Held:
    """What the holds, known once all is over, did to a request."""
    after_free_ns, kept = _after_free(stamps.woken, stamps.returned, holds)
    control_after_free_ns, control_kept = _after_free(wait.woken, wait.returned, holds)
    cut_off = within(holds, stamps.received, stamps.posted) or within(holds, wait.received, wait.began)
    return Held(
        rung_ms=_ms(stamps.rung - stamps.deadline),
        final_ms=_ms(stamps.final - stamps.deadline),
        returned_ms=_ms(stamps.returned - stamps.deadline),
        after_free_ms=_ms(after_free_ns),
        control_after_free_ms=_ms(control_after_free_ns),
        kept=kept,
        control_kept=control_kept,
        cut_off=bool(cut_off),
    )


def _after_free(woken_ns: int, returned_ns: int, holds: Sequence[Hold]) -> tuple[int, bool]:
    """How long behind its waking up and the GIL's being free a caller was back, and whether a hold had kept it."""
    keeping = within(holds, woken_ns, returned_ns)
    return returned_ns - max([woken_ns, *(ended_ns for _, ended_ns in keeping)]), bool(keeping)


def piece(questions: Sequence[Question], number: int, count: int) -> list[list[Sequence[Any]]]:
    """Requests while holds come and go: what each saw, late by the native stamps, and what the holds did to it."""
    source = random.Random(f"{GIL}/{number}/instants")
    with Reasoner.load(isolated=Isolation()) as reasoner:
        requests = draw(questions, count, BUDGETS_MS, floors_of(reasoner, questions), f"{GIL}/{number}")
        ask(reasoner, requests[0], "auto")  # everything is compiled and warm
        empty = make_slots(1, 64, 64)
        with contextlib.closing(empty), _holding(source) as holds:
            found = [_pair(reasoner, request, empty) for request in requests]
    rows: list[list[Sequence[Any]]] = []
    for request, (answer, stamps, wait) in zip(requests, found, strict=True):
        row = seen(request, answer, stamps.rung, max(0, wait.woken - wait.deadline))
        rows.append([row, judged(stamps, wait, holds)])
    return rows


def read_rows(rows: Rows) -> tuple[list[Asked], list[Held]]:
    """Kept rows as what they were."""
    return [Asked(*row[0]) for row in rows], [Held(*row[1]) for row in rows]


@contextlib.contextmanager
def _holding(source: random.Random) -> Iterator[list[Hold]]:
    stop, holds = threading.Event(), list[Hold]()

    def run() -> None:
        while not stop.wait(source.uniform(*_FREE_S)):
            holds.append(hold(_HOLD_S))

    holder = threading.Thread(target=run, daemon=True)
    holder.start()
    try:
        yield holds
    finally:
        stop.set()
        holder.join()


def _pair(reasoner: Reasoner, request: Request, empty: Slots) -> tuple[Answer, Stamps, Wait]:
    """A request and its control, whose order alternates."""
    wait = _waited(reasoner, request, empty) if request.number % 2 else None
    answer, stamps = _asked(reasoner, request)
    return answer, stamps, wait or _waited(reasoner, request, empty)


def _asked(reasoner: Any, request: Request) -> tuple[Answer, Stamps]:
    pending = reasoner.submit(
        request.question.question,
        budget=request.budget_ns / NS_PER_S,
        answer=asked_format(request.question),
        fallback=FALLBACK,
        policy="until-deadline",  # more of them are under way then when the time is up
    )
    posted_ns = MONOTONIC.now()
    answer = pending.result()
    returned_ns = MONOTONIC.now()
    settle(reasoner)  # the slot's answer is the final one then, however late it came
    slots: Slots = reasoner._slots
    rung_ns = final_ns = MONOTONIC.now()  # or later, where there is no answer by now
    woken_ns = posted_ns
    if pending.slot != NO_SLOT:
        woken_ns = slots.woken_ns(pending.slot)
        if (found := slots.read(pending.slot, pending.serial)) is not None:
            rung_ns, final_ns = slots.first_rung_ns(pending.slot), found[2]
    return answer, Stamps(
        received=pending.received_ns,
        posted=posted_ns,
        rung=rung_ns,
        final=final_ns,
        woken=woken_ns,
        returned=returned_ns,
        deadline=pending.deadline_ns,
    )


def _waited(reasoner: Reasoner, request: Request, empty: Slots) -> Wait:
    received_ns = MONOTONIC.now()
    deadline_ns = received_ns + request.budget_ns
    leave_ns = deadline_ns - reasoner.profile.delivery_ns
    began_ns = MONOTONIC.now()
    empty.wait(0, 1, 0, True, leave_ns)
    returned_ns = MONOTONIC.now()
    return Wait(received_ns, began_ns, empty.woken_ns(0), returned_ns, deadline_ns)


def _ms(ns: int) -> float:
    return round(ns / NS_PER_MS, 4)
