"""The anytime loop, on the test's own thread: order, endings, probes, tags and the context."""

from __future__ import annotations

import math

import pytest

from anytime.errors import StepTerminated
from anytime.ext.latency import Latency
from anytime.runtime.answers.formats import Choices, Text
from anytime.runtime.engine import Row
from anytime.runtime.loop import PROBE_SHARE
from anytime.runtime.prompt import Codec
from anytime.scheduler.profile import LatencyProfile
from anytime.testing import MockClock, ScriptedEngine
from tests.conftest import ID, LONG, MS, make_profile, thinker, turns_at
from tests.doubles import decode_alone


def test_the_instant_answer_comes_first_and_rests_on_no_thought(codec: Codec, profile: LatencyProfile) -> None:
    """The first run brings prompt, close tag and the answer before any thought: from then on there is an answer."""
    _, bank, engine, _ = decode_alone(turns_at(1), 30 * MS, codec, profile)
    assert engine.runs[0] == (len(codec.encode("what")) + 1, 0)
    assert (bank.offered[0].source, bank.offered[0].text, bank.offered[0].thought_tokens) == ("instant", "left", 0)
    assert bank.offered[1].text == "right"


def test_time_for_the_instant_answer_alone_gives_it(codec: Codec, profile: LatencyProfile) -> None:
    """Just above the floor nothing but the instant answer is found, and it is there."""
    job, bank, engine, _ = decode_alone(turns_at(99), int(1.2 * MS), codec, profile)
    assert [c.source for c in bank.offered] == ["instant"]
    assert job.stopped == "deadline"
    assert len(engine.runs) == 1


def test_a_close_that_is_only_expected_to_fit_is_tried_to_the_nanosecond(codec: Codec) -> None:
    """Where the upper bound of closing no longer fits but closing likely does, it is tried; nanoseconds decide."""
    latency = Latency(0.0, 20_000.0, MS, 20_000.0, MS, 1.0, 1.5)
    profile, answer = make_profile(latency), Choices("ab", "ac")
    prompt = len(codec.encode("what"))
    instant_ns = latency.run_ns(prompt + 1, 0) + latency.run_ns(1, prompt + 1)
    close_ns = latency.run_ns(2, prompt) + latency.run_ns(1, prompt + 2)
    likely_ns = math.ceil(1.1 * close_ns)
    for short_ns, source in ((0, "thought"), (2, "instant")):
        budget_ns = instant_ns + likely_ns - short_ns
        _, bank, _, clock = decode_alone(thinker(LONG, lambda n: "ab"), budget_ns, codec, profile, answer=answer)
        assert bank.offered[-1].source == source
        assert clock.now() <= budget_ns


