"""Several questions with one deadline: packed into one prompt where that is sooner, else answered in turn."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anytime import answer_together
from anytime.bundle import Chat, Frame
from anytime.errors import BudgetError, UsageError
from anytime.ext.latency import Latency
from anytime.runtime.answers.formats import AnswerFormat, Choices, JsonSchema, Regex, Text
from anytime.runtime.loading import open_bundle
from anytime.runtime.packing import packed_format, packed_prompt, parts
from anytime.runtime.prompt import Codec
from anytime.runtime.reasoner import Reasoner
from anytime.testing import MockClock, ScriptedEngine
from tests.conftest import ID, WORDS, make_profile, write_bundle

DIGIT = Choices(*"123456789")


def script(tokens: Sequence[int]) -> int:
    """Thinks a moment, then answers each question with the digit in it."""
    if ID["<think>"] not in tokens:
        return ID["<pad>"]
    start = tokens.index(ID["<think>"])
    asked = [line for line in _split(tokens[:start], ID["\n"]) if line]
    said = tokens[start + 1 :]
    if ID["</think>"] not in said:
        return ID["a"] if len(said) < 4 * len(asked) else ID["</think>"]
    answered = said[said.index(ID["</think>"]) + 1 :]
    words = [next(t for t in reversed(line) if WORDS[t].isdigit()) for line in asked]
    return words[len(answered)] if len(answered) < len(words) else ID["<end>"]


def _split(tokens: Sequence[int], at: int) -> list[list[int]]:
    lines: list[list[int]] = [[]]
    for token in tokens:
        if token == at:
            lines.append([])
        else:
            lines[-1].append(token)
    return lines


def reasoner(path: Path, latency: Latency, packs: int) -> tuple[Reasoner, ScriptedEngine, MockClock]:
    clock = MockClock(start_ns=10**9)
    bundle = write_bundle(path, chat=Chat("", "", Frame("", "<think>"), "</think>", (1,), packs=packs))
    engine = ScriptedEngine(clock, latency, script, vocab_size=64, max_context=256)
    return Reasoner(engine, Codec(bundle), make_profile(latency, bundle.id, engine.spec), bundle, clock), engine, clock


def test_questions_are_answered_in_their_order(tmp_path: Path, latency: Latency) -> None:
    """A bundle that was not trained for several takes them in turn, each with an answer of its own, all on time."""
    asked, engine, clock = reasoner(tmp_path / "one", latency, packs=1)
    with asked:
        answers = answer_together(asked, ["a 1", "b 2", "c 3"], budget=0.1, answer=DIGIT)
    assert [answer.text for answer in answers] == ["1", "2", "3"]
    assert all(answer.stopped == "complete" for answer in answers)
    assert clock.now() <= 10**9 + 100_000_000
    assert sum(tokens > 2 for tokens, _ in engine.runs) == 3  # a prefill each


def test_every_question_has_its_answer_when_time_is_short(tmp_path: Path, latency: Latency) -> None:
    """The first leaves time for the others' floors, so that all are answered by the model."""
    asked, _, clock = reasoner(tmp_path / "one", latency, packs=1)
    with asked:
        floor = asked.floor("a 1", DIGIT)
        for times in (3.2, 4.0, 6.0):
            began_ns = clock.now()
            answers = answer_together(asked, ["a 1", "b 2", "c 3"], budget=times * floor, answer=DIGIT)
            assert [answer.text for answer in answers] == ["1", "2", "3"]
            assert clock.now() - began_ns <= times * floor * 1e9


def test_a_veto_is_asked_of_each_answer(tmp_path: Path, latency: Latency) -> None:
    """In turn, only the vetoed question falls back."""
    asked, _, _ = reasoner(tmp_path / "one", latency, packs=1)
    with asked:
        answers = answer_together(
            asked, ["a 1", "b 2"], budget=0.1, answer=DIGIT, accept=lambda text: text != "2", fallback="9"
        )
    assert [(answer.text, answer.valid) for answer in answers] == [("1", True), ("9", False)]


