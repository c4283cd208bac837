"""Recording, replaying and calibrating."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
import pytest

from anytime.bundle import Bundle
from anytime.calibrate.calibrated import write_calibrated
from anytime.calibrate.control import learn
from anytime.calibrate.fit import calibration_error, fit, reliability
from anytime.calibrate.record import Pass, Probe, Recorder, Recording, Thoughts
from anytime.calibrate.replay import Replayer
from anytime.calibrate.store import recorded
from anytime.errors import BundleError, CalibrationError
from anytime.ext.latency import Latency
from anytime.runtime.engine import EngineSpec
from anytime.runtime.forecast import CALIBRATION, Forecast, Reading, later_terms, read_calibration
from anytime.runtime.loading import forecast_of
from anytime.runtime.policies.adaptive import ConfidenceExit, Consensus
from anytime.runtime.policies.budget import BudgetForcing, Fixed
from anytime.runtime.policies.meta import MetaReasoner
from anytime.runtime.policies.parallel import SelfConsistency
from anytime.runtime.policies.policy import Policy
from anytime.runtime.policies.until import UntilDeadline
from anytime.runtime.prompt import Codec
from anytime.runtime.questions import Question
from anytime.scheduler.pace import slowed
from anytime.scheduler.profile import LatencyProfile
from anytime.testing import MockClock, ScriptedEngine
from tests.conftest import MS, thinker, write_bundle
from tests.doubles import decode_alone, flat_forecast
from tests.test_cli import anytime

THOUGHT = "abcdef\nghijklmnop\nqrstuvwxyzab\ncdefgh\n"
SPEC = EngineSpec("scripted", "1", "none", 1, "none", 64, 8, 256)
QUESTION = Question(id="q", question="what", answer="right", choices=["left", "right"])


def script_of(turn: int = 8):  # type: ignore[no-untyped-def]
    """A thought in lines that closes by itself, its answer turning from left to right."""
    return thinker(THOUGHT, lambda n: "left" if n < turn else "right")


def record(codec: Codec, latency: Latency, samples: int = 3) -> Recording:
    engine = ScriptedEngine(MockClock(), latency, script_of(), vocab_size=64, max_context=256)
    return Recorder(engine, codec, samples=samples).record(QUESTION)


def test_a_recording_holds_the_thought_and_its_answers(codec: Codec, latency: Latency) -> None:
    """The greedy pass first, with its lines, the answers at every cut, and which of them are right."""
    recording = record(codec, latency)
    greedy = recording.plain.passes[0]
    assert (greedy.thought_tokens, greedy.complete) == (len(THOUGHT), True)
    assert greedy.boundaries == tuple(i for i, c in enumerate(THOUGHT) if c == "\n")
    assert [probe.tokens for probe in greedy.probes] == sorted({0, len(THOUGHT), *range(8, len(THOUGHT), 8), 7, 18, 31})
    assert [probe.text for probe in greedy.probes] == ["left" if p.tokens < 8 else "right" for p in greedy.probes]
    assert recording.right == {"right"}
    assert len(recording.plain.passes) == 4
    assert recording.plain.waited is not None
    assert recording.plain.waited.thought_tokens > len(THOUGHT)


def test_recording_leaves_the_engine_as_it_was(codec: Codec, latency: Latency) -> None:
    """All rows are free again, also after a question that fails."""
    engine = ScriptedEngine(MockClock(), latency, script_of(), vocab_size=64, max_context=256)
    recorder = Recorder(engine, codec, samples=9)
    assert recorder.record(QUESTION) == recorder.record(QUESTION)


@pytest.mark.parametrize(
    "policy", [UntilDeadline(), Fixed(8), Fixed(16), ConfidenceExit(0.9), ConfidenceExit(1.0), Consensus(2)], ids=repr
)
@pytest.mark.parametrize("budget_ms", [1, 2, 5, 9, 20, 33, 60, 500])
def test_replay_is_what_the_loop_does(
    policy: Policy, budget_ms: int, codec: Codec, latency: Latency, profile: LatencyProfile
) -> None:
    """The same answers after the same tokens, and the same time to the nanosecond, as decoding in the engine."""
    job, bank, _, clock = decode_alone(script_of(), budget_ms * MS, codec, profile, policy=policy)
    replayer = Replayer(profile, codec, None, SPEC, handover_ns=0, wake_ns=0)
    outcome = replayer.replay(record(codec, latency, 1), policy, budget_ms * MS + profile.delivery_ns)
    best = bank.best()
    assert outcome.stopped == job.stopped
    assert (outcome.answer is None) == (best is None)
    if best is not None and outcome.answer is not None:
        assert (outcome.answer.source, outcome.answer.thought_tokens) == (best.source, best.thought_tokens)
        assert outcome.elapsed_ns == clock.now()
        assert (outcome.thought_tokens, outcome.answer_tokens) == (job.thought_tokens, job.answer_tokens)
    else:
        assert not outcome.right


@pytest.mark.parametrize("policy", [UntilDeadline(), Fixed(16)], ids=repr)
@pytest.mark.parametrize("budget_ms", [9, 20, 33, 60, 500])
def test_replay_plans_as_a_runtime_that_has_seen_slow_steps(
    policy: Policy, budget_ms: int, codec: Codec, latency: Latency, profile: LatencyProfile
) -> None:
    """Predictions are multiplied by the factor; what a run takes is not."""
    wary = slowed(profile, 1.25)
    engine = {"policy": policy, "slowdown": lambda run: 0.8}
    job, bank, _, clock = decode_alone(script_of(), budget_ms * MS, codec, wary, **engine)
    replayer = Replayer(profile, codec, None, SPEC, handover_ns=0, wake_ns=0, factor=1.25)
    outcome = replayer.replay(record(codec, latency, 1), policy, budget_ms * MS + profile.delivery_ns)
    best = bank.best()
    assert outcome.answer is not None
    assert best is not None
    assert (outcome.answer.source, outcome.answer.thought_tokens) == (best.source, best.thought_tokens)
    assert (outcome.stopped, outcome.thought_tokens) == (job.stopped, job.thought_tokens)
    assert outcome.elapsed_ns == pytest.approx(clock.now(), abs=1000)


def test_the_caller_of_a_replay_leaves_on_time(codec: Codec, latency: Latency, profile: LatencyProfile) -> None:
    """Where runs take twice as long as planned, what is found too late is not returned, and nobody waits for it."""
    recording, ready_ns = record(codec, latency, 1), 20 * MS
    slow = Replayer(profile, codec, None, SPEC, pace=2.0)
    outcome = slow.replay(recording, UntilDeadline(), ready_ns + profile.delivery_ns)
    assert (outcome.elapsed_ns, outcome.stopped) == (ready_ns, "deadline")
    ample = slow.replay(recording, Fixed(0), 10**12)
    assert outcome.answer == ample.answer
    assert ample.elapsed_ns == pytest.approx(
        slow.handover_ns + 2 * latency.run_ns(recording.plain.prompt_tokens + 1, 0) + slow.wake_ns
    )


def test_replay_thinks_side_by_side_and_waits(codec: Codec, latency: Latency, profile: LatencyProfile) -> None:
    """Several lines cost what as many rows cost, and a "Wait" goes on in the thought that was recorded behind it."""
    recording = record(codec, latency)
    replayer = Replayer(profile, codec, None, SPEC)
    one = replayer.replay(recording, UntilDeadline(), 10**12)
    many = replayer.replay(recording, SelfConsistency(2), 10**12)
    assert many.thought_tokens == sum(p.thought_tokens for p in recording.plain.passes[1:3])
    assert many.elapsed_ns > one.elapsed_ns
    waited = replayer.replay(recording, BudgetForcing(1), 10**12)
    assert recording.plain.waited is not None
    assert waited.thought_tokens >= recording.plain.waited.thought_tokens - len(codec.encode_text("Wait"))


def test_recordings_go_on_where_they_were_broken_off(tmp_path: Path, codec: Codec, latency: Latency) -> None:
    """Whole recordings are taken from the file, a half one is cut off, the rest is recorded and added."""
    file = tmp_path / "recordings.bin"
    questions = [msgspec.structs.replace(QUESTION, id=f"q{i}") for i in range(3)]
    engine = ScriptedEngine(MockClock(), latency, script_of(), vocab_size=64, max_context=256)
    recorder = Recorder(engine, codec, samples=1)
    whole = recorded(questions, recorder, file, lambda done: None)
    file.write_bytes(file.read_bytes()[:-5])
    before = len(engine.runs)
    assert recorded(questions, recorder, file, lambda done: None) == whole
    assert 0 < len(engine.runs) - before <= before / 2
    assert recorded(questions, recorder, file, lambda done: None) == whole
    with pytest.raises(CalibrationError, match="other questions"):
        recorded(questions[1:], recorder, file, lambda done: None)
    file.write_bytes(b"\x03\x00\x00\x00abc")
    with pytest.raises(CalibrationError, match="remove the file"):
        recorded(questions, recorder, file, lambda done: None)


def made_up(count: int, seed: int = 0) -> list[Recording]:
    """Thoughts of 30 to 60 tokens whose answers' likelihood overstates how often they are right."""
    rng = random.Random(seed)
    recordings = []
    for i in range(count):
        length = rng.randint(30, 60)
        probes = []
        for tokens in range(0, length + 1, 5):
            likelihood = rng.uniform(0.3, 0.999)
            right = rng.random() < likelihood**2
            probes.append(Probe(tokens, "right" if right else "wrong", likelihood, 1))
        one = Pass(length, True, tuple(range(4, length, 5)), (*probes, Probe(length, "right", 0.9, 1)))
        thoughts = {"": Thoughts(2 * length, (one,), None)}
        recordings.append(Recording(f"q{i}", "choices", 0, frozenset({"right"}), thoughts))
    return recordings


