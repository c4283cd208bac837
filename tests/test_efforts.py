"""Efforts: frames around a question that ask for more or less thought, chosen by name or by ``auto``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from anytime.bundle import Chat, Frame
from anytime.calibrate.record import Recorder
from anytime.calibrate.replay import Replayer
from anytime.errors import UsageError
from anytime.ext.latency import Latency
from anytime.runtime.engine import EngineSpec
from anytime.runtime.forecast import Calibration, Forecast
from anytime.runtime.policies.auto import Auto
from anytime.runtime.policies.effort import AtEffort
from anytime.runtime.policies.named import policy_named
from anytime.runtime.policies.policy import CONCLUDE, THINK, Plan, Policy, View
from anytime.runtime.policies.until import Following, UntilDeadline
from anytime.runtime.prompt import Codec
from anytime.runtime.questions import Question
from anytime.scheduler.profile import LatencyProfile
from anytime.testing import MockClock, ScriptedEngine
from tests.conftest import ID, MS, write_bundle
from tests.doubles import decode_alone, flat_curve

HIGH, LOW = Frame("", "x<think>"), Frame("", "y<think>")
THOUGHT = {"x": "abcdefgh\n" * 4, "y": "ab\n"}  # by the mark before the tag
SPEC = EngineSpec("scripted", "1", "none", 1, "none", 64, 8, 256)


@pytest.fixture
def codec(tmp_path: Path) -> Codec:
    """Of a bundle that knows two efforts, the higher one its own."""
    chat = Chat("", "", HIGH, "</think>", (1,), {"low": LOW, "high": HIGH})
    return Codec(write_bundle(tmp_path / "efforts", chat=chat))


def script(tokens: Sequence[int]) -> int:
    """A short thought and 'left' behind the low mark, a long one and 'right' behind the high one."""
    at = tokens.index(ID["<think>"])
    mark = next(m for m in THOUGHT if ID[m] == tokens[at - 1])
    said = tokens[at + 1 :]
    if ID["</think>"] in said:
        answered = said[-1] != ID["</think>"]
        return ID["<end>"] if answered else ID["left" if mark == "y" else "right"]
    said_next = (*(ID[c] for c in THOUGHT[mark]), ID["</think>"])
    return said_next[min(len(said), len(said_next) - 1)]


def forecast(low: float, high: float, now: float = 0.5) -> Forecast:
    """What a thought of each effort leads to; an answer found is right with probability ``now``."""
    curves = {
        "low": flat_curve(now, len(THOUGHT["y"]), low),
        "high": flat_curve(now, len(THOUGHT["x"]), high),
    }
    return Forecast(Calibration(questions="none", count=0, efforts=curves, reliability=(), expected_error=0.0))


def test_a_prompt_asks_for_its_effort(codec: Codec) -> None:
    """The bundle's own unless another is named; from one to the other only what differs is new."""
    high, low = codec.encode("what"), codec.encode("what", "low")
    assert (codec.effort, codec.efforts) == ("high", ("low", "high"))
    assert codec.encode("what", "high") == high != low
    assert codec.reframe(high, "high", "low") == low
    assert codec.reframing(len(high), "high", "low") == (len("what"), 2)
    assert codec.reframing(len(high), "high", "high") == (len(high), 0)


def test_an_effort_that_stands_before_the_question(tmp_path: Path) -> None:
    """Then nothing behind it is the same, and the whole prompt is run again."""
    chat = Chat("", "", HIGH, "</think>", (1,), {"low": Frame("ab", "x<think>"), "high": Frame("ac", "x<think>")})
    codec = Codec(write_bundle(tmp_path / "before", chat=chat))
    assert codec.efforts == ("low", "high", "")  # its own is neither
    low = codec.encode("what", "low")
    assert codec.reframe(low, "low", "high") == codec.encode("what", "high")
    assert codec.reframing(len(low), "low", "high") == (1, len(low) - 1)


