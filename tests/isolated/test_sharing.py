"""Several requests at once, and on their way, are served in another process as in the same one."""

from __future__ import annotations

import json
import os
import signal
import threading
from pathlib import Path

import pytest

from anytime import (
    Answer,
    BudgetError,
    DecisionLog,
    EngineError,
    UsageError,
)
from tests.doubles import PATIENCE_S
from tests.isolated.conftest import ASK, Make, until


def test_the_newest_of_a_topic_is_the_one_that_counts(make: Make) -> None:
    """Asked in quick succession: each ends the one before it as stale, with what that has; the last is answered."""
    isolated = make(count=16)
    stale = [isolated.submit("hold", budget=PATIENCE_S, topic="front", **ASK)]
    assert stale[0].wait_for_news()
    stale += [isolated.submit("what", budget=PATIENCE_S, topic="front", **ASK) for _ in range(10)]
    other = isolated.submit("what", budget=PATIENCE_S, topic="rear", priority=3, **ASK)
    newest = stale.pop()
    assert newest.result().stopped == "complete"
    assert other.result().stopped == "complete"
    assert (stale[0].result().text, stale[0].result().stopped) == ("left", "stale")
    assert {pending.result().stopped for pending in stale} <= {"stale", "complete"}


def test_two_requests_under_way_have_two_ids(make: Make) -> None:
    """The second is refused at once; when the first has been answered its id is free."""
    isolated = make()
    pending = isolated.submit("hold", budget=PATIENCE_S, request_id="a", **ASK)
    with pytest.raises(UsageError, match="a request with the id 'a' is under way"):
        isolated.submit("what", budget=PATIENCE_S, request_id="a", **ASK)
    pending.cancel()
    assert isolated.answer("what", budget=PATIENCE_S, request_id="a", **ASK).request_id == "a"


def test_answer_now_closes_the_thought_where_it_stands(make: Make) -> None:
    """The thought would take two seconds and more; what there is of it is answered from."""
    isolated = make()
    pending = isolated.submit("e", budget=PATIENCE_S, **ASK)
    while pending.best().tokens.thought < 8:  # the instant answer first, then a probe
        assert pending.wait_for_news()
    pending.answer_now()
    got = pending.result()
    assert (got.stopped, got.source) == ("early", "thought")
    assert 8 <= got.tokens.thought < 200


def test_a_tightened_request_is_answered_by_its_new_deadline(make: Make) -> None:
    """Also where the caller waits already, for an engine that stands still."""
    isolated, got = make(), list[Answer]()
    pending = isolated.submit("hold", budget=PATIENCE_S, **ASK)
    assert pending.wait_for_news()
    waiter = threading.Thread(target=lambda: got.append(pending.result()))
    waiter.start()
    before_ns = pending.deadline_ns
    until(lambda: pending.tighten(budget=0.3))
    waiter.join(PATIENCE_S / 2)
    assert (got[0].text, got[0].stopped) == ("left", "deadline")
    assert got[0].deadline_ns == pending.deadline_ns < before_ns
    assert not pending.tighten(budget=-1.0)


def test_an_extended_request_thinks_on(make: Make) -> None:
    """The context is full after two seconds and more, which the first deadline had no time for."""
    isolated = make()
    pending = isolated.submit("e", budget=1.0, **ASK)
    until(lambda: pending.extend(budget=PATIENCE_S))
    got = pending.result()
    assert (got.stopped, got.reason, got.late) == ("early", "the model's context is full", False)
    assert got.elapsed_s > 1.0


def test_a_deadline_moves_to_the_side_that_was_said(make: Make) -> None:
    """Otherwise it is a mistake; and nothing is changed for a request that is over, or when the worker does not say."""
    isolated = make()
    pending = isolated.submit("hold", budget=5.0, **ASK)
    with pytest.raises(BudgetError, match=r"later than agreed: use extend\(\)"):
        pending.tighten(budget=PATIENCE_S)
    with pytest.raises(BudgetError, match=r"sooner than agreed: use tighten\(\)"):
        pending.extend(budget=1.0)
    assert isolated.pid is not None
    os.kill(isolated.pid, signal.SIGSTOP)
    before_ns = pending.deadline_ns
    assert not pending.extend(budget=PATIENCE_S)
    assert pending.deadline_ns == before_ns
    pending.cancel()
    over = isolated.submit("what", budget=0, **ASK)
    assert not over.extend(budget=1.0)


def test_a_question_every_period_and_how_the_engine_drifts(make: Make) -> None:
    """``every`` asks the worker; ``drift`` is what the worker knows of its engine."""
    isolated, enough = make(), threading.Event()
    got: list[Answer] = []

    def told(answer: Answer) -> None:
        got.append(answer)
        if len(got) == 3:
            enough.set()

    task = isolated.every(0.1, lambda: "what", told, **ASK)
    assert enough.wait(PATIENCE_S)
    task.stop()
    assert "right" in {answer.text for answer in got}
    assert isolated.drift() is None
    isolated.close()
    with pytest.raises(EngineError, match="the Reasoner is closed"):
        isolated.drift()


def test_the_decision_log_is_the_callers(make: Make, tmp_path: Path) -> None:
    """A line for each answer as it was delivered here, the rejected ones too."""
    log = DecisionLog(tmp_path / "log.jsonl")
    isolated = make(log=log)
    answers = [isolated.answer("what", budget=b, topic="front", **ASK) for b in (PATIENCE_S, 0)]
    log.close()
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    for line, answer in zip(lines, answers, strict=True):
        assert (line["asked"]["prompt"], line["asked"]["topic"]) == ("what", "front")
        assert line["asked"]["id"] == answer.request_id
        assert line["answered"]["answer"] == answer.text
        assert line["answered"]["delivered_ns"] == answer.delivered_ns
        assert line["planned"]["token_cap"] == answer.token_cap