def test_a_fit_finds_what_answers_are_worth(codec: Codec, profile: LatencyProfile) -> None:
    """Overstated likelihoods become frequencies, lengths follow the prompt, and more thought is known to help."""
    calibration = fit(made_up(400), Replayer(profile, codec, None, SPEC), "made up")
    forecast = Forecast(calibration)
    assert calibration.expected_error < 0.06
    assert forecast.length(80, "choices", "") == pytest.approx(40, abs=2)
    assert forecast.spread("choices", "") < 2
    assert forecast.length(80, "text", "") == calibration.efforts[""].longest
    at = [forecast.probability(Reading(p, 20, False, 0, 80, "choices")) for p in (0.4, 0.6, 0.8)]
    assert at == pytest.approx([0.16, 0.36, 0.64], abs=0.15)
    assert forecast.later(Reading(0.5, 10, False, 0, 80, "choices"), 30) > 0.8
    ends = [forecast.fresh(0.5, 80, "choices", "", tokens) for tokens in (10, 30, 60)]
    assert ends[0] < 0.6
    assert ends[2] > 0.8
    assert ends == sorted(ends)


def test_an_outlook_is_the_terms_times_the_weights() -> None:
    """Adding up once what all lengths have in common changes nothing."""
    rng = random.Random(1)
    plain = flat_forecast(0.7, 40).calibration
    curve = plain.efforts[""]
    random_curve = msgspec.structs.replace(curve, later=tuple(rng.uniform(-1, 1) for _ in curve.later))
    forecast = Forecast(msgspec.structs.replace(plain, efforts={"": random_curve}))
    for _ in range(50):
        reading = Reading(rng.random(), rng.randint(0, 60), rng.random() < 0.5, rng.randint(0, 5), 90, "choices")
        lengths = [rng.randint(1, 80) for _ in range(4)]
        expected = [
            math.fsum(w * t for w, t in zip(random_curve.later, later_terms(reading, n, 40.0), strict=True))
            for n in lengths
        ]
        assert forecast.outlook(reading, lengths) == pytest.approx([1 / (1 + math.exp(-z)) for z in expected])


