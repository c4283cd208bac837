"""Policies: what each decides, and that none can be late or return what the caller refused."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
import pytest

from anytime.errors import UsageError
from anytime.runtime.bank import Candidate
from anytime.runtime.engine import Burst, FloatArray, Row
from anytime.runtime.forecast import Forecast
from anytime.runtime.policies.adaptive import ConfidenceExit, Consensus, ValueOfComputation
from anytime.runtime.policies.auto import Auto
from anytime.runtime.policies.budget import BudgetForcing, Difficulty, Fixed, PredictedLength, SplitBudget
from anytime.runtime.policies.meta import ACTIONS, CONTINUE, RESTART, STOP, MetaReasoner
from anytime.runtime.policies.named import CALIBRATED, POLICIES, policy_named
from anytime.runtime.policies.parallel import (
    BestOf,
    NoThinking,
    SelfConsistency,
    ShortestFirst,
    WeightedVote,
    WidthDepth,
    stays_ahead,
)
from anytime.runtime.policies.policy import Plan, Policy, View
from anytime.runtime.policies.until import UntilDeadline
from anytime.runtime.policies.vote import majority, weighted
from anytime.runtime.prompt import Codec
from anytime.runtime.sampling import Sampling
from anytime.scheduler.profile import LatencyProfile
from anytime.testing import ScriptedEngine
from tests.conftest import LONG, MS, MakeReasoner, thinker, turns_at
from tests.doubles import LEFT_OR_RIGHT, decode_alone, flat_forecast

EVERY: list[Policy] = [
    Auto(),
    Auto(token_cost=1e-4),
    UntilDeadline(),
    Fixed(0),
    Fixed(12),
    BudgetForcing(text="wab"),
    SplitBudget(),
    PredictedLength(),
    Difficulty(),
    ConfidenceExit(),
    Consensus(),
    ValueOfComputation(),
    NoThinking(),
    SelfConsistency(),
    SelfConsistency(early="window"),
    SelfConsistency(early="posterior"),
    ShortestFirst(),
    BestOf(),
    WeightedVote(),
    WidthDepth(),
    MetaReasoner(),
]


@pytest.mark.parametrize("policy", EVERY, ids=repr)
@pytest.mark.parametrize("budget_ms", [2, 8, 30, 100])
def test_no_policy_is_late_or_without_an_answer(
    policy: Policy, budget_ms: int, codec: Codec, profile: LatencyProfile
) -> None:
    """Whatever a policy wants, above the floor there is an answer of the model, and the loop ends in time."""
    # Drawn tokens wander, so lines end at different times or not at all.
    job, bank, _, clock = decode_alone(
        turns_at(10), budget_ms * MS, codec, profile, policy=policy, forecast=flat_forecast(0.6, 20), max_rows=4
    )
    assert bank.best() is not None
    assert clock.now() <= budget_ms * MS
    assert job.stopped in {"complete", "early", "deadline"}
    assert job.faults == 0


def test_a_fixed_budget_is_kept_to_the_token(codec: Codec, profile: LatencyProfile) -> None:
    """The thought has exactly that many tokens, and no probe on the way."""
    for tokens in (1, 7, 8, 9, 40):
        job, bank, _, _ = decode_alone(turns_at(5), 500 * MS, codec, profile, policy=Fixed(tokens))
        assert [c.source for c in bank.offered] == ["instant", "thought"]
        assert len(job.thought) == bank.offered[-1].thought_tokens == tokens
        assert job.stopped == "early"


def test_no_thought_at_all_is_the_instant_answer(codec: Codec, profile: LatencyProfile) -> None:
    """A fixed budget of nothing runs nothing but the prompt."""
    job, bank, engine, _ = decode_alone(turns_at(5), 500 * MS, codec, profile, policy=Fixed(0))
    assert [c.source for c in bank.offered] == ["instant"]
    assert job.stopped == "early"
    assert len(engine.runs) == 1


def test_wait_takes_the_end_of_a_thought_back(codec: Codec, profile: LatencyProfile) -> None:
    """The thought goes on behind the word, as often as was asked for, and the last end counts."""
    ends = thinker("abcde", lambda n: "left")
    job, bank, _, _ = decode_alone(ends, 500 * MS, codec, profile, policy=BudgetForcing(2, "xy"))
    assert codec.decode(job.thought) == "abcdexyxy"
    assert job.stopped == "complete"
    assert [c.thought_tokens for c in bank.offered] == [0, 5, 7, 9]


def test_wait_without_time_for_it_ends_the_thought(codec: Codec, profile: LatencyProfile) -> None:
    """Where the word and a close do not fit, the thought stays ended."""
    ends = thinker("abcde", lambda n: "left")
    job, bank, _, clock = decode_alone(ends, 9 * MS, codec, profile, policy=BudgetForcing(1, "xyxyxyxyxy"))
    assert codec.decode(job.thought) == "abcde"
    assert bank.offered[-1].complete
    assert clock.now() <= 9 * MS


def test_confidence_ends_a_thought(codec: Codec, profile: LatencyProfile) -> None:
    """The scripted answers have a likelihood of 0.993: under one threshold it thinks to the end, over another not."""
    stops, _, _, _ = decode_alone(turns_at(5), 200 * MS, codec, profile, policy=ConfidenceExit(0.95))
    goes_on, _, _, _ = decode_alone(turns_at(5), 200 * MS, codec, profile, policy=ConfidenceExit(0.999))
    assert stops.stopped == "early"
    assert len(stops.thought) < 20
    assert len(goes_on.thought) > 100


def test_consensus_counts_probes_that_agree(codec: Codec, profile: LatencyProfile) -> None:
    """It stops at the third equal answer in a row, the instant answer among them where it was the same."""
    _, bank, _, _ = decode_alone(thinker(LONG, lambda n: "left"), 300 * MS, codec, profile, policy=Consensus(3))
    assert len(bank.offered) == 3
    _, bank, _, _ = decode_alone(turns_at(1), 300 * MS, codec, profile, policy=Consensus(3))
    assert [c.text for c in bank.offered] == ["left", "right", "right", "right"]


def test_contentment_needs_an_accepted_answer(make_reasoner: MakeReasoner) -> None:
    """A policy that would stop at once thinks on as long as the caller refuses what it found."""
    reasoner, *_ = make_reasoner(turns_at(40))
    answer = reasoner.answer(
        "what",
        budget=0.5,
        answer=LEFT_OR_RIGHT,
        policy=ConfidenceExit(0.5),
        accept=lambda text: text == "right",
    )
    assert answer.text == "right"
    assert answer.tokens.thought >= 40


@pytest.mark.parametrize("rows", [1, 2, 3])
def test_a_plan_is_no_wider_than_the_engine(rows: int, codec: Codec, profile: LatencyProfile) -> None:
    """Where there are fewer rows than a policy would like, it gets as many as there are."""

    class Wide(WeightedVote):
        def begin(self, view: View) -> Plan:
            assert view.rows == rows
            return Plan(8, Sampling(0.6), limit=5, probes=False)

    _, bank, _, _ = decode_alone(turns_at(5), 300 * MS, codec, profile, policy=Wide(), max_rows=rows)
    assert len({c.line for c in bank.offered if c.source == "thought"}) == rows


def test_wait_goes_on_though_every_answer_was_refused(codec: Codec, profile: LatencyProfile) -> None:
    """What the caller refuses is no answer, and no reason to stop: the thought is lengthened all the same."""
    ends = thinker("abcde", lambda n: "left")
    job, bank, _, _ = decode_alone(
        ends, 500 * MS, codec, profile, policy=BudgetForcing(1, "xy"), accept=lambda text: False
    )
    assert bank.best() is None
    assert codec.decode(job.thought) == "abcdexy"


class _Broken(ScriptedEngine):
    """Gives logits that are no numbers from one run on."""

    def __init__(self, *args: Any, break_at: int = 10**9, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._break_at = break_at

    def run(self, rows: Sequence[Row], generation: int) -> list[FloatArray]:
        logits = super().run(rows, generation)
        if len(self.runs) >= self._break_at:
            for row in logits:
                row[:] = np.nan
        return logits

    def extend(self, bursts: Sequence[Burst], count: int, generation: int) -> list[list[int]]:
        if len(self.runs) + 1 >= self._break_at:
            super().run([Row(burst.seq, [burst.token]) for burst in bursts], generation)
            return [[-1] for _ in bursts]
        return super().extend(bursts, 1, generation)


@pytest.mark.parametrize("break_at", [1, 2, 6, 12])
def test_logits_that_are_no_numbers_drop_the_line(break_at: int, codec: Codec, profile: LatencyProfile) -> None:
    """The best answer before it is returned, the fault is counted and said; nothing is raised."""
    job, bank, _, _ = decode_alone(
        thinker(LONG, lambda n: "left"), 100 * MS, codec, profile, kind=_Broken, break_at=break_at
    )
    assert job.faults >= 1
    assert job.stopped == "error"
    assert "no numbers" in job.reason
    assert (bank.best() is None) == (break_at == 1)


def candidate(text: str, confidence: float, line: int, complete: bool = True) -> Candidate:
    return Candidate(text, confidence, "thought", 5, 1, confidence, complete, 0, line)


def test_the_majority_wins_and_the_surest_speaks_for_it() -> None:
    """Two lines against a surer one; of a line only its last answer counts."""
    found = [candidate("b", 0.6, 0), candidate("a", 0.5, 0), candidate("a", 0.7, 1), candidate("b", 0.99, 2)]
    assert majority(found) == found[2]


def test_odds_outweigh_numbers() -> None:
    """One sure line beats two that barely lean the other way; together they say how sure they are."""
    found = [candidate("a", 0.55, 0), candidate("a", 0.55, 1), candidate("b", 0.99, 2)]
    best = weighted(found)
    assert best.text == "b"
    assert 0.5 < best.confidence < 0.99
    assert weighted(found[2:]) == found[2]


@pytest.mark.parametrize(("first", "second", "expected"), [(1, 0, 0.75), (3, 0, 0.9375), (2, 2, 0.5), (5, 1, 0.9375)])
def test_staying_ahead_is_the_beta_distribution(first: int, second: int, expected: float) -> None:
    """P(x > 1/2) for x ~ Beta(first + 1, second + 1), by its closed form."""
    assert stays_ahead(first, second) == pytest.approx(expected)


def test_the_value_of_computation_stops_where_nothing_is_to_be_gained(codec: Codec, profile: LatencyProfile) -> None:
    """A forecast that later answers are no better ends the thought at once; one that they are goes on."""
    flat = flat_forecast(0.6, 100)
    job, _, _, _ = decode_alone(turns_at(5), 300 * MS, codec, profile, policy=ValueOfComputation(1e-6), forecast=flat)
    assert (job.stopped, len(job.thought)) == ("early", 0)
    job, _, _, _ = decode_alone(
        turns_at(5), 300 * MS, codec, profile, policy=ValueOfComputation(1e-6), forecast=flat_forecast(0.6, 100, 0.9)
    )
    assert len(job.thought) > 100


def test_without_probes_the_engine_takes_steps_in_a_row(codec: Codec, profile: LatencyProfile) -> None:
    """A thought that is not probed goes on eight tokens at a time, however long ago the last answer was."""
    taken: list[int] = []

    class Counting(ScriptedEngine):
        def extend(self, bursts: Sequence[Burst], count: int, generation: int) -> list[list[int]]:
            taken.append(count)
            return super().extend(bursts, count, generation)

    script = thinker("a" * 160, lambda n: "left")
    decode_alone(script, 500 * MS, codec, profile, policy=Fixed(160), kind=Counting)
    assert taken == [8] * 20


def test_auto_probes_only_where_time_is_ample(codec: Codec, profile: LatencyProfile) -> None:
    """With less time than the predicted thought takes there is no probe; with more there are."""
    forecast = flat_forecast(0.6, 60, later=0.9)
    _, short, _, _ = decode_alone(turns_at(5), 50 * MS, codec, profile, policy=Auto(), forecast=forecast)
    _, ample, _, _ = decode_alone(turns_at(5), 150 * MS, codec, profile, policy=Auto(), forecast=forecast)
    assert "probe" not in [c.source for c in short.offered]
    assert "probe" in [c.source for c in ample.offered]


def test_auto_takes_no_thought_that_promises_nothing(codec: Codec, profile: LatencyProfile) -> None:
    """Where more thought is forecast to be right no more often, the first answer is returned at once."""
    forecast = flat_forecast(0.9, 60)
    job, bank, _, clock = decode_alone(turns_at(5), 150 * MS, codec, profile, policy=Auto(), forecast=forecast)
    assert (job.stopped, [c.source for c in bank.offered]) == ("early", ["instant"])
    assert clock.now() < 10 * MS


@pytest.mark.parametrize(("action", "complete"), [(CONTINUE, 1), (STOP, 0), (RESTART, 2)])
def test_the_meta_reasoner_does_what_pays_most(
    action: str, complete: int, codec: Codec, profile: LatencyProfile
) -> None:
    """Going on ends in one whole thought, concluding in none, and restarting draws line after line."""
    known = flat_forecast(0.6, 20).calibration
    control = {name: (float(name == action), *[0.0] * 11) for name in ACTIONS}
    forecast = Forecast(msgspec.structs.replace(known, control=control))
    script = thinker("abcd", lambda n: "left")
    job, bank, _, clock = decode_alone(script, 60 * MS, codec, profile, policy=MetaReasoner(), forecast=forecast)
    assert clock.now() <= 60 * MS
    assert min(2, sum(c.complete for c in bank.offered)) == complete
    assert job.stopped == {CONTINUE: "complete", STOP: "early", RESTART: "deadline"}[action]


def test_the_meta_reasoner_goes_no_further_than_it_was_taught(codec: Codec, profile: LatencyProfile) -> None:
    """With time to spare, a bandit that restarts whenever it may ends at four whole thoughts' tokens."""
    known = flat_forecast(0.6, 20).calibration
    control = {name: (float(name == RESTART), *[0.0] * 11) for name in ACTIONS}
    forecast = Forecast(msgspec.structs.replace(known, control=control))
    script = thinker("abcd", lambda n: "left")
    job, _, _, clock = decode_alone(script, 5_000 * MS, codec, profile, policy=MetaReasoner(), forecast=forecast)
    assert job.stopped == "complete"
    assert 80 <= job.thought_tokens + job.answer_tokens < 80 + 20
    assert clock.now() < 500 * MS