def test_only_the_hardest_share_is_thought_about(tmp_path: Path, latency: Latency) -> None:
    """The mixing factor: the longer questions think, the others are answered at once; nothing is out of order."""
    asked, _, _ = reasoner(tmp_path / "one", latency, packs=1)
    prompts = ["a 1", "a long question 2", "b 3", "one that is long 4"]
    with asked:
        for slow, thought in ((0.0, []), (0.5, [1, 3]), (1.0, [0, 1, 2, 3])):
            answers = answer_together(asked, prompts, budget=0.5, answer=DIGIT, slow=slow)
            assert [answer.text for answer in answers] == ["1", "2", "3", "4"]
            assert [i for i, answer in enumerate(answers) if answer.tokens.thought] == thought
        with pytest.raises(UsageError, match="between 0 and 1"):
            answer_together(asked, prompts, budget=0.5, slow=2.0)


def test_no_question_and_no_budget_are_errors(tmp_path: Path, latency: Latency) -> None:
    """There is nothing to answer, or no time by which."""
    asked, _, _ = reasoner(tmp_path / "one", latency, packs=1)
    with asked:
        with pytest.raises(UsageError, match="give one or more"):
            answer_together(asked, [], budget=1.0)
        with pytest.raises(BudgetError, match="neither"):
            answer_together(asked, ["a 1"])


@given(st.lists(st.integers(0, 99).map(str), min_size=2, max_size=5))
def test_a_packed_format_is_taken_apart_again(answers: list[str]) -> None:
    """So many answers of the format, separated by commas, and no other number of them."""
    import re

    packed = packed_format(Regex(r"\d{1,2}"), len(answers))
    assert packed is not None
    text = ", ".join(answers)
    assert re.fullmatch(packed.pattern, text)
    assert not re.fullmatch(packed.pattern, text + ", 1")
    assert parts(text, Regex(r"\d{1,2}"), len(answers)) == answers


@pytest.mark.parametrize("answer", [Text(), JsonSchema("{}", 5), Regex("(?P<name>a|b)")])
def test_what_cannot_be_packed_is_not(answer: AnswerFormat) -> None:
    """Free text, JSON, and a pattern that can stand only once are asked one at a time."""
    assert packed_format(answer, 2) is None


def test_an_answer_may_hold_the_separator() -> None:
    """Packed answers are taken apart by their format, not at every comma."""
    places = Choices("a, b", "c", "a")
    assert parts("a, b, c", places, 2) == ["a, b", "c"]
    assert parts("a, c", places, 2) == ["a", "c"]
    assert parts("x, y, z", Regex("[a-z](, [a-z])?"), 2) == ["x, y", "z"]


def test_the_reference_answers_several_in_one_prompt() -> None:
    """It was trained for it: two small word problems, one prefill, both right, where the profile says it is sooner."""
    prompts = [
        "Ana has 12 cards. Ana buys 5. How many cards?",
        "Ben has 30 tiles. Ben loses 10. Ben finds 4. How many tiles?",
    ]
    loaded = open_bundle(None, threads=1)
    quick = Latency(alpha=1.0, beta=20_000.0, gamma=5_000_000.0, p=10.0, q=60_000.0)  # steps cost less than prompts
    profile = make_profile(quick, loaded.bundle.id, loaded.engine.spec)
    with Reasoner(loaded.engine, loaded.codec, profile, loaded.bundle) as real:
        packed = answer_together(real, prompts, budget=5.0, answer=Regex(r"\d{1,2}"), policy="until-deadline")
    assert real.bundle.manifest.chat.packs > 1
    assert [answer.text for answer in packed] == ["17", "24"]
    assert packed[0].request_id.endswith(".1")
    assert packed[0].tokens == packed[1].tokens
    assert packed_prompt(prompts).splitlines()[1].startswith("2. Ben")