def test_the_meta_reasoner_learns_what_pays(codec: Codec, profile: LatencyProfile) -> None:
    """It thinks on while answers are poor, and is nearly as often right as whole thoughts are; nothing is random."""
    recordings, plain = made_up(150), Replayer(profile, codec, None, SPEC)
    known = fit(recordings, plain, "made up")
    learned = learn(recordings, plain, known)
    assert learned == learn(recordings, plain, known)
    assert set(learned.control) == {"continue", "conclude", "restart"}  # there is no other effort to switch to
    replayer = Replayer(profile, codec, Forecast(learned), SPEC)
    outcomes = [replayer.replay(one, MetaReasoner(), 10**12) for one in made_up(100, seed=1)]
    assert np.mean([outcome.right for outcome in outcomes]) > 0.9
    assert np.mean([outcome.thought_tokens for outcome in outcomes]) < 200


def test_too_little_to_learn_from_is_an_error(codec: Codec, profile: LatencyProfile) -> None:
    """Few questions, or answers that are all right, teach nothing; the message says what would."""
    replayer = Replayer(profile, codec, None, SPEC)
    with pytest.raises(CalibrationError, match="give 50 or more"):
        fit(made_up(20), replayer, "few")
    same = [msgspec.structs.replace(one, right=frozenset({"right", "wrong"})) for one in made_up(60)]
    with pytest.raises(CalibrationError, match="all right, or all wrong"):
        fit(same, replayer, "same")


