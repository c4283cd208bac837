"""The decision log: what was asked, planned and answered, redacted where wished, and never in anybody's way."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from anytime import DecisionLog, Reasoner
from anytime.errors import UsageError
from tests.conftest import MakeReasoner, turns_at
from tests.doubles import LEFT_OR_RIGHT


def logged(make_reasoner: MakeReasoner, log: DecisionLog) -> Reasoner:
    reasoner, engine, clock = make_reasoner(turns_at(5))
    machine = reasoner._machine
    again = Reasoner(engine, machine.codec, reasoner.profile, reasoner.bundle, clock, log=log)
    reasoner.close()
    return again


def entries(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def test_each_answer_is_a_line(make_reasoner: MakeReasoner, tmp_path: Path) -> None:
    """Question, plan, answer and instants of every request, the rejected one's too, and once each."""
    log = DecisionLog(tmp_path / "log.jsonl")
    with logged(make_reasoner, log) as reasoner:
        pending = reasoner.submit("what", budget=0.05, answer=LEFT_OR_RIGHT, topic="front", request_id="one")
        answer = pending.result()
        pending.result()
        reasoner.answer("what", budget=0.0, answer=LEFT_OR_RIGHT, fallback="stop")
    log.close()
    first, second = entries(tmp_path / "log.jsonl")
    assert first["asked"]["prompt"] == "what"
    assert (first["asked"]["id"], first["asked"]["topic"]) == ("one", "front")
    assert first["asked"]["deadline_ns"] == answer.deadline_ns
    assert first["planned"]["token_cap"] == answer.token_cap > 20
    assert first["answered"]["answer"] == "right"
    assert first["answered"]["thought"] == answer.thought
    assert first["answered"]["delivered_ns"] == answer.delivered_ns
    assert (second["answered"]["stopped"], second["answered"]["answer"]) == ("rejected", "stop")


def test_what_shall_not_be_recorded_is_not(make_reasoner: MakeReasoner, tmp_path: Path) -> None:
    """Thoughts can be left out, and prompts written as a function of the caller's makes them."""
    log = DecisionLog(tmp_path / "log.jsonl", thoughts="drop", prompts=lambda text: text.replace("a", "*"))
    with logged(make_reasoner, log) as reasoner:
        reasoner.answer("what", budget=0.05, answer=LEFT_OR_RIGHT)
    log.close()
    (entry,) = entries(tmp_path / "log.jsonl")
    assert (entry["asked"]["prompt"], entry["answered"]["thought"]) == ("wh*t", None)
    assert "ab" not in (tmp_path / "log.jsonl").read_text().replace("stable", "")


def test_a_line_that_cannot_be_written_disturbs_nobody(make_reasoner: MakeReasoner) -> None:
    """On a full disk answers come as ever, and the log counts what it lost."""
    log = DecisionLog("/dev/full")
    with logged(make_reasoner, log) as reasoner:
        assert reasoner.answer("what", budget=0.05, answer=LEFT_OR_RIGHT).text == "right"
    log.close()
    assert log.lost == 1


@pytest.mark.parametrize(
    ("file", "thoughts", "says"),
    [("no/such/directory/log", "keep", "cannot be opened"), ("log", "some", "'keep', 'drop' or a function")],
)
def test_a_log_that_cannot_be_is_refused(tmp_path: Path, file: str, thoughts: Any, says: str) -> None:
    """Before anything is asked, with the remedy."""
    with pytest.raises(UsageError, match=says):
        DecisionLog(tmp_path / file, thoughts=thoughts)
