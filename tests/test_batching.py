"""Steps of several requests in one run of the engine: only where it pays, and nobody's deadline suffers by it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anytime.errors import EngineError
from anytime.ext.latency import Latency
from anytime.runtime.engine import Burst
from anytime.runtime.pending import Pending
from anytime.runtime.reasoner import Reasoner
from anytime.scheduler import batching
from anytime.scheduler.batching import Member, batch, pays, unhurried
from anytime.testing import ScriptedEngine
from tests.conftest import MS, MakeReasoner, thinker
from tests.doubles import LEFT_OR_RIGHT, PATIENCE_S, HeldEngine

ALONE = Latency(0.0, 0.1 * MS, 0.5 * MS, 0.0, 1.0 * MS)
WIDE = Latency(0.0, 1.5 * MS, 0.0, 0.0, 1.5 * MS)  # of four rows
FOUR = [Member(50, 8, 100 * MS, 1) for _ in range(4)]
THOUGHT = "ab\n" * 60


def test_a_batch_says_what_it_saves() -> None:
    """Four requests' eight steps take eight wide ones, where each would have taken eight of its own."""
    plan = batch(FOUR, ALONE, WIDE, 1, 100 * MS)
    assert plan is not None
    assert (plan.steps, plan.alone_ns, plan.together_ns) == (8, 8 * MS, 12 * MS)


def test_no_batch_that_slows_its_members_down() -> None:
    """Where rows cost nearly what steps do, requests run one after the other, though a wide step would be cheaper."""
    dear = Latency(0.0, 1.6 * MS, 0.0, 0.0, 1.6 * MS)
    assert pays(ALONE, WIDE, 50)
    assert not pays(ALONE, dear, 50)
    assert batch(FOUR, ALONE, dear, 1, 100 * MS) is None


def test_no_batch_that_is_longer_than_others_may_wait() -> None:
    """Its steps end within the time for which nobody else may need the engine."""
    plan = batch(FOUR, ALONE, WIDE, 1, 5 * MS)
    assert plan is not None
    assert plan.steps == 3
    assert batch(FOUR, ALONE, WIDE, 1, MS) is None


members = st.builds(Member, st.integers(0, 100), st.integers(1, 8), st.integers(0, 40 * MS), st.integers(0, 4))


@given(st.lists(members, min_size=2, max_size=4), st.integers(0, 40 * MS))
def test_behind_a_batch_everybody_can_still_close(found: list[Member], most_ns: int) -> None:
    """Time for the close of each thought is left behind the steps, with their margins; one step more breaks a rule."""
    alone = Latency(10.0, 0.1 * MS, 0.5 * MS, 1_000.0, 1.0 * MS, 1.5, 1.2)
    wide = Latency(1_000.0, 1.2 * MS, 0.0, 1_000.0, 1.2 * MS, 1.2, 1.2)

    def allowed(steps: int) -> bool:
        took_ns = steps * wide.upper_ns(1, max(m.context for m in found) + min(m.count for m in found))
        closes = all(took_ns + alone.closing_ns(m.context + steps, 1, m.answer_steps) <= m.left_ns for m in found)
        return closes and took_ns <= most_ns and steps <= min(m.count for m in found)

    plan = batch(found, alone, wide, 1, most_ns)
    if plan is not None:
        assert allowed(plan.steps)
        assert not allowed(plan.steps + 1)
    else:
        assert not allowed(1)


def test_who_is_in_a_hurry_is_left_alone() -> None:
    """A request whose close would not fit behind the wait does not come along."""
    closing_ns = ALONE.closing_ns(50, 1, 1)
    assert unhurried(Member(50, 8, 5 * MS + closing_ns, 1), ALONE, 1, 5 * MS)
    assert not unhurried(Member(50, 8, 5 * MS + closing_ns - 1, 1), ALONE, 1, 5 * MS)


