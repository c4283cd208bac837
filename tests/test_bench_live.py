"""The validation of replays: on a clock that only the engine moves, they are what live runs are."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from anytime import Reasoner
from anytime.calibrate.calibrated import write_calibrated
from anytime.calibrate.record import Recorder
from anytime.calibrate.replay import Replayer
from anytime.ext.latency import Latency
from anytime.runtime.forecast import Forecast
from anytime.runtime.prompt import Codec
from anytime.runtime.questions import Question
from anytime.testing import MockClock, ScriptedEngine
from bench.anytime.live import figures, samples, validate
from bench.anytime.sets import Set
from bench.contenders import asked_format
from tests.conftest import MS, make_profile, thinker, write_bundle
from tests.doubles import flat_forecast

SLOW = 1.2
BUDGETS_MS = (9, 12, 18, 25, 40, 55, 200)
SCRIPT = thinker("abcdef\nghijklmnop\nqrstuvwxyzab\ncdefgh\n", lambda n: "left" if n < 20 else "right")


@pytest.fixture
def machine(tmp_path: Path, latency: Latency) -> Iterator[tuple[Reasoner, Replayer, Set]]:
    """An engine that always takes 1.2 times what its profile says, and a replayer of that profile."""
    known = flat_forecast(0.6, 38, 0.8).calibration
    bundle = write_calibrated(write_bundle(tmp_path / "plain"), known, tmp_path / "calibrated")
    codec, clock = Codec(bundle), MockClock(10**9)
    engine = ScriptedEngine(clock, latency, SCRIPT, 64, 256, slowdown=lambda run: SLOW)
    profile = make_profile(latency, bundle.id, engine.spec)
    words = itertools.permutations("abcdef", 5)  # none begins as another does for long enough to be cached
    questions = [
        Question(id=f"q{i}", question="".join(word), answer="right", choices=["left", "right"])
        for i, word in enumerate(itertools.islice(words, 0, None, 60))
    ]
    recorder = Recorder(ScriptedEngine(MockClock(), latency, SCRIPT, 64, 256), codec, samples=1)
    recordings = [recorder.record(question) for question in questions]
    with Reasoner(engine, codec, profile, bundle, clock) as reasoner:
        yield reasoner, Replayer(profile, codec, Forecast(known), engine.spec), Set("made up", questions, recordings)


def test_replays_are_as_live_runs(machine: tuple[Reasoner, Replayer, Set]) -> None:
    """At every budget the same answers, ends and times, though the engine is slower than its profile."""
    reasoner, replayer, questions = machine
    for question in questions.questions * 5:  # margins, which are not replayed, rise until the slowness is known
        reasoner.answer(question.question, budget=1.0, answer=asked_format(question))
    budgets = {questions.domain: [budget_ms * MS for budget_ms in BUDGETS_MS]}
    checks = validate(reasoner, replayer, [questions], budgets, len(questions.questions))
    assert [check.budget_ms for check in checks] == [BUDGETS_MS[2], BUDGETS_MS[3], BUDGETS_MS[-1]]
    for check in checks:
        for pair in check.pairs:
            assert pair.factor == pytest.approx(SLOW, abs=0.03)
            assert (pair.replayed_stopped, pair.replayed_right) == (pair.live_stopped, pair.live_right)
            assert pair.replayed_ms == pytest.approx(pair.live_ms, rel=0.001)
    assert {pair.live_stopped for check in checks for pair in check.pairs} >= {"deadline", "complete"}
    assert all(figure.holds for figure in figures(checks))
    assert [row["live_ms"] for row in samples(checks)] == [[pair.live_ms for pair in one.pairs] for one in checks]
