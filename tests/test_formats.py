"""Choices and free text, token by token. Grammars are in test_grammar.py."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from anytime.errors import AnswerFormatError
from anytime.runtime.answers.compiling import compile_format
from anytime.runtime.answers.cursors import Compiled, Cursor, geometric_mean
from anytime.runtime.answers.formats import Choices, JsonSchema, Text
from anytime.runtime.prompt import Codec
from tests.conftest import ID, write_bundle


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Codec:
    return Codec(write_bundle(tmp_path_factory.mktemp("formats") / "tiny"))


def ids(cursor: Cursor) -> set[int]:
    allowed = cursor.allowed()
    assert allowed is not None
    return set(allowed.tolist())


def say(compiled: Compiled, *words: str) -> Cursor:
    """Push words (tokens), each of which must be allowed and needed."""
    cursor = compiled.start()
    for word in words:
        assert not cursor.done
        assert ID[word] in ids(cursor)
        cursor.push(ID[word])
    return cursor


def test_one_token_decides_between_choices_that_differ_at_once(codec: Codec) -> None:
    """'left' and 'right' are one token each: the first one decides and no further step is needed."""
    compiled = compile_format(Choices("left", "right"), codec)
    assert compiled.answer_steps == 0
    assert ids(compiled.start()) == {ID["left"], ID["right"]}
    assert say(compiled, "right").text == "right"
    assert say(compiled, "right").done


def test_what_is_left_of_a_choice_is_not_written(codec: Codec) -> None:
    """Once one choice is left its remaining tokens cost no steps."""
    compiled = compile_format(Choices("abcdef", "bcdefg"), codec)
    assert compiled.answer_steps == 0
    assert say(compiled, "b").text == "bcdefg"


def test_a_shared_prefix_is_walked(codec: Codec) -> None:
    """Choices are told apart where they part, two shared tokens later."""
    compiled = compile_format(Choices("abc", "abd", "x"), codec)
    assert compiled.answer_steps == 2
    undecided = say(compiled, "a", "b")
    assert not undecided.done
    assert undecided.text is None
    assert ids(undecided) == {ID["c"], ID["d"]}
    assert say(compiled, "a", "b", "d").text == "abd"
    assert say(compiled, "x").text == "x"


def test_a_choice_may_begin_another(codec: Codec) -> None:
    """Where one choice ends inside another, the model's own end decides for the shorter."""
    compiled = compile_format(Choices("1", "12", "123"), codec)
    assert compiled.answer_steps == 2
    assert ids(say(compiled, "1")) == {ID["2"], ID["<end>"]}
    assert say(compiled, "1", "<end>").text == "1"
    assert say(compiled, "1", "2", "<end>").text == "12"
    assert say(compiled, "1", "2", "3").text == "123"


texts = st.lists(st.text("ab12", min_size=1, max_size=5), min_size=2, max_size=6, unique=True)


@given(texts, st.randoms(use_true_random=False))
def test_any_walk_ends_in_a_choice_within_the_steps(shared: Codec, texts: list[str], rng: random.Random) -> None:
    """Whatever tokens are taken among the allowed ones, a choice comes out and the reserve was long enough."""
    compiled = compile_format(Choices(*texts), shared)
    cursor, pushed = compiled.start(), 0
    while not cursor.done:
        cursor.push(rng.choice(sorted(ids(cursor))))
        pushed += 1
    assert cursor.text in texts
    assert pushed <= compiled.answer_steps + 1


@given(texts)
def test_every_choice_can_be_said_and_one_needs_all_the_steps(shared: Codec, texts: list[str]) -> None:
    """No choice is lost in the tree, and no more is kept back than the longest needs."""
    compiled = compile_format(Choices(*texts), shared)
    most = 0
    for text in texts:
        cursor, words = compiled.start(), [*text, "<end>"]
        pushed = 0
        while not cursor.done:
            cursor.push(ID[words[pushed]])
            pushed += 1
        assert cursor.text == text
        most = max(most, pushed)
    assert compiled.answer_steps == most - 1


