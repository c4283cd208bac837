"""Several requests share one engine by their deadlines, and can be hurried, moved and superseded on their way."""

from __future__ import annotations

import itertools
import threading
from typing import Any

import pytest

from anytime import Text
from anytime.errors import BudgetError, PromptError, UsageError
from anytime.runtime.pending import Pending
from anytime.runtime.policies.policy import THINK, Following, Plan, Verdict, View
from anytime.runtime.reasoner import Reasoner
from anytime.scheduler import batching
from anytime.scheduler.clock import NS_PER_MS, NS_PER_S
from anytime.testing import MockClock
from tests.conftest import MakeReasoner
from tests.doubles import LEFT_OR_RIGHT, PATIENCE_S, HeldEngine, held

ASK: dict[str, Any] = {"answer": LEFT_OR_RIGHT, "fallback": "stop"}


def busy(make_reasoner: MakeReasoner, budget: float = 1.0, hold_at: int = 30, **request: Any) -> Busy:
    """A Reasoner with a request on its way that stands still in the middle of its thought."""
    reasoner, engine, clock = held(make_reasoner, hold_at=hold_at)
    pending = reasoner.submit("what", budget=budget, **{**ASK, **request})
    assert engine.reached.wait(PATIENCE_S)
    return reasoner, engine, clock, pending


Busy = tuple[Reasoner, HeldEngine, MockClock, Pending]


def turns(engine: HeldEngine) -> list[int]:
    """Whose steps ran, in turn."""
    return [generation for generation, _ in itertools.groupby(engine.generations)]


def test_the_earlier_deadline_goes_first(make_reasoner: MakeReasoner) -> None:
    """A request that must be answered sooner is served between two steps of the one under way, which then goes on."""
    reasoner, engine, clock, patient = busy(make_reasoner)
    found_ns: list[int] = []
    urgent = reasoner.submit("what", budget=0.05, accept=lambda text: not found_ns.append(clock.now()), **ASK)
    engine.released.set()
    assert urgent.result().text == "right"
    assert found_ns[-1] <= urgent.job.ready_ns
    answer = patient.result()
    assert (answer.text, answer.stopped, answer.tokens.thought) == ("right", "complete", 180)
    assert turns(engine) == [1, 2, 1]


def test_a_later_deadline_gets_its_first_answer_soon(make_reasoner: MakeReasoner) -> None:
    """A request that can wait has an answer in hand long before the one ahead of it is done."""
    reasoner, engine, _, first = busy(make_reasoner, budget=0.15)
    second = reasoner.submit("what", budget=0.6, **ASK)
    engine.released.set()
    first.result()
    assert turns(engine)[:3] == [1, 2, 1]
    assert second.result().valid


