"""Holding the replay to real runs on the wall clock."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from anytime import Answer, Reasoner
from anytime.calibrate.record import Recording
from anytime.calibrate.replay import Replayer
from anytime.runtime.policies.auto import Auto
from anytime.runtime.policies.budget import Fixed
from anytime.runtime.policies.policy import Policy
from anytime.runtime.questions import Question
from bench.anytime.sets import Set
from bench.datasets.graders import right
from bench.report import Figure, progress

MOST_POINTS, MOST_TIME = 2.0, 0.03
_WHOLE = Fixed(100_000)
_ENDLESS_NS = 60 * 10**9
_TURN = 20


@dataclass(frozen=True, slots=True)
class Check:
    """One budget: replayed and live, accuracy in percent and mean time in ms."""

    domain: str
    budget_ms: float
    replayed: float
    live: float
    replayed_ms: float
    live_ms: float


def validate(
    reasoner: Reasoner, replayer: Replayer, sets: Sequence[Set], budgets: dict[str, list[int]], count: int
) -> list[Check]:
    """The same questions at a low, a middle and the highest budget, replayed and live.

    In turns with them every question is thought about to its end, live: that says at what pace the machine runs in
    these very minutes, which no profile of other minutes can. The turns are of several questions, so that none is asked
    again while its prompt is still in the prefix cache.
    """
    checks = []
    with progress() as bar:
        task = bar.add_task("live", total=count * len(sets))
        for one in sets:
            chosen = range(0, len(one.questions), max(1, len(one.questions) // count))[:count]
            every = budgets[one.domain]
            turns = []
            for start in range(0, len(chosen), _TURN):
                few = [(one.questions[i], one.recordings[i]) for i in chosen[start : start + _TURN]]
                turns.append(_turn(reasoner, few, (every[2], every[len(every) // 2], every[-1])))
                bar.update(task, advance=len(few), refresh=True)
            around_ns = _around(replayer, turns)
            paced = [_paced(replayer, turn, around_ns) for turn in turns]
            checks += [_check(one.domain, budget_ns, turns, paced) for budget_ns in turns[0].answers]
    return checks


@dataclass(frozen=True, slots=True)
class _Turn:
    """Some questions, asked live with no deadline, and at every budget."""

    asked: list[tuple[Question, Recording]]
    whole: list[Answer]
    answers: dict[int, list[Answer]]


def _turn(reasoner: Reasoner, few: list[tuple[Question, Recording]], budgets: Sequence[int]) -> _Turn:
    whole = [_asked(reasoner, question, _ENDLESS_NS, _WHOLE) for question, _ in few]
    answers = {ns: [_asked(reasoner, question, ns, Auto()) for question, _ in few] for ns in budgets}
    return _Turn(few, whole, answers)


def _asked(reasoner: Reasoner, question: Question, budget_ns: int, policy: Policy) -> Answer:
    asked = question.format()
    assert asked is not None
    return reasoner.answer(question.question, budget=budget_ns / 1e9, answer=asked, policy=policy)


def _around(replayer: Replayer, turns: Sequence[_Turn]) -> float:
    """What handing over and waking up take, ns: where the line through predicted and measured times begins."""
    predicted = [ns for turn in turns for ns in _predicted(replayer, turn)]
    measured = [1e9 * answer.elapsed_s for turn in turns for answer in turn.whole]
    around, _ = np.polynomial.polynomial.polyfit(predicted, measured, 1)
    return max(0.0, float(around))


def _paced(replayer: Replayer, turn: _Turn, around_ns: float) -> Replayer:
    """The replayer at the pace of a turn's whole thoughts."""
    measured = sum(1e9 * answer.elapsed_s - around_ns for answer in turn.whole)
    half = round(around_ns / 2)
    pace = measured / sum(_predicted(replayer, turn))
    return dataclasses.replace(replayer, pace=pace, handover_ns=half, wake_ns=half)


def _predicted(replayer: Replayer, turn: _Turn) -> list[int]:
    """Time of the runs of whole thoughts alone, by the profile."""
    bare = dataclasses.replace(replayer, pace=1.0, handover_ns=0, wake_ns=0)
    return [bare.replay(recording, _WHOLE, _ENDLESS_NS).elapsed_ns for _, recording in turn.asked]


def _check(domain: str, budget_ns: int, turns: Sequence[_Turn], paced: Sequence[Replayer]) -> Check:
    replayed = [
        replayer.replay(recording, Auto(), budget_ns)
        for turn, replayer in zip(turns, paced, strict=True)
        for _, recording in turn.asked
    ]
    live = [
        (right(question, answer.text), 1e3 * answer.elapsed_s)
        for turn in turns
        for (question, _), answer in zip(turn.asked, turn.answers[budget_ns], strict=True)
    ]
    return Check(
        domain,
        budget_ns / 1e6,
        100 * statistics.fmean(outcome.right for outcome in replayed),
        100 * statistics.fmean(correct for correct, _ in live),
        statistics.fmean(outcome.elapsed_ns for outcome in replayed) / 1e6,
        statistics.fmean(ms for _, ms in live),
    )


def figures(checks: Sequence[Check]) -> list[Figure]:
    points = max(abs(one.replayed - one.live) for one in checks)
    time = max(abs(one.replayed_ms / one.live_ms - 1.0) for one in checks)
    accuracy, mean_time = "replay and live runs differ in accuracy", "replay and live runs differ in mean time"
    return [
        Figure(f"{accuracy}, largest, points", points, f"≤ {MOST_POINTS}", points <= MOST_POINTS),
        Figure(f"{mean_time}, largest, %", 100 * time, f"≤ {100 * MOST_TIME:.0f}", time <= MOST_TIME),
    ]


def notes(checks: Sequence[Check]) -> list[str]:
    return [
        f"{one.domain} at {one.budget_ms:.1f} ms: replayed {one.replayed:.1f} % in {one.replayed_ms:.2f} ms, "
        f"live {one.live:.1f} % in {one.live_ms:.2f} ms"
        for one in checks
    ]
