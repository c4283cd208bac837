"""A question asked every period: when it is released, what is left out, and how it ends."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anytime import Answer
from anytime.errors import UsageError
from anytime.scheduler.releases import Releases
from tests.conftest import MS, MakeReasoner, turns_at
from tests.doubles import LEFT_OR_RIGHT, PATIENCE_S

ASK: dict[str, Any] = {"answer": LEFT_OR_RIGHT}


@given(st.integers(1, 50), st.integers(1, 50), st.integers(0, 500), st.integers(-1, 30))
def test_the_next_release_is_the_first_that_is_not_over(period: int, deadline: int, now: int, after: int) -> None:
    """Not over means due at or behind now; none comes twice."""
    releases = Releases(7, period, min(period, deadline))
    k = releases.next(now, after)
    assert k > after
    assert releases.released_ns(k) + releases.deadline_ns >= now
    assert k == after + 1 or releases.released_ns(k - 1) + releases.deadline_ns < now


def test_every_release_is_answered_by_its_own_deadline(make_reasoner: MakeReasoner) -> None:
    """Questions are made at their releases, a period apart from the phase on, and due before the next."""
    reasoner, _, clock = make_reasoner(turns_at(5))
    start_ns, answers, enough = clock.now(), list[Answer](), threading.Event()

    def told(answer: Answer) -> None:
        answers.append(answer)
        if len(answers) == 3:
            enough.set()

    task = reasoner.every(0.1, lambda: "what", told, due=0.05, phase=0.02, **ASK)
    while not enough.wait(0.001):
        clock.advance(MS)
    task.stop()
    dues = [(answer.deadline_ns - start_ns - 70 * MS) / (100 * MS) for answer in answers]
    assert all(abs(due - round(due)) < 1e-5 for due in dues)
    assert dues == sorted(dues)
    assert all(answer.text == "right" for answer in answers)
    assert task.released >= 3


def test_releases_that_are_over_are_left_out(make_reasoner: MakeReasoner) -> None:
    """Whoever takes three periods to make a question skips what went by, and is told how many that were."""
    reasoner, _, clock = make_reasoner(turns_at(5))
    asked, twice = [0], threading.Event()

    def ask() -> None:
        asked[0] += 1
        if asked[0] == 1:
            clock.advance(350 * MS)
        else:
            twice.set()

    task = reasoner.every(0.1, ask, print, **ASK)
    while not twice.wait(0.001):
        clock.advance(MS)
    task.stop()
    assert task.skipped >= 2


def test_what_the_caller_raises_ends_the_task(make_reasoner: MakeReasoner) -> None:
    """And comes back from stop; the Reasoner serves others."""
    reasoner, _, _ = make_reasoner(turns_at(5))
    failed = threading.Event()

    def ask() -> str:
        failed.set()
        raise RuntimeError("no camera")

    task = reasoner.every(0.1, ask, print, **ASK)
    assert failed.wait(PATIENCE_S)
    with pytest.raises(RuntimeError, match="no camera"):
        task.stop()
    assert reasoner.answer("what", budget=0.05, **ASK).valid


@pytest.mark.parametrize(
    ("times", "says"),
    [
        ({"period": 0.0}, "period is 0.0"),
        ({"period": float("nan")}, "period is nan"),
        ({"period": float("inf")}, "period is inf"),
        ({"period": 0.1, "due": 0.2}, "behind the next release"),
        ({"period": 0.1, "phase": -1.0}, "phase is -1.0"),
    ],
)
def test_impossible_times_are_refused(make_reasoner: MakeReasoner, times: dict[str, float], says: str) -> None:
    """At once, with the remedy."""
    reasoner, _, _ = make_reasoner(turns_at(5))
    with pytest.raises(UsageError, match=says):
        reasoner.every(times.pop("period"), lambda: "what", print, **times, **ASK)