class WideEngine(HeldEngine):
    """Remembers the widths of its bursts; fails in the first wide one if told to."""

    def __init__(self, *args: Any, fails: bool = False, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.widths: list[int] = []
        self._fails = fails

    def extend(self, bursts: list[Burst], count: int, generation: int) -> list[list[int]]:
        self.widths.append(len(bursts))
        if self._fails and len(bursts) > 1:
            raise EngineError("the backend fell over")
        return ScriptedEngine.extend(self, bursts, count, generation)


def crowd(make_reasoner: MakeReasoner, count: int, **engine: Any) -> tuple[Reasoner, WideEngine, list[Pending]]:
    """As many requests with one deadline, all asked before the first has begun to think."""
    script = thinker(THOUGHT, lambda n: "left" if n < 20 else "right")
    reasoner, wide, _ = make_reasoner(script, kind=WideEngine, hold_at=2, **engine)
    assert isinstance(wide, WideEngine)
    ask: dict[str, Any] = {"answer": LEFT_OR_RIGHT, "fallback": "stop", "budget": 0.2}
    pending = [reasoner.submit("what", **ask)]
    assert wide.reached.wait(PATIENCE_S)
    pending += [reasoner.submit("what", **ask) for _ in range(count - 1)]
    wide.released.set()
    return reasoner, wide, pending


def test_thoughts_that_compete_run_side_by_side(make_reasoner: MakeReasoner) -> None:
    """Where time is short, several think in one step, and together think more than steps of one would have let them."""
    _, wide, pending = crowd(make_reasoner, 4)
    answers = [each.result() for each in pending]
    assert max(wide.widths) > 1
    assert all(answer.valid for answer in answers)
    assert sum(answer.tokens.thought for answer in answers) > 200  # a step takes a millisecond


def test_who_thinks_alone_runs_alone(make_reasoner: MakeReasoner) -> None:
    """Where there is time for all, nobody's step is made longer."""
    _, wide, pending = crowd(make_reasoner, 1)
    assert pending[0].result().valid
    assert set(wide.widths) == {1}


def test_thoughts_side_by_side_are_those_alone(make_reasoner: MakeReasoner) -> None:
    """Each request's thought is what the model thinks, token by token."""
    _, wide, pending = crowd(make_reasoner, 4)
    for each in pending:
        answer = each.result()
        assert answer.thought == THOUGHT[: len(answer.thought)]
        assert len(answer.thought) > 8
    assert max(wide.widths) > 1


def test_a_step_that_fails_ends_all_whose_step_it_was(make_reasoner: MakeReasoner) -> None:
    """Their answers found before are returned, with the reason; the next request is served."""
    reasoner, wide, pending = crowd(make_reasoner, 4, fails=True)
    answers = [each.result() for each in pending]
    failed = [answer for answer in answers if answer.stopped == "error"]
    assert len(failed) > 1
    assert all(answer.valid and "fell over" in answer.reason for answer in failed)
    wide._fails = False
    assert reasoner.answer("what", budget=0.2, answer=LEFT_OR_RIGHT).valid
    assert wide.free_rows >= wide.spec.max_rows - 2  # all given back but for what is parked


@pytest.mark.parametrize("leaver", [0, 1, 3])
def test_who_leaves_does_not_stop_the_others(make_reasoner: MakeReasoner, leaver: int) -> None:
    """A request that is cancelled while it runs beside others keeps its best answer, and they go on."""
    _, _, pending = crowd(make_reasoner, 4)
    left = pending[leaver].cancel()
    assert left.stopped in ("cancelled", "deadline", "complete", "early")
    assert all(each.result().valid for i, each in enumerate(pending) if i != leaver)


def test_nobody_is_made_to_wait_where_rows_are_dear(
    make_reasoner: MakeReasoner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Were half as long again too much for a step, requests that compete would think one after the other."""
    monkeypatch.setattr(batching, "_MOST_SLOWER", 1.4)
    _, wide, pending = crowd(make_reasoner, 4)
    assert all(each.result().valid for each in pending)
    assert set(wide.widths) == {1}
