"""The deadline bench judges honestly: what counts as late, as valid, as whole, and as a hang."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from anytime.runtime.questions import Question
from bench.contenders import (
    FALLBACK,
    Delivery,
    Request,
    Uninterrupted,
    control,
    deliver,
    floor_ns,
    ours,
    uninterrupted,
    watched,
)
from bench.deadline_figures import Results, figures
from bench.peer import Peer, PeerError
from tests.conftest import MakeReasoner, thinker

MS = 1_000_000
QUESTION = Question(id="q", question="what", answer="left", choices=["left", "right"], difficulty=12)


def delivery(number: int = 0, **changes: object) -> Delivery:
    """A request that ended in time on the deadline, with 45 tokens of thought."""
    fields: dict[str, object] = {
        "request": number, "question": "q", "budget_ms": 100.0, "floor_ms": 10.0, "elapsed_ms": 99.0, "slack_ms": 1.0,
        "late": False, "flagged_late": False, "hung": False, "overrun": False, "valid": True, "stopped": "deadline",
        "source": "thought", "thought_tokens": 45, "token_cap": 50, "handover_ms": 0.1,
    }  # fmt: skip
    return Delivery(**{**fields, **changes})  # type: ignore[arg-type]


def judged(ours: list[Delivery], bare: list[Uninterrupted] | None = None) -> dict[str, bool]:
    """Which figures hold in a full run, by name."""
    bare = [] if bare is None else bare
    results = Results(
        0.5,
        {"q": (12, 10.0)},
        ours=ours,
        control=[delivery(d.request, elapsed_ms=99.8) for d in ours],
        uninterrupted=bare,
    )
    return {figure.name: figure.holds for figure in figures(results, quick=False)}


RATIO = "thought behind the answer over an uninterrupted one's, median, 80-160 ms"
VALID = "valid answers at or above the floor, %"
LATE = "late, ours minus control, percentage points"
AT_ONCE = "a finished thought's answer found until returned, p99, over the control's waking up, p99"


def test_a_hang_is_late_and_a_miss_of_its_own() -> None:
    """A call that never returned counts as late, as not valid and as a hang."""
    hung = delivery(hung=True, late=True, valid=False, elapsed_ms=None, slack_ms=None, handover_ms=None)
    held = judged([hung])
    assert not held["hangs"]
    assert not held[LATE]
    assert not held[VALID]


def test_late_by_two_in_two_thousand_holds_and_by_three_does_not() -> None:
    """A tenth of a percentage point above the control is allowed, and nothing beyond it."""
    requests = [delivery(i) for i in range(2000)]
    assert judged([d._replace(late=i < 2) for i, d in enumerate(requests)])[LATE]
    assert not judged([d._replace(late=i < 3) for i, d in enumerate(requests)])[LATE]


def test_below_the_floor_a_fallback_is_no_miss() -> None:
    """Only requests whose budget reaches their floor owe a valid answer."""
    fallback = delivery(1, valid=False, source="fallback", budget_ms=9.9)
    assert judged([delivery(), fallback])[VALID]
    assert not judged([delivery(), fallback._replace(budget_ms=10.0)])[VALID]


def test_ratio_of_thoughts() -> None:
    """45 tokens of an uninterrupted 50 hold, 44 do not; two thoughts that closed themselves are alike."""
    bare = Uninterrupted(0, 100.0, 50, False, 100.0)
    assert judged([delivery()], [bare])[RATIO]
    assert not judged([delivery(thought_tokens=44)], [bare])[RATIO]
    whole = delivery(stopped="complete", thought_tokens=44)
    assert judged([whole], [bare._replace(completed=True)])[RATIO]
    assert not judged([delivery(thought_tokens=44)], [bare._replace(completed=True)])[RATIO]


def test_a_finished_thought_held_back_is_a_miss() -> None:
    """An answer handed over later than the control wakes up (0.3 ms here) misses; none finished misses too."""
    whole = delivery(stopped="complete")
    assert judged([whole])[AT_ONCE]
    assert not judged([whole._replace(handover_ms=0.4)])[AT_ONCE]
    assert not judged([delivery()])[AT_ONCE]


def test_watchdog_returns_from_a_call_that_does_not() -> None:
    """A call that hangs is given up at its limit, and a call that raises raises."""
    never = threading.Event()
    assert watched(never.wait, 0.01) is None
    never.set()
    with pytest.raises(ZeroDivisionError):
        watched(lambda: 1 // 0, 1.0)


def test_control_is_the_same_wait_without_a_model(make_reasoner: MakeReasoner, monkeypatch: pytest.MonkeyPatch) -> None:
    """The control waits until the deadline less the delivery margin, and the engine runs nothing for it."""
    reasoner, engine, clock = make_reasoner(thinker("a", lambda n: "left"))
    start_ns, waits = clock.now(), []

    def wait_until(event: threading.Event, instant_ns: int) -> bool:
        waits.append(instant_ns - start_ns)
        clock.advance(instant_ns - clock.now())
        return event.is_set()

    with monkeypatch.context() as patch:
        patch.setattr(clock, "wait_until", wait_until)
        answer, returned_ns, _ = control(reasoner, Request(0, QUESTION, 40 * MS, 0))
    assert waits == [40 * MS - reasoner.profile.delivery_ns]
    assert returned_ns - start_ns == waits[0]
    assert (answer.text, answer.overrun, answer.late) == (FALLBACK, True, False)
    assert engine.runs == []


def test_a_finished_thought_is_seen_as_one(make_reasoner: MakeReasoner) -> None:
    """A request whose thought closes itself is noted as whole, valid, early and handed over at once."""
    reasoner, _, _ = make_reasoner(thinker("abc", lambda n: "left"))
    noted = deliver(ours, reasoner, Request(0, QUESTION, 100 * MS, floor_ns(reasoner, QUESTION)))
    assert (noted.stopped, noted.source, noted.thought_tokens) == ("complete", "thought", 3)
    assert noted.valid
    assert not noted.late
    assert noted.slack_ms is not None
    assert noted.slack_ms > 50
    assert noted.handover_ms == 0  # the mock clock stands still when no engine runs


def test_uninterrupted_thought_is_the_models_own(make_reasoner: MakeReasoner) -> None:
    """The bare loop finds the thought's tokens up to the tag that closes it, and the floor covers an instant answer."""
    reasoner, _, _ = make_reasoner(thinker("abc", lambda n: "left"))
    bare = uninterrupted(reasoner, Request(0, QUESTION, 10**15, 0))
    assert (bare.tokens, bare.completed) == (3, True)
    assert 0 < floor_ns(reasoner, QUESTION) < 10 * MS


def test_deliver_under_the_watchdog_notes_a_hang(make_reasoner: MakeReasoner, monkeypatch: pytest.MonkeyPatch) -> None:
    """A contender that is not back in time becomes a hung and late delivery instead of a hung bench."""
    monkeypatch.setattr("bench.contenders.HANG_S", 0.0)
    reasoner, _, _ = make_reasoner(thinker("a", lambda n: "left"))
    never = threading.Event()
    noted = deliver(lambda *_: (never.wait(), 0, None), reasoner, Request(0, QUESTION, MS, 0))  # type: ignore[arg-type]
    never.set()
    assert noted.hung
    assert noted.late


def test_a_missing_checkpoint_is_a_reason(tmp_path: Path) -> None:
    """Without a checkpoint the peer says why it is not measured."""
    with pytest.raises(PeerError, match="no checkpoint at"):
        Peer(tmp_path / "none", "</think>")
