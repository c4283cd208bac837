"""A record as one page of HTML that needs nothing else: what was decided, when, and how it came about."""

from __future__ import annotations

import itertools
import math
from collections import defaultdict, deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from anytime.errors import RecordError
from anytime.node.bag import Bag
from anytime.node.messages import OK, STATUS, Decision, DiagnosticArray, Question, Scene, Session, Steps, Trace
from anytime.node.stamps import ns_of
from anytime.scheduler.clock import NS_PER_MS, NS_PER_S

_PAGE = Path(__file__).with_name("report.html")
_WORDS = {number: word for word, number in STATUS.items()}


def report(bag: Bag) -> str:
    """The page.

    Raises:
        RecordError: there is no decision in the record.
    """
    decisions = sorted(_decisions(bag), key=lambda decision: decision["at_ns"])
    if not decisions:
        raise RecordError(f"there is no decision in the record {bag.file}: record one that has Trace or Decision")
    first_ns = decisions[0]["at_ns"]
    for decision in decisions:
        decision["t"] = (decision.pop("at_ns") - first_ns) / NS_PER_S
    session = next(iter(bag.all(Session)), None)
    contents = {
        "file": bag.file.name,
        "node": session.node if session else "",
        "version": session.version if session else "",
        "bundle": decisions[0]["bundle"],
        "begun_ns": first_ns,
        "whole": bag.whole,
        "decisions": decisions,
        "troubles": list(_troubles(bag, first_ns)),
    }
    data = msgspec.json.encode(contents).decode().replace("<", "\\u003c")
    return _PAGE.read_text(encoding="utf-8").replace("{{contents}}", data)


def _decisions(bag: Bag) -> Iterator[dict[str, Any]]:
    """Of every trace; where only a Decision was recorded, of that."""
    scenes = {(scene.header.stamp, scene.trace_id): scene for scene in bag.all(Scene)}
    questions = {(question.header.stamp, question.trace_id): question.text for question in bag.all(Question)}
    steps: dict[str, deque[Steps]] = defaultdict(deque)
    for taken in sorted(bag.all(Steps), key=lambda one: one.position):
        steps[taken.request_id].append(taken)
    traced = set()
    for trace in bag.all(Trace):
        traced.add((trace.request_id, trace.input_stamp))
        key = (trace.input_stamp, trace.trace_id)
        scene = None if questions.get(key) == trace.prompt else scenes.get(key)
        yield {
            **_told(trace, trace.stopped),
            "published": trace.published,
            "tokens": trace.tokens_thought + trace.tokens_discarded,
            "planned": trace.tokens_planned,
            "prompt": trace.prompt,
            "thought": trace.thought,
            "scene": scene,
            "answers": [
                {"ms": 1e3 * seconds, "text": text, "confidence": confidence}
                for seconds, text, confidence in zip(
                    trace.answers_s, trace.answers, trace.answers_confidence, strict=True
                )
            ],
            "queued_ms": 1e3 * trace.queued_s,
            "actions": _actions(steps[trace.request_id].popleft(), trace) if steps[trace.request_id] else [],
        }
    for decision in bag.all(Decision):
        if (decision.request_id, decision.input_stamp) not in traced:
            yield {
                **_told(decision, _WORDS.get(decision.status, "thinking")),
                "published": not decision.late,
                "tokens": decision.tokens_used,
                "planned": decision.tokens_planned,
                "prompt": "",
                "thought": "",
                "scene": scenes.get((decision.input_stamp, decision.trace_id)),
                "answers": [],
                "queued_ms": 0.0,
                "actions": [],
            }


def _told(message: Trace | Decision, stopped: str) -> dict[str, Any]:
    """What both messages say."""
    return {
        "at_ns": ns_of(message.header.stamp),
        "id": message.request_id,
        "bundle": message.bundle_id,
        "answer": message.answer,
        "stopped": stopped,
        "source": message.source,
        "confidence": None if math.isnan(message.confidence) else message.confidence,
        "reason": message.reason,
        "budget_ms": 1e3 * message.budget_s,
        "slack_ms": 1e3 * message.slack_s,
    }


def _actions(steps: Steps, trace: Trace) -> list[tuple[float, float, int, int]]:
    """Of each action of the engine: when it began behind the input's stamp, how long it took, ms; kind and tokens."""
    waited = [0, *itertools.accumulate(steps.waits_ns)]
    worked = [0, *itertools.accumulate(steps.actions_took_ns)]
    return [
        (1e3 * trace.queued_s + (waited[reading] + worked[i]) / NS_PER_MS, took_ns / NS_PER_MS, kind, tokens)
        for i, (reading, took_ns, kind, tokens) in enumerate(
            zip(steps.actions_reading, steps.actions_took_ns, steps.actions, steps.actions_tokens, strict=True)
        )
    ]


def _troubles(bag: Bag, first_ns: int) -> Iterator[dict[str, Any]]:
    """Warnings and errors of the diagnostics, each once until its level changes."""
    said: dict[str, int] = {}
    for array in bag.all(DiagnosticArray):
        for status in array.status:
            if status.level not in (OK, said.get(status.name)):
                seconds = (ns_of(array.header.stamp) - first_ns) / NS_PER_S
                yield {"t": seconds, "level": status.level, "name": status.name, "message": status.message}
            said[status.name] = status.level
