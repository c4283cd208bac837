"""Holding the replay to real runs on the wall clock."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from anytime import Answer, Reasoner
from anytime.calibrate.record import Recording
from anytime.calibrate.replay import Replayer
from anytime.runtime.policies.auto import Auto
from anytime.runtime.policies.budget import Fixed
from anytime.runtime.policies.policy import Policy
from anytime.runtime.policies.until import UntilDeadline
from anytime.runtime.questions import Question
from bench.anytime.sets import Set
from bench.contenders import asked_format
from bench.datasets.graders import right
from bench.report import Figure, progress
from bench.thoughts import some

MOST_POINTS, MOST_TIME = 2.0, 0.03
_WHOLE = UntilDeadline()
_ENDLESS_NS = 60 * 10**9
_TURN, _APART = 10, 2


@dataclass(frozen=True, slots=True)
class Pair:
    """One question, replayed and live: milliseconds, whether it was right, and why thinking ended.

    ``factor``: what the runtime multiplied its predictions by when it was asked, and its replay from then on.
    """

    replayed_ms: float
    live_ms: float
    replayed_right: bool
    live_right: bool
    replayed_stopped: str
    live_stopped: str
    factor: float


@dataclass(frozen=True, slots=True)
class Check:
    """One budget: accuracy in percent and mean time in ms, replayed and live."""

    domain: str
    budget_ms: float
    pairs: list[Pair]

    @property
    def replayed(self) -> float:
        return 100 * statistics.fmean(pair.replayed_right for pair in self.pairs)

    @property
    def live(self) -> float:
        return 100 * statistics.fmean(pair.live_right for pair in self.pairs)

    @property
    def replayed_ms(self) -> float:
        return statistics.fmean(pair.replayed_ms for pair in self.pairs)

    @property
    def live_ms(self) -> float:
        return statistics.fmean(pair.live_ms for pair in self.pairs)


def validate(
    reasoner: Reasoner, replayer: Replayer, sets: Sequence[Set], budgets: dict[str, list[int]], count: int
) -> list[Check]:
    """The same questions at a low, a middle and the highest budget, replayed and live.

    In between every question is thought about to its end, live: that says at what pace the machine runs in these very
    moments, which no profile of other ones can. Several questions are asked in turns, so that none is asked again while
    its prompt is still in the prefix cache.
    """
    checks = []
    with progress() as bar:
        task = bar.add_task("live", total=count * len(sets))
        for one in sets:
            chosen = some(list(zip(one.questions, one.recordings, strict=True)), count)
            every = budgets[one.domain]
            turns = []
            for start in range(0, len(chosen), _TURN):
                few = chosen[start : start + _TURN]
                turns.append(_turn(reasoner, few, (every[2], every[len(every) // 2], every[-1])))
                bar.update(task, advance=len(few), refresh=True)
            replayers = [paced(replayer, turn) for turn in turns]
            checks += [_check(one.domain, budget_ns, turns, replayers) for budget_ns in turns[0].answers]
    return checks


@dataclass(frozen=True, slots=True)
class Asked:
    """An answer, when each of those before it and itself was found, and the runtime's factor when it was asked."""

    answer: Answer
    found_ns: list[int]
    factor: float


@dataclass(frozen=True, slots=True)
class Turn:
    """Some questions, asked live with no deadline, and at every budget."""

    questions: list[tuple[Question, Recording]]
    whole: list[Asked]
    answers: dict[int, list[Asked]]


def _turn(reasoner: Reasoner, few: list[tuple[Question, Recording]], budgets: Sequence[int]) -> Turn:
    """The kinds of request take turns, each ``_APART`` questions ahead of the one before."""
    for question, _ in few:
        reasoner.prepare(asked_format(question))
    policies: dict[int, Policy] = {_ENDLESS_NS: _WHOLE, **dict.fromkeys(budgets, Auto())}
    asked: dict[int, dict[int, Asked]] = {budget_ns: {} for budget_ns in policies}
    for i in range(len(few)):
        for kind, (budget_ns, policy) in enumerate(policies.items()):
            k = (i + kind * _APART) % len(few)
            asked[budget_ns][k] = _asked(reasoner, few[k][0], budget_ns, policy)
    whole, *answers = ([by_place[k] for k in range(len(few))] for by_place in asked.values())
    return Turn(few, whole, dict(zip(budgets, answers, strict=True)))