def test_time_is_shared_between_equals(make_reasoner: MakeReasoner, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two requests with one deadline, neither thinks through while the other is left with its first answer."""
    monkeypatch.setattr(batching, "_MOST_SLOWER", 1.0)  # one step at a time, so that steps can be counted
    reasoner, engine, _, one = busy(make_reasoner, budget=0.1, hold_at=3)
    two = reasoner.submit("what", budget=0.1, **ASK)
    engine.released.set()
    thoughts = sorted(pending.result().tokens.thought for pending in (one, two))
    assert thoughts[0] >= 25
    assert 80 <= sum(thoughts) <= 100


def test_nobody_admitted_is_left_without_an_answer(make_reasoner: MakeReasoner) -> None:
    """However many ask at once, whoever is not rejected is answered by the model."""
    reasoner, engine, _, first = busy(make_reasoner, budget=0.1, hold_at=3)
    pending = [first, *(reasoner.submit("what", budget=0.1, **ASK) for _ in range(200))]
    engine.released.set()
    answers = [each.result() for each in pending]
    served = [answer for answer in answers if answer.stopped != "rejected"]
    assert 20 < len(served) < 201
    assert all(answer.valid for answer in served)
    assert all("under way and leave too little" in answer.reason for answer in answers if answer not in served)


def test_a_prompt_that_runs_is_counted_once(make_reasoner: MakeReasoner) -> None:
    """Who comes while another's prompt runs is taken in where that and its own fit, and both are answered."""
    reasoner, engine, _ = held(make_reasoner, hold_at=1)
    floor_s = reasoner.floor("what", LEFT_OR_RIGHT)
    first = reasoner.submit("what", budget=1.1 * floor_s, **ASK)
    assert engine.reached.wait(PATIENCE_S)
    worker = reasoner._worker
    mandatory_ns = worker._agenda.mandatory_ns(first.job.generation)
    both_ns = max(worker._blocking_ns, mandatory_ns) + mandatory_ns + reasoner.profile.delivery_ns
    assert reasoner.submit("what", budget=both_ns / NS_PER_S - 1e-6, **ASK).job.stopped == "rejected"
    second = reasoner.submit("what", budget=both_ns / NS_PER_S + 1e-6, **ASK)
    engine.released.set()
    assert first.result().valid
    assert second.result().valid


class Measuring(Following):
    """Notes what room there is, and thinks."""

    def __init__(self) -> None:
        self.rooms: list[int] = []

    def begin(self, view: View) -> Plan:
        self.rooms.append(view.room(1))
        return Plan()

    def judge(self, view: View) -> Verdict:
        return THINK


def test_a_policy_plans_by_the_deadline_of_its_own_request(make_reasoner: MakeReasoner) -> None:
    """What others are to have is not taken from the room it sees: they may yet leave it."""
    measuring = Measuring()
    reasoner, _, _ = held(make_reasoner, hold_at=-1)
    reasoner.answer("what", budget=0.1, policy=measuring, **ASK)
    reasoner, engine, _, _ = busy(make_reasoner, budget=0.1, hold_at=3)
    another = reasoner.submit("what", budget=0.1, policy=measuring, **ASK)
    engine.released.set()
    assert another.result().valid
    alone, crowded = measuring.rooms
    assert another.job.token_cap < 0.7 * alone
    assert 0.8 * alone < crowded <= alone


def test_optional_time_goes_to_the_higher_priority(make_reasoner: MakeReasoner) -> None:
    """Of two requests with one deadline, the one of higher priority thinks, the other keeps its first answer."""
    reasoner, engine, _, low = busy(make_reasoner, budget=0.1, hold_at=3)
    high = reasoner.submit("what", budget=0.1, priority=1, **ASK)
    engine.released.set()
    assert high.result().tokens.thought > 2 * low.result().tokens.thought
    assert low.result().valid


def test_lower_priority_gives_way_where_not_all_fit(make_reasoner: MakeReasoner) -> None:
    """A request of higher priority is served instead of one that could not then be."""
    reasoner, engine, _, _ = busy(make_reasoner, hold_at=3)
    crowd = [reasoner.submit("what", budget=0.1, **ASK) for _ in range(200)]
    assert crowd[-1].job.stopped == "rejected"
    high = reasoner.submit("what", budget=0.1, priority=1, **ASK)
    engine.released.set()
    assert high.result().valid
    dropped = [one.result() for one in crowd if "higher priority" in one.result().reason]
    assert dropped
    assert {answer.stopped for answer in dropped} == {"rejected"}


@pytest.mark.parametrize(("overload", "kept"), [("degrade", False), ("drop-oldest", True)])
def test_what_overload_does_is_said_when_loading(make_reasoner: MakeReasoner, overload: str, kept: bool) -> None:
    """Of too many requests the last one is rejected, or served instead of the oldest."""
    reasoner, engine, _, _ = busy(make_reasoner, hold_at=3)
    reasoner._worker._overload = overload  # type: ignore[assignment]
    crowd = [reasoner.submit("what", budget=0.1, **ASK) for _ in range(200)]
    engine.released.set()
    assert crowd[-1].result().valid is kept
    assert crowd[0].result().valid is not kept


def test_reject_takes_no_thought_from_those_under_way(make_reasoner: MakeReasoner) -> None:
    """Where two requests were promised nearly all the time there is, few more are taken in, though all would fit."""
    served = {}
    for overload in ("degrade", "reject"):
        reasoner, engine, _, first = busy(make_reasoner, budget=0.2, hold_at=3)
        reasoner._worker._overload = overload  # type: ignore[assignment]
        second = reasoner.submit("what", budget=0.2, **ASK)
        held_first, engine.released, engine.hold_at = engine.released, threading.Event(), 8
        engine.reached.clear()
        held_first.set()
        assert engine.reached.wait(PATIENCE_S)  # by now they were promised their time
        crowd = [reasoner.submit("what", budget=0.18, **ASK) for _ in range(40)]
        served[overload] = sum(one.job.stopped != "rejected" for one in crowd)
        engine.released.set()
        assert all(one.result().valid for one in (first, second))
    assert served["degrade"] == 40
    assert served["reject"] < 30


def test_the_newest_of_a_topic_is_the_one_that_counts(make_reasoner: MakeReasoner) -> None:
    """A newer question ends an older one of its topic at once, begun or not, with what it has; others go on."""
    reasoner, engine, _, running = busy(make_reasoner, topic="front")
    other = reasoner.submit("what", budget=1.0, topic="rear", **ASK)
    waiting = reasoner.submit("what", budget=1.0, topic="front", **ASK)
    newest = reasoner.submit("what", budget=1.0, topic="front", **ASK)
    stale = running.result()
    assert (stale.stopped, stale.source, waiting.result().stopped) == ("stale", "probe", "stale")
    assert "newer question of the topic 'front'" in stale.reason
    engine.released.set()
    assert newest.result().stopped == "complete"
    assert other.result().stopped == "complete"


def test_answer_now_closes_the_thought_where_it_stands(make_reasoner: MakeReasoner) -> None:
    """The answer rests on what was thought until then, and comes before anybody else's."""
    found_ns: list[int] = []
    reasoner, engine, clock, pending = busy(make_reasoner, accept=lambda text: not found_ns.append(clock.now()))
    reasoner.submit("what", budget=0.5, **ASK)
    asked_ns = clock.now()
    pending.answer_now()
    engine.released.set()
    answer = pending.result()
    assert (answer.stopped, answer.source) == ("early", "thought")
    assert 20 <= answer.tokens.thought <= 40
    assert found_ns[-1] - asked_ns < 20 * NS_PER_MS


def test_answer_now_before_anything_was_thought(make_reasoner: MakeReasoner) -> None:
    """A request still waiting returns its first answer."""
    reasoner, engine, _, _ = busy(make_reasoner, budget=0.3)
    waiting = reasoner.submit("what", budget=1.0, **ASK)
    waiting.answer_now()
    engine.released.set()
    answer = waiting.result()
    assert (answer.stopped, answer.source) == ("early", "instant")


def test_a_tightened_request_is_answered_by_its_new_deadline(make_reasoner: MakeReasoner) -> None:
    """It thinks less, and its caller, who may be waiting already, leaves then."""
    _, engine, clock, pending = busy(make_reasoner)
    assert pending.tighten(budget=0.04)
    deadline_ns = clock.now() + 40 * NS_PER_MS
    engine.released.set()
    answer = pending.result()
    assert (answer.deadline_ns, answer.stopped, answer.source) == (deadline_ns, "deadline", "thought")
    assert answer.delivered_ns <= deadline_ns
    assert 30 < answer.tokens.thought < 80


def test_an_extended_request_thinks_on(make_reasoner: MakeReasoner) -> None:
    """With more time a thought is completed that would have been cut short."""
    _, engine, _, pending = busy(make_reasoner, budget=0.05)
    assert pending.extend(budget=1.0)
    engine.released.set()
    assert pending.result().stopped == "complete"


def test_a_deadline_moves_only_where_others_keep_theirs(make_reasoner: MakeReasoner) -> None:
    """Nothing changes where it would cost somebody the first answer, or for a request that is over."""
    reasoner, engine, _, running = busy(make_reasoner, hold_at=3)
    waiting = reasoner.submit("what", budget=1.0, **ASK)
    crowd = [reasoner.submit("what", budget=0.1, **ASK) for _ in range(200)]
    before_ns = waiting.deadline_ns
    assert not waiting.tighten(budget=0.09)
    assert (waiting.deadline_ns, waiting.job.ready_ns) == (before_ns, before_ns - reasoner.profile.delivery_ns)
    engine.released.set()
    assert all(one.result().valid for one in crowd if one.result().stopped != "rejected")
    assert waiting.result().valid
    running.result()
    assert not running.extend(budget=2.0)


@pytest.mark.parametrize(
    ("call", "error", "says"),
    [
        (lambda pending: pending.tighten(budget=5.0), BudgetError, "use extend"),
        (lambda pending: pending.extend(budget=0.1), BudgetError, "use tighten"),
        (lambda pending: pending.extend(budget=float("nan")), BudgetError, "finite"),
        (lambda pending: pending.tighten(), BudgetError, "exactly one"),
    ],
)
def test_an_impossible_instant_is_refused(make_reasoner: MakeReasoner, call: Any, error: type, says: str) -> None:
    """A request cannot be tightened to later, extended to sooner, or moved to no instant at all."""
    _, engine, _, pending = busy(make_reasoner)
    with pytest.raises(error, match=says):
        call(pending)
    engine.released.set()
    assert pending.result().text == "right"


def test_cancel_returns_the_best_so_far(make_reasoner: MakeReasoner) -> None:
    """Without waiting for the step that runs."""
    _, engine, clock, pending = busy(make_reasoner, hold_at=40)
    before_ns = clock.now()
    answer = pending.cancel()
    assert (answer.text, answer.source, answer.stopped) == ("right", "probe", "cancelled")
    assert clock.now() == before_ns
    assert pending.result() is answer
    assert engine.released.is_set()


def test_a_thousand_cancellations_disturb_nobody(make_reasoner: MakeReasoner) -> None:
    """All end at once, and the one request that stays thinks to its end."""
    reasoner, engine, _, pending = busy(make_reasoner, budget=80.0)
    crowd = [reasoner.submit("what", budget=80.0, **ASK) for _ in range(1_000)]
    answers = [one.cancel() for one in crowd]
    assert {answer.stopped for answer in answers} == {"cancelled"}
    engine.released.set()
    assert pending.result().stopped == "complete"
    assert set(engine.generations) == {pending.job.generation}


@pytest.mark.parametrize(
    ("request_", "says"),
    [
        ({"priority": 1.5}, "priority is 1.5"),
        ({"priority": 10**30}, "at most 1000000"),
    ],
)
def test_a_priority_that_is_none_is_refused(make_reasoner: MakeReasoner, request_: dict[str, Any], says: str) -> None:
    """A priority is a moderate integer."""
    reasoner, _, _ = make_reasoner(lambda tokens: 10)
    with pytest.raises(UsageError, match=says):
        reasoner.submit("what", budget=1.0, **request_)


def test_an_overload_policy_that_is_none_is_refused(make_reasoner: MakeReasoner) -> None:
    """The message names those there are."""
    reasoner, engine, clock = make_reasoner(lambda tokens: 10)
    with pytest.raises(UsageError, match="degrade, reject, drop-oldest"):
        Reasoner(engine, reasoner._machine.codec, reasoner.profile, reasoner.bundle, clock, overload="panic")  # type: ignore[arg-type]


def test_a_prompt_that_leaves_no_room_for_the_answer_is_refused(make_reasoner: MakeReasoner) -> None:
    """Prompt, close tag and the longest answer must fit the context together; the engine is never overrun."""
    reasoner, engine, _ = make_reasoner(lambda tokens: 10)
    with pytest.raises(PromptError, match="the answer up to 40"):
        reasoner.answer("a" * 230, budget=1.0, answer=Text(40))
    assert not engine.runs


def test_two_requests_under_way_have_two_ids(make_reasoner: MakeReasoner) -> None:
    """An id that is in use is refused, and the request that has it goes on; behind it the id is free again."""
    reasoner, engine, _, first = busy(make_reasoner, request_id="same")
    with pytest.raises(UsageError, match="'same' is under way"):
        reasoner.submit("what", budget=1.0, request_id="same", **ASK)
    engine.released.set()
    assert first.result().stopped == "complete"
    assert reasoner.answer("what", budget=1.0, request_id="same", **ASK).valid


def test_a_market_that_fails_costs_nobody_the_answer(make_reasoner: MakeReasoner) -> None:
    """Where what thought is worth cannot be worked out, requests are served all the same."""
    reasoner, engine, _, first = busy(make_reasoner, budget=0.2)

    def fails(jobs: Any) -> Any:
        raise KeyError("no such effort")

    reasoner._worker._market.offers = fails  # type: ignore[method-assign]
    second = reasoner.submit("what", budget=0.2, **ASK)
    engine.released.set()
    assert first.result().valid
    assert second.result().valid


def test_an_engine_without_a_row_for_anybody_says_so(make_reasoner: MakeReasoner) -> None:
    """A request that can never have a row ends with the reason; the thread that serves the others lives on."""
    reasoner, engine, _ = make_reasoner(lambda tokens: 10, max_rows=1)
    row = engine.open()
    answer = reasoner.answer("what", budget=1.0, **ASK)
    assert (answer.stopped, answer.source) == ("error", "fallback")
    assert "rows are in use" in answer.reason
    engine.close(row)
    assert reasoner.answer("what", budget=1.0, **ASK).valid