@pytest.mark.parametrize("name", POLICIES)
def test_every_policy_has_its_name(name: str) -> None:
    """Each can be made by name; ``auto`` without a calibration thinks until the deadline."""
    policy = policy_named(name, True, [""])
    assert repr(policy)
    assert isinstance(policy_named("auto", False, [""]), UntilDeadline)


def test_settings_are_of_their_kind() -> None:
    """Numbers become what the setting is."""
    assert policy_named("deer:threshold=0.9", False, [""]) == ConfidenceExit(0.9)
    assert policy_named("short-first:m=2,k=8", False, [""]) == ShortestFirst(2, 8)
    assert policy_named("self-consistency:early=window", False, [""]) == SelfConsistency(early="window")


@pytest.mark.parametrize(
    ("spec", "why"),
    [
        ("der", "did you mean 'deer'"),
        ("", "the policies are auto"),
        ("deer:k=3", "has no setting 'k': it has effort, threshold"),
        ("deer:threshold=high", "give a number"),
        *((name, "needs a calibrated bundle") for name in sorted(CALIBRATED)),
    ],
)
def test_a_policy_that_is_not_there_says_what_is(spec: str, why: str) -> None:
    """Unknown names, settings and values are named, and so is what is missing."""
    with pytest.raises(UsageError, match=why):
        policy_named(spec, False, [""])


def test_confidence_is_the_forecasts_where_there_is_one(codec: Codec, profile: LatencyProfile) -> None:
    """A calibrated bundle's confidence is a probability; the likelihood stays beside it."""
    forecast: Forecast = flat_forecast(0.6, 20)
    _, bank, _, _ = decode_alone(turns_at(5), 30 * MS, codec, profile, forecast=forecast)
    assert all(c.confidence == pytest.approx(0.6) for c in bank.offered)
    assert all(c.likelihood == pytest.approx(0.993, abs=0.001) for c in bank.offered)