def test_expected_calibration_error_is_the_mean_distance() -> None:
    """Ten bins of equal numbers; a forecast that is always 0.1 too high has an error of 0.1."""
    rng = np.random.default_rng(0)
    true = rng.uniform(0, 0.9, 200_000)
    right = rng.random(200_000) < true
    bins = reliability(list(true + 0.1), list(right))
    assert len(bins) == 10
    assert {one.count for one in bins} == {20_000}
    assert calibration_error(bins) == pytest.approx(0.1, abs=0.01)


def test_a_calibrated_bundle_is_another_bundle(tmp_path: Path) -> None:
    """It holds the same files and the calibration, verifies, has another id, and says what it knows."""
    plain = write_bundle(tmp_path / "plain")
    calibration = flat_forecast(0.7, 30).calibration
    made = write_calibrated(plain, calibration, tmp_path / "calibrated")
    again = write_calibrated(made, calibration, tmp_path / "again")
    assert made.id != plain.id
    assert again.id == made.id
    assert Bundle.load(tmp_path / "calibrated").manifest.files.keys() == {*plain.manifest.files, CALIBRATION}
    assert forecast_of(plain) is None
    known = forecast_of(made)
    assert known is not None
    assert known.calibration == calibration
    with pytest.raises(BundleError, match="already exists"):
        write_calibrated(plain, calibration, tmp_path / "plain")


@pytest.mark.parametrize("content", [b"{", b'{"version": 1}'])
def test_a_damaged_calibration_says_what_to_do(content: bytes, tmp_path: Path) -> None:
    """Unreadable, incomplete or of another version: calibrate again."""
    file = tmp_path / CALIBRATION
    file.write_bytes(content)
    with pytest.raises(BundleError, match="calibrate the bundle again"):
        read_calibration(file)
    other = msgspec.structs.replace(flat_forecast(0.7, 30).calibration, version=99)
    file.write_bytes(msgspec.json.encode(other))
    with pytest.raises(BundleError, match="version 99"):
        read_calibration(file)


def ask(tmp_path: Path, rows: Sequence[object], *more: str) -> tuple[int, str, Path]:
    """``anytime calibrate`` on these lines: exit code, what it said, and where the bundle would be."""
    file, out = tmp_path / "q.jsonl", tmp_path / "new"
    file.write_text("".join(row if isinstance(row, str) else json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    result = anytime("calibrate", "--questions", file, "--out", out, "--samples", "1", *more)
    return result.exit_code, result.output + (result.stderr or ""), out


def sums(count: int) -> list[dict[str, object]]:
    """Questions that the reference can answer, every third with a wrong answer beside it."""
    rng = random.Random(5)
    rows: list[dict[str, object]] = []
    for i in range(count):
        have, more = rng.randint(2, 50), rng.randint(1, 40)
        text = f"Ana has {have} cards. Ana buys {more}. How many cards?"
        rows.append({"id": f"s{i}", "question": text, "answer": str(have + more - (i % 3 == 0)), "regex": r"\d{1,2}"})
    return rows


def test_calibrate_makes_a_bundle_that_answers(tmp_path: Path) -> None:
    """From questions to a calibrated bundle, a malformed line named and left out."""
    code, said, out = ask(tmp_path, [*sums(60), "{broken\n"], "--json")
    assert code == 0, said
    assert "q.jsonl:61" in said
    assert '"expected_error"' in said
    assert forecast_of(Bundle.load(out)) is not None


@pytest.mark.parametrize(
    ("rows", "more", "code", "why"),
    [
        (["{broken\n"], (), 2, "q.jsonl:1"),
        ([*sums(2), "{broken\n"], ("--strict",), 2, "q.jsonl:3"),
        ([{"id": "a", "question": "what"}], (), 2, "has an answer"),
        (sums(3), (), 1, "too few to calibrate"),
    ],
)
def test_calibrate_says_what_is_wrong(
    rows: list[object], more: tuple[str, ...], code: int, why: str, tmp_path: Path
) -> None:
    """Malformed files and too few questions: one line, the exit code, and no bundle."""
    got, said, out = ask(tmp_path, rows, *more)
    assert (got, why in said) == (code, True), said
    assert not out.exists()