@pytest.mark.parametrize(("effort", "text"), [("low", "left"), ("high", "right")])
def test_any_policy_thinks_at_the_effort_it_is_given(
    effort: str, text: str, codec: Codec, profile: LatencyProfile
) -> None:
    """The thought, its answer, and what the answer says about itself are that effort's."""
    policy = policy_named(f"until-deadline:effort={effort}", False, codec.efforts)
    job, bank, _, _ = decode_alone(script, 500 * MS, codec, profile, policy=policy)
    best = bank.best()
    assert best is not None
    assert (best.text, best.effort, best.complete) == (text, effort, True)
    assert job.stopped == "complete"


def test_asking_for_another_effort_runs_only_what_differs(codec: Codec, profile: LatencyProfile) -> None:
    """One run of two tokens behind the question; the prompt is not run again."""
    _, _, engine, _ = decode_alone(script, 500 * MS, codec, profile, policy=AtEffort(UntilDeadline(), "low"))
    prompt = len(codec.encode("what"))
    assert engine.runs[:3] == [(prompt + 1, 0), (2, prompt - 2), (1, prompt)]


class HighAfterLow(Following):
    """Low effort first; when that thought has ended, the high one."""

    def begin(self, view: View) -> Plan:
        return Plan(effort="low")

    def judge(self, view: View) -> Plan | str:
        return THINK if view.width or view.effort == "high" else Plan(effort="high")


def test_another_effort_after_a_whole_thought(codec: Codec, profile: LatencyProfile) -> None:
    """It begins afresh behind the question, and its answer is added to the bank."""
    policy: Policy = HighAfterLow()  # type: ignore[assignment]
    job, bank, _, _ = decode_alone(script, 500 * MS, codec, profile, policy=policy)
    assert [(c.text, c.effort) for c in bank.offered if c.complete] == [("left", "low"), ("right", "high")]
    assert job.stopped == "complete"
    assert job.thought_tokens == len(THOUGHT["x"]) + len(THOUGHT["y"])


def test_no_time_to_ask_again_leaves_the_answer_there_is(codec: Codec, profile: LatencyProfile) -> None:
    """Where the other effort's prompt and a close do not fit any more, the thought is complete as it is."""
    policy: Policy = HighAfterLow()  # type: ignore[assignment]
    for budget_ms in range(4, 20):
        job, bank, _, clock = decode_alone(script, budget_ms * MS, codec, profile, policy=policy)
        assert clock.now() <= budget_ms * MS
        assert bank.best() is not None
        assert job.stopped in {"complete", "deadline"}


def test_auto_takes_the_effort_that_promises_most(codec: Codec, profile: LatencyProfile) -> None:
    """The best forecast wins where time is free; where tokens cost, the cheaper of the same worth."""
    _, free, _, _ = decode_alone(script, 500 * MS, codec, profile, policy=Auto(), forecast=forecast(0.9, 0.95))
    _, costly, _, _ = decode_alone(script, 500 * MS, codec, profile, policy=Auto(0.002), forecast=forecast(0.9, 0.9))
    assert next(c.effort for c in free.offered if c.complete) == "high"
    assert next(c.effort for c in costly.offered if c.complete) == "low"


def test_auto_thinks_again_where_a_thought_left_doubt(codec: Codec, profile: LatencyProfile) -> None:
    """An answer as likely wrong as right is worth the other effort's tokens; a likely one is not."""
    _, doubted, _, _ = decode_alone(script, 500 * MS, codec, profile, policy=Auto(0.002), forecast=forecast(0.9, 0.9))
    sure = forecast(0.9, 0.9, now=0.95)
    view_of_one = decode_alone(script, 500 * MS, codec, profile, policy=Auto(0.0001, sure=0.9), forecast=sure)[1]
    assert [c.effort for c in doubted.offered if c.complete] == ["low", "high"]
    assert not [c for c in view_of_one.offered if c.complete]  # the instant answer was sure enough


