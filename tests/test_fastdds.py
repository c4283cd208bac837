"""Another vendor's DDS: a C++ peer on Fast DDS asks, and reads what is decided."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

pytest.importorskip("cyclonedds", reason="cyclonedds has no wheel for this machine: build it, docs/node.md says how")

from anytime.node.dds.types import type_hash
from anytime.node.messages import Question
from anytime.node.node import Node
from anytime.node.stamps import ns_of
from anytime.scheduler.clock import system_ns
from bench.node.foreign import Foreign, ForeignError, built
from tests.dds import Open, decision, domain, eventually, node, opened  # noqa: F401
from tests.interop.parts import absent

QUESTION_HASH = type_hash("anytime_msgs/msg/Question")
MakeForeign = Callable[..., Foreign]


@pytest.fixture(scope="module")
def program() -> None:
    """The peer is compiled."""
    try:
        built()
    except ForeignError as error:
        absent(str(error))


@pytest.fixture
def foreign(program: None, domain: int) -> Iterator[MakeForeign]:
    """``foreign(type_hash=...)``: a peer that asks /anytime."""
    made: list[Foreign] = []

    def make(**given: str) -> Foreign:
        made.append(Foreign(domain, "/anytime", **given))
        made[-1].matched(0)
        return made[-1]

    yield make
    for peer in made:
        peer.close()


def decisions(peer: Foreign, name: str) -> list[dict[str, Any]]:
    """What it heard of decisions on the question of this name."""
    peer.listen_until(time.monotonic() + 0.02)
    return [said for said in peer.heard if said.get("decision") == name]


def again(act: Callable[[], None], holds: Callable[[], object]) -> None:
    """Do it until it shows: what is sent before both sides know each other is lost."""

    def acted() -> bool:
        act()
        return bool(holds())

    eventually(acted)


def asked(peer: Foreign, name: str) -> dict[str, Any]:
    """Ask until there is a decision; it."""
    again(lambda: peer.ask(0, name, 0.0, "what"), lambda: decisions(peer, name))
    return decisions(peer, name)[0]


def test_a_question_comes_as_it_was_asked(opened: Open, foreign: MakeForeign) -> None:
    """Every field, from Fast CDR."""
    _, host = opened()
    peer = foreign(type_hash=QUESTION_HASH)
    before_ns = system_ns()
    text = "lane 2 of 4 at 27 m/s\nlane 2 ahead 34 m 21 m/s, né"
    again(lambda: peer.ask(0, "q1", 0.25, text), lambda: host.inputs)
    got = host.inputs[0]
    assert isinstance(got, Question)
    assert (got.request_id, got.budget_s, got.choices, got.trace_id) == ("q1", 0.25, [], "")
    assert got.text == text
    assert before_ns <= ns_of(got.header.stamp) <= system_ns()
    assert host.notes == []


def test_a_decision_comes_as_it_was_published(opened: Open, foreign: MakeForeign) -> None:
    """Every field, into Fast CDR."""
    dds, _ = opened()
    peer, sent = foreign(), decision(text="rechts ü", reason='a "b"\\')
    again(lambda: dds.publish(sent), lambda: decisions(peer, sent.request_id))
    got = decisions(peer, sent.request_id)[0]
    assert got["stamp_ns"] == ns_of(sent.header.stamp)
    assert got["input_stamp_ns"] == ns_of(sent.input_stamp)
    assert got["frame_id"] == sent.header.frame_id
    assert got["decision"] == sent.request_id
    for name in sent.__struct_fields__:
        if name not in ("header", "input_stamp", "request_id"):
            assert got[name] == getattr(sent, name), name


def test_the_node_decides_for_it(node: Node, foreign: MakeForeign) -> None:
    """There and back, more than once."""
    peer = foreign(type_hash=QUESTION_HASH)
    for name in ("q1", "q2"):
        got = asked(peer, name)
        assert (got["answer"], got["source"]) == ("right", "thought")


def test_malformed_bytes_are_told_and_the_node_keeps_deciding(node: Node, foreign: MakeForeign) -> None:
    """Nothing but a header; a string longer than the message; text that is no UTF-8."""
    peer = foreign()
    head = bytes((0, 1, 0, 0))
    stamp = bytes(8)
    empty = bytes((1, 0, 0, 0, 0, 0, 0, 0))
    latin = bytes((2, 0, 0, 0, 0xFF, 0, 0, 0))
    asked(peer, "before")
    for payload in (head, head + stamp + b"\xff\xff\xff\x7f", head + stamp + empty + empty + empty + latin + bytes(20)):
        peer.raw(0, payload)
    asked(peer, "behind")
    eventually(lambda: node.counts.totals().counts.get("malformed", 0) >= 3)
    totals = node.counts.totals()
    assert "/anytime/question" in totals.reasons["malformed"]


def test_its_wrong_type_hash_is_refused(node: Node, foreign: MakeForeign) -> None:
    """It gets no decision, and diagnostics say why; one of the right type does."""
    wrong = foreign(type_hash="RIHS01_" + 64 * "0")
    again(lambda: wrong.ask(0, "wrong", 0.0, "what"), lambda: node.counts.totals().counts.get("wrong_type", 0) >= 2)
    asked(foreign(type_hash=QUESTION_HASH), "right")
    assert "RIHS01_000" in node.counts.totals().reasons["wrong_type"]
    assert decisions(wrong, "wrong") == []


def test_a_node_that_comes_back_is_found(opened: Open, foreign: MakeForeign) -> None:
    """And heard."""
    dds, host = opened()
    peer = foreign()
    dds.close()
    dds.open(host)
    again(lambda: peer.ask(0, "again", 0.0, "what"), lambda: host.inputs)
    assert {q.request_id for q in host.inputs if isinstance(q, Question)} == {"again"}