@pytest.mark.parametrize(
    ("texts", "why"),
    [
        ((), "at least two"),
        (("left",), "at least two"),
        (("left", "left"), "must differ"),
        (("left", ""), "not empty"),
        (("left", " \n"), "not empty"),
        (("left", 1), "must be texts"),
        (("left", None), "must be texts"),
    ],
)
def test_choices_that_are_none_are_refused(texts: tuple[Any, ...], why: str) -> None:
    """One choice, equal ones, empty ones and what is not text are refused where they are written."""
    with pytest.raises(AnswerFormatError, match=why):
        Choices(*texts)


def test_choices_that_the_model_cannot_tell_apart_are_refused(codec: Codec) -> None:
    """Two texts that become the same tokens cannot both be answers."""
    with pytest.raises(AnswerFormatError, match="'ü' has no tokens of its own"):
        compile_format(Choices("é", "ü"), codec)


def test_a_choice_that_is_no_unicode_is_refused(codec: Codec) -> None:
    """A lone surrogate is a mistake in the format, not in the prompt."""
    with pytest.raises(AnswerFormatError, match="cannot be encoded"):
        compile_format(Choices("\ud800", "left"), codec)


def test_the_confidence_of_a_choice_is_its_likelihood_among_the_choices(codec: Codec) -> None:
    """The product over its tokens, so that the confidences of all choices add up to 1."""
    compiled = compile_format(Choices("1", "12", "x"), codec)
    assert compiled.start().confidence([0.5, 0.25]) == pytest.approx(0.125)
    assert compiled.start().confidence([0.7]) == pytest.approx(0.7)


def test_text_ends_at_the_models_own_end(codec: Codec) -> None:
    """The end token is not part of the answer, nor is white space around it."""
    cursor = compile_format(Text(max_tokens=5), codec).start()
    for word in ("\n", "a", "b", "<end>"):
        assert not cursor.done
        assert cursor.allowed() is None
        cursor.push(ID[word])
    assert cursor.done
    assert cursor.text == "ab"


def test_text_ends_at_its_longest(codec: Codec) -> None:
    """max_tokens tokens are an answer: the first and answer_steps more."""
    compiled = compile_format(Text(max_tokens=3), codec)
    cursor = compiled.start()
    for word in "abc":
        cursor.push(ID[word])
    assert compiled.answer_steps == 2
    assert cursor.done
    assert cursor.text == "abc"


@pytest.mark.parametrize("words", [["<end>"], ["\n", "<end>"]])
def test_empty_text_is_no_answer(codec: Codec, words: list[str]) -> None:
    """A model that ends at once has said nothing."""
    cursor = compile_format(Text(), codec).start()
    for word in words:
        cursor.push(ID[word])
    assert cursor.done
    assert cursor.text is None


@pytest.mark.parametrize("answer", [Text(0), Text(-1), Text("5"), JsonSchema({}, 0)])  # type: ignore[arg-type]
def test_a_length_that_is_none_is_refused(codec: Codec, answer: Any) -> None:
    """max_tokens is a whole number of at least 1."""
    with pytest.raises(AnswerFormatError, match="whole number of at least 1"):
        compile_format(answer, codec)


def test_what_is_no_format_is_refused(codec: Codec) -> None:
    """The message lists the formats there are."""
    with pytest.raises(AnswerFormatError, match="use Choices, Regex, JsonSchema or Text"):
        compile_format("left", codec)  # type: ignore[arg-type]


@given(st.lists(st.floats(1e-6, 1.0), min_size=1, max_size=50))
def test_the_confidence_of_text_is_the_geometric_mean(probabilities: list[float]) -> None:
    """Long answers are not punished for their length."""
    expected = float(np.prod(np.array(probabilities, dtype=np.longdouble))) ** (1 / len(probabilities))
    assert geometric_mean(probabilities) == pytest.approx(expected, rel=1e-6)


def test_the_geometric_mean_of_the_impossible() -> None:
    """No probabilities are 0; a probability of 0 raises nothing."""
    assert geometric_mean([]) == 0.0
    assert geometric_mean([0.0, 1.0]) == pytest.approx(0.0, abs=1e-100)
