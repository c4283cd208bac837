"""Several bundles behind one: routed by the question, passed on where there is doubt, within one deadline."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from anytime.bundle import Bundle
from anytime.calibrate.calibrated import write_calibrated
from anytime.calibrate.route import routed, train
from anytime.errors import BundleError, CalibrationError, UsageError
from anytime.ext.latency import Latency
from anytime.runtime.cascade import Cascade
from anytime.runtime.forecast import Calibration
from anytime.runtime.prompt import Codec
from anytime.runtime.questions import Question
from anytime.runtime.reasoner import Reasoner
from anytime.runtime.router import Router, features, read_router
from anytime.testing import MockClock, ScriptedEngine
from tests.conftest import make_profile, thinker, write_bundle
from tests.doubles import LEFT_OR_RIGHT, flat_curve
from tests.test_cli import anytime

SMALL_TOKENS, LARGE_TOKENS = 5, 60
MakeCascade = Callable[..., tuple[Cascade, list[ScriptedEngine], MockClock]]


def calibrated(path: Path, name: str, confidence: float, tokens: int) -> Bundle:
    """A bundle whose answers are right with this probability, after so long a thought."""
    curve = flat_curve(confidence, tokens, confidence)
    known = Calibration(questions="none", count=0, efforts={"": curve}, reliability=(), expected_error=0.0)
    return write_calibrated(write_bundle(path / f"{name}.plain", name=name), known, path / name)


@pytest.fixture
def cascade(tmp_path: Path, latency: Latency) -> Iterator[MakeCascade]:
    """``make(small, large)``: a small bundle that says left and a large one that says right, as sure as given."""
    made: list[Cascade] = []

    def make(small: float, large: float, **options: object) -> tuple[Cascade, list[ScriptedEngine], MockClock]:
        clock, reasoners, engines = MockClock(start_ns=10**9), [], []
        for name, confidence, tokens in (("small", small, SMALL_TOKENS), ("large", large, LARGE_TOKENS)):
            bundle = calibrated(tmp_path, name, confidence, tokens)
            text = "left" if name == "small" else "right"
            script = thinker("a" * tokens, lambda n, text=text: text)  # type: ignore[misc]
            engines.append(ScriptedEngine(clock, latency, script, vocab_size=64, max_context=256))
            profile = make_profile(latency, bundle.id, engines[-1].spec)
            reasoners.append(Reasoner(engines[-1], Codec(bundle), profile, bundle, clock))
        made.append(Cascade(reasoners, **options))  # type: ignore[arg-type]
        return made[-1], engines, clock

    yield make
    for one in made:
        one.close()


def ask(cascade: Cascade, budget_ms: float, **more: object):  # type: ignore[no-untyped-def]
    return cascade.answer("what", budget=budget_ms / 1e3, answer=LEFT_OR_RIGHT, policy="until-deadline", **more)  # type: ignore[arg-type]


def test_a_sure_answer_is_not_passed_on(cascade: MakeCascade) -> None:
    """The large bundle is not asked."""
    both, (_, large), _ = cascade(0.97, 0.99)
    answer = ask(both, 500)
    assert (answer.text, answer.late) == ("left", False)
    assert not large.runs


def test_doubt_is_passed_on_and_the_surer_answer_returned(cascade: MakeCascade) -> None:
    """The large one is asked with the time that is left; its answer is taken only where it is as sure."""
    both, _, clock = cascade(0.6, 0.9)
    began_ns = clock.now()
    answer = ask(both, 500)
    assert (answer.text, answer.confidence) == ("right", pytest.approx(0.9))
    assert answer.received_ns == began_ns
    assert answer.budget_s == pytest.approx(0.5)
    assert clock.now() <= answer.deadline_ns


def test_a_large_bundle_that_is_less_sure_does_not_overrule(cascade: MakeCascade) -> None:
    """Both were asked; the surer answer is the small one's."""
    both, (_, large), _ = cascade(0.9, 0.6)
    assert ask(both, 500).text == "left"
    assert large.runs


@pytest.mark.parametrize(("budget_ms", "text", "asked"), [(20, "left", [True, False]), (66, "right", [False, True])])
def test_the_deadline_decides_which_are_affordable(
    budget_ms: float, text: str, asked: list[bool], cascade: MakeCascade
) -> None:
    """With little time only the small one; where the large one just fits, it is asked at once."""
    both, engines, clock = cascade(0.6, 0.9)
    answer = ask(both, budget_ms)
    assert answer.text == text
    assert [bool(engine.runs) for engine in engines] == asked
    assert clock.now() <= answer.deadline_ns


def test_too_little_time_for_any_is_a_fallback(cascade: MakeCascade) -> None:
    """Below every floor the caller has its own answer, on time."""
    both, _, _ = cascade(0.6, 0.9)
    answer = ask(both, 0.9, fallback="STOP")
    assert (answer.text, answer.source, answer.stopped) == ("STOP", "fallback", "rejected")