def test_auto_thinks_harder_when_the_caller_refuses(codec: Codec, profile: LatencyProfile) -> None:
    """Without any accepted answer the other effort is tried, and its answer is there to be refused too."""
    for accept, texts in ((lambda text: False, []), (lambda text: text == "right", ["right"])):
        job, bank, _, _ = decode_alone(
            script, 500 * MS, codec, profile, policy=Auto(0.002), forecast=forecast(0.9, 0.9), accept=accept
        )
        assert [c.effort for c in bank.offered if c.complete] == ["low", "high"]
        assert [c.text for c in bank.found if c.complete] == texts
        assert job.stopped == "complete"


def test_auto_returns_the_surest_of_its_thoughts(codec: Codec) -> None:
    """Of two that ended the surer one speaks, the later where they are alike."""
    from anytime.runtime.bank import Candidate

    def ended(text: str, confidence: float, line: int) -> Candidate:
        return Candidate(text, confidence, "thought", 5, 1, complete=True, line=line)

    assert Auto().choose([ended("a", 0.9, 0), ended("b", 0.8, 1)]).text == "a"
    assert Auto().choose([ended("a", 0.8, 0), ended("b", 0.8, 1)]).text == "b"
    assert Auto().choose([ended("a", 0.99, 0), ended("c", 0.7, 0)]).text == "c"  # of one thought the last


@pytest.mark.parametrize("budget_ms", [3, 5, 9, 14, 33, 60, 500])
@pytest.mark.parametrize(
    "policy",
    [AtEffort(UntilDeadline(), "low"), HighAfterLow(), Auto(), Auto(0.002)],
    ids=["low", "both", "auto", "cost"],
)
def test_replay_changes_efforts_as_the_loop_does(
    policy: Policy, budget_ms: int, codec: Codec, latency: Latency, profile: LatencyProfile
) -> None:
    """The same answer after the same tokens, and the same time to the nanosecond."""
    known = forecast(0.8, 0.9)
    engine = ScriptedEngine(MockClock(), latency, script, vocab_size=64, max_context=256)
    question = Question(id="q", question="what", answer="right", choices=["left", "right"])
    recording = Recorder(engine, codec, samples=1).record(question)
    assert list(recording.efforts) == ["high", "low"]
    job, bank, _, clock = decode_alone(script, budget_ms * MS, codec, profile, policy=policy, forecast=known)
    replayer = Replayer(profile, codec, known, SPEC, handover_ns=0, wake_ns=0)
    outcome = replayer.replay(recording, policy, budget_ms * MS + profile.delivery_ns)
    best = bank.best()
    assert outcome.stopped == job.stopped
    assert outcome.answer is not None
    assert best is not None
    assert (outcome.answer.text, outcome.answer.effort) == (best.text, best.effort)
    assert outcome.answer.confidence == best.confidence
    assert outcome.elapsed_ns == clock.now()
    assert (outcome.thought_tokens, outcome.answer_tokens) == (job.thought_tokens, job.answer_tokens)


def test_an_effort_that_the_bundle_does_not_know_is_refused() -> None:
    """By name, with those that it has."""
    with pytest.raises(UsageError, match="no effort 'huge': it has low, high"):
        policy_named("deer:effort=huge", False, ["low", "high"])
    with pytest.raises(UsageError, match="it has one only"):
        policy_named("deer:effort=low", False, [""])
    assert policy_named("auto:effort=low", True, ["low", "high"]) == AtEffort(Auto(), "low")


def test_conclude_is_handed_on(codec: Codec, profile: LatencyProfile) -> None:
    """A policy that wants no thought gets none at any effort."""
    policy = policy_named("fixed:tokens=0,effort=low", False, codec.efforts)
    job, _, engine, _ = decode_alone(script, 500 * MS, codec, profile, policy=policy)
    assert job.stopped == "early"
    assert len(engine.runs) == 1
    assert CONCLUDE == "conclude"