def _asked(reasoner: Reasoner, question: Question, budget_ns: int, policy: Policy) -> Asked:
    machine, found_ns = reasoner._machine, list[int]()

    def stamp(text: str) -> bool:
        found_ns.append(machine.clock.now())
        return True

    factor, asked = machine.pace.factor, asked_format(question)
    answer = reasoner.answer(question.question, budget=budget_ns / 1e9, answer=asked, accept=stamp, policy=policy)
    return Asked(answer, found_ns, factor)


def paced(replayer: Replayer, turn: Turn) -> Replayer:
    """The replayer at the pace of a turn's whole thoughts.

    Between the instant answer and the last one a thought takes its runs alone. Of what comes before, the runs
    themselves are taken off, and the turn's mean is what the replays take; the same of what comes behind. Means,
    because mean times are compared: late wake-ups count, too.
    """
    bare = dataclasses.replace(replayer, pace=1.0, handover_ns=0, wake_ns=0)

    def predicted_ns(policy: Policy) -> list[int]:
        return [bare.replay(recording, policy, _ENDLESS_NS).elapsed_ns for _, recording in turn.questions]

    instant_ns = predicted_ns(Fixed(0))
    thinking_ns = sum(predicted_ns(_WHOLE)) - sum(instant_ns)
    pace = sum(one.found_ns[-1] - one.found_ns[0] for one in turn.whole) / thinking_ns
    before = [
        one.found_ns[0] - one.answer.received_ns - pace * ns for one, ns in zip(turn.whole, instant_ns, strict=True)
    ]
    behind = [one.answer.delivered_ns - one.found_ns[-1] for one in turn.whole]
    handover_ns, wake_ns = round(max(0.0, statistics.fmean(before))), round(statistics.fmean(behind))
    return dataclasses.replace(replayer, pace=pace, handover_ns=handover_ns, wake_ns=wake_ns)


def _check(domain: str, budget_ns: int, turns: Sequence[Turn], replayers: Sequence[Replayer]) -> Check:
    return Check(
        domain,
        budget_ns / 1e6,
        [
            _pair(dataclasses.replace(replayer, factor=asked.factor), recording, question, budget_ns, asked)
            for turn, replayer in zip(turns, replayers, strict=True)
            for (question, recording), asked in zip(turn.questions, turn.answers[budget_ns], strict=True)
        ],
    )


def _pair(replayer: Replayer, recording: Recording, question: Question, budget_ns: int, asked: Asked) -> Pair:
    outcome, answer = replayer.replay(recording, Auto(), budget_ns), asked.answer
    return Pair(
        outcome.elapsed_ns / 1e6,
        (answer.delivered_ns - answer.received_ns) / 1e6,
        outcome.right,
        right(question, answer.text),
        outcome.stopped,
        answer.stopped,
        asked.factor,
    )


def figures(checks: Sequence[Check]) -> list[Figure]:
    points = max(abs(one.replayed - one.live) for one in checks)
    time = max(abs(one.replayed_ms / one.live_ms - 1.0) for one in checks)
    accuracy, mean_time = "replay and live runs differ in accuracy", "replay and live runs differ in mean time"
    return [
        Figure(f"{accuracy}, largest, points", points, f"≤ {MOST_POINTS}", points <= MOST_POINTS),
        Figure(f"{mean_time}, largest, %", 100 * time, f"≤ {100 * MOST_TIME:.0f}", time <= MOST_TIME),
    ]


def samples(checks: Sequence[Check]) -> list[dict[str, object]]:
    """The pairs of each budget, column by column."""
    return [
        {
            "domain": one.domain,
            "budget_ms": one.budget_ms,
            **{name: [getattr(pair, name) for pair in one.pairs] for name in Pair.__slots__},
        }
        for one in checks
    ]


def notes(checks: Sequence[Check]) -> list[str]:
    return [
        f"{one.domain} at {one.budget_ms:.1f} ms: replayed {one.replayed:.1f} % in {one.replayed_ms:.2f} ms, "
        f"live {one.live:.1f} % in {one.live_ms:.2f} ms"
        for one in checks
    ]