def test_every_budget_is_kept(cascade: MakeCascade) -> None:
    """From the floor up there is an answer of a model, and it is on time by the mock clock."""
    both, _, clock = cascade(0.6, 0.9)
    for budget_ms in range(5, 150, 7):
        answer = ask(both, budget_ms)
        assert answer.valid
        assert clock.now() <= answer.deadline_ns


def test_a_router_sends_a_question_straight_on(cascade: MakeCascade) -> None:
    """What the small bundle is not likely to answer is asked of the large one at once."""
    both, (small, large), _ = cascade(0.97, 0.99)
    hopeless = tuple([-9.0] + [0.0] * (len(features("")) - 1))
    fine = tuple([9.0] + [0.0] * (len(features("")) - 1))
    routed_on = Cascade(both._reasoners, Router(("small", "large"), (hopeless, fine)))
    assert ask(routed_on, 500).text == "right"
    assert not small.runs
    assert large.runs


def questions(count: int) -> tuple[list[Question], list[list[bool]]]:
    """Short ones, which both bundles answer, and long ones, which only the large one does."""
    asked = [Question(id=f"q{i}", question="go " + "and turn " * (i % 2), answer="left") for i in range(count)]
    return asked, [[i % 2 == 0 for i in range(count)], [True] * count]


def test_a_router_learns_who_answers_what() -> None:
    """On questions it had not seen: all right, half of them by the small bundle."""
    asked, right = questions(100)
    accuracy, shares = routed(asked, ["s", "l"], right, 0.9)
    assert accuracy == 1.0
    assert shares == [0.5, 0.5]
    with pytest.raises(CalibrationError, match="too few to train a router"):
        train(asked[:10], ["s", "l"], [one[:10] for one in right])


def test_a_router_is_for_its_bundles(tmp_path: Path) -> None:
    """For others, in another order, damaged or of another version it is refused."""
    asked, right = questions(60)
    file = tmp_path / "router.json"
    router = train(asked, ["s", "l"], right)
    file.write_bytes(msgspec.json.encode(router))
    assert read_router(file, ["s", "l"]) == router
    with pytest.raises(BundleError, match="other bundles, or in another order"):
        read_router(file, ["l", "s"])
    file.write_bytes(msgspec.json.encode(msgspec.structs.replace(router, version=9)))
    with pytest.raises(BundleError, match="another version"):
        read_router(file, ["s", "l"])
    file.write_bytes(b"{")
    with pytest.raises(BundleError, match="make a router"):
        read_router(file, ["s", "l"])


def test_what_is_no_cascade_is_refused(tmp_path: Path, latency: Latency) -> None:
    """One bundle, one that is not calibrated, a threshold that is no probability, an impossible budget."""
    bundle = write_bundle(tmp_path / "plain")
    engine = ScriptedEngine(MockClock(), latency, thinker("a", lambda n: "left"), vocab_size=64, max_context=256)
    with Reasoner(engine, Codec(bundle), make_profile(latency, bundle.id, engine.spec), bundle) as plain:
        with pytest.raises(UsageError, match="two or more"):
            Cascade([plain])
        with pytest.raises(UsageError, match="not calibrated"):
            Cascade([plain, plain])
        assert plain.costs("what").thought_s is None


def test_sure_is_a_probability(cascade: MakeCascade) -> None:
    """Anything else is refused when the cascade is made."""
    with pytest.raises(UsageError, match="between 0 and 1"):
        cascade(0.6, 0.9, sure=1.5)


def test_route_trains_on_real_bundles(tmp_path: Path) -> None:
    """``anytime route`` asks every bundle every question and writes a router for them; it overwrites nothing."""
    reference = Path(__file__).parent.parent / "src" / "anytime" / "data" / "reference"
    file, out = tmp_path / "q.jsonl", tmp_path / "router.json"
    rows = [
        {
            "id": f"q{i}",
            "question": f"Ana has {i} cards. Ana buys 3. How many cards?",
            "answer": str(i + 3),
            "regex": r"\d{1,2}",
        }
        for i in range(50)
    ]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    arguments = ["route", str(reference), str(reference), "--questions", str(file), "--out", str(out), "--json"]
    result = anytime(*arguments)
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert sum(found["shares"]) == pytest.approx(1)
    assert read_router(out, found["bundles"]).probabilities(rows[0]["question"])[0] > 0.5  # type: ignore[arg-type]
    assert "already exists" in anytime(*arguments).stderr
    alone = anytime("route", reference, "--questions", file, "--out", tmp_path / "r")
    assert alone.exit_code == 2
    assert "needs no router" in alone.stderr