def test_below_the_floor_the_engine_is_left_alone(codec: Codec, profile: LatencyProfile) -> None:
    """What cannot be served costs nothing, and says why."""
    job, bank, engine, _ = decode_alone(turns_at(99), MS // 2, codec, profile)
    assert job.stopped == "rejected"
    assert "floor" in job.reason
    assert bank.best() is None
    assert engine.runs == []


def test_a_complete_thought_ends_the_work(codec: Codec, profile: LatencyProfile) -> None:
    """When the model closes its thought the answer follows at once, and the time left is not used."""
    job, bank, engine, clock = decode_alone(thinker("abcde", lambda n: "right"), 1000 * MS, codec, profile)
    best = bank.best()
    assert best is not None
    assert job.stopped == "complete"
    assert (best.source, best.text, best.thought_tokens) == ("thought", "right", 5)
    assert len(engine.runs) == 1 + 5 + 1
    assert clock.now() < 10 * MS


def test_a_stop_token_in_the_thought_ends_it_too(codec: Codec, profile: LatencyProfile) -> None:
    """A model that just stops has thought enough; the stop token is no part of the thought."""
    thinks = thinker("ab", lambda n: "right")

    def script(tokens: tuple[int, ...]) -> int:
        token = thinks(tokens)
        return ID["<end>"] if token == ID["</think>"] else token

    job, bank, _, _ = decode_alone(script, 1000 * MS, codec, profile)
    assert job.stopped == "complete"
    assert codec.decode(job.thought) == "ab"
    assert bank.offered[-1].source == "thought"


def test_a_thought_that_does_not_end_is_closed_by_force(codec: Codec, profile: LatencyProfile) -> None:
    """At the end of its time the thought is closed where it stands, and the answer rests on all of it."""
    job, bank, _, clock = decode_alone(turns_at(20), 40 * MS, codec, profile)
    best = bank.best()
    assert best is not None
    assert job.stopped == "deadline"
    assert (best.source, best.text) == ("thought", "right")
    assert best.thought_tokens == len(job.thought) > 30
    assert LONG.startswith(codec.decode(job.thought))
    assert 37 * MS < clock.now() <= 40 * MS


def test_probes_come_at_the_ends_of_lines(codec: Codec, profile: LatencyProfile) -> None:
    """A probe's thought ends with a line where lines are long enough for the spacing."""
    job, bank, _, _ = decode_alone(thinker("abcdefghijk\n" * 8, lambda n: "left"), 90 * MS, codec, profile)
    probes = [c.thought_tokens for c in bank.offered if c.source == "probe"]
    assert len(probes) >= 5
    assert all(codec.decode(job.thought[:n]).endswith("\n") for n in probes)


def test_probes_come_without_lines_too(codec: Codec, profile: LatencyProfile) -> None:
    """A thought in one line is probed at twice the spacing."""
    _, bank, _, _ = decode_alone(thinker("a" * 100, lambda n: "left"), 90 * MS, codec, profile)
    probes = [c.thought_tokens for c in bank.offered if c.source == "probe"]
    assert probes == list(range(16, 81, 16))


@pytest.mark.parametrize("gamma_ms", [0, 1, 4])
@pytest.mark.parametrize("answer", [Choices("left", "right"), Choices("abcd", "abce"), Text(4)])
def test_probes_take_no_more_than_their_share(codec: Codec, gamma_ms: int, answer: Choices | Text) -> None:
    """However dear a probe is, all of them cost at most PROBE_SHARE of the time for thinking."""
    latency = Latency(0.0, 20_000.0, gamma_ms * MS, 0.0, MS)
    script = thinker(LONG, lambda n: "abcd")
    _, bank, engine, clock = decode_alone(script, 190 * MS, codec, make_profile(latency), answer=answer)
    probes = sum(c.source == "probe" for c in bank.offered)
    instant_ns = latency.run_ns(engine.runs[0][0], 0) + (bank.offered[0].answer_tokens - 1) * MS
    thinking_ns = clock.now() - instant_ns
    probe_ns = sum(c.answer_tokens - 1 for c in bank.offered if c.source == "probe") * MS
    probe_ns += probes * (latency.run_ns(2, 0) - MS)
    assert probes >= 1
    assert probe_ns <= PROBE_SHARE * thinking_ns * 1.01


def test_a_probe_leaves_no_trace_in_the_thought(codec: Codec, profile: LatencyProfile) -> None:
    """Close tag and answer are forgotten again: the thought goes on as if nobody had asked."""
    answer = Choices("abcd", "abce")
    job, bank, engine, _ = decode_alone(thinker(LONG, lambda n: "abce"), 150 * MS, codec, profile, answer=answer)
    probes = [c for c in bank.offered if c.source == "probe"]
    assert len(probes) >= 1
    assert {c.text for c in bank.offered} == {"abce"}
    assert LONG.startswith(codec.decode(job.thought))
    prompt = len(codec.encode("what"))
    thinking = [context for tokens, context in engine.runs[1:] if tokens in (1, 2)]
    assert set(range(prompt, prompt + len(job.thought))) <= set(thinking)


def test_answers_of_several_tokens_are_reserved_and_counted(codec: Codec, profile: LatencyProfile) -> None:
    """Three shared tokens before the choice is made: every answer costs four, and the last one is on time."""
    answer = Choices("abcd", "abce")
    job, bank, _, clock = decode_alone(thinker(LONG, lambda n: "abce"), 40 * MS, codec, profile, answer=answer)
    assert {c.answer_tokens for c in bank.offered} == {4}
    assert bank.offered[-1].source == "thought"
    assert clock.now() <= 40 * MS
    assert job.answer_tokens == 4 * len(bank.offered)


def test_what_closing_leaves_of_the_reserve_buys_more_thought(codec: Codec) -> None:
    """Closing was reserved for at twice its time; an engine that needs half of that thinks on, and on time."""
    careful = Latency(0.0, 20_000.0, MS, 0.0, MS, 2.0, 2.0)
    _, bank, _, clock = decode_alone(turns_at(20), 40 * MS, codec, make_profile(careful))
    closes = [c for c in bank.offered if c.source == "thought"]
    assert len(closes) >= 2
    assert [c.thought_tokens - closes[0].thought_tokens for c in closes] == [*range(len(closes))]
    assert bank.best() is closes[-1]
    assert clock.now() <= 40 * MS


def test_a_terminated_step_leaves_the_sequence_as_it_was(latency: Latency) -> None:
    """No tokens, no time: the next run goes on from where the sequence stood; a stale terminate is ignored."""
    clock = MockClock()
    engine = ScriptedEngine(clock, latency, len)
    seq = engine.open()
    engine.run([Row(seq, [1, 2, 3])], 1)
    before = (seq.length, seq.state, clock.now())
    engine.terminate(2)
    with pytest.raises(StepTerminated):
        engine.run([Row(seq, [4])], 2)
    assert (seq.length, seq.state, clock.now()) == before
    (logits,) = engine.run([Row(seq, [4])], 3)
    assert int(logits[-1].argmax()) == 4
