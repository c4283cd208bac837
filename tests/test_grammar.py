"""Regular expressions and JSON schemas, token by token."""

from __future__ import annotations

import json
import random
import re
import sys
from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anytime.errors import AnswerFormatError
from anytime.runtime.answers.compiling import compile_format
from anytime.runtime.answers.cursors import Compiled, Cursor
from anytime.runtime.answers.formats import JsonSchema, Regex
from anytime.runtime.prompt import Codec
from tests.conftest import ID
from tests.doubles import byte_level_codec

END = ID["<end>"]
SCHEMA = {
    "type": "object",
    "properties": {"left": {"type": "integer"}, "go": {"enum": ["yes", "no"]}},
    "required": ["left", "go"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def bytes_codec(tmp_path_factory: pytest.TempPathFactory) -> Codec:
    return byte_level_codec(tmp_path_factory.mktemp("grammar") / "bytes")


def say(compiled: Compiled, tokens: Iterable[int]) -> Cursor:
    """Push tokens until the answer is done, each of which must be allowed."""
    cursor = compiled.start()
    for token in tokens:
        if cursor.done:
            break
        allowed = cursor.allowed()
        assert allowed is not None
        assert token in allowed
        cursor.push(token)
    return cursor


@pytest.mark.parametrize(
    ("pattern", "steps"), [("[0-9]{1,3}", 2), ("left|right", 4), ("a", 0), ("(ab){2,5}c?", 10), ("é{2}", 7)]
)
def test_a_pattern_is_bounded_by_its_own_width(bytes_codec: Codec, pattern: str, steps: int) -> None:
    """The longest match, a token a byte, is what is kept back."""
    assert compile_format(Regex(pattern), bytes_codec).answer_steps == steps


@pytest.mark.parametrize("pattern", ["[0-9]+", "a*", "(ab){2,}", "a.*b"])
def test_an_unbounded_pattern_needs_max_tokens(bytes_codec: Codec, pattern: str) -> None:
    """Without a longest match there is no reserve that suffices; with max_tokens there is."""
    with pytest.raises(AnswerFormatError, match=r"has no longest match.*max_tokens"):
        compile_format(Regex(pattern), bytes_codec)
    assert compile_format(Regex(pattern, max_tokens=6), bytes_codec).answer_steps == 5


@pytest.mark.parametrize("pattern", ["(", "a{2,1}", "[z-a]", "*", "a(?=b)", r"\bleft"])
def test_a_pattern_that_cannot_be_read_is_refused(bytes_codec: Codec, pattern: str) -> None:
    """Malformed patterns, and those that no automaton can hold."""
    with pytest.raises(AnswerFormatError, match=r"cannot be read|cannot be compiled"):
        compile_format(Regex(pattern), bytes_codec)


@pytest.mark.parametrize("answer", [Regex(r"[^\s\S]"), Regex(r"[^\s\S]", max_tokens=4), Regex("", max_tokens=4)])
def test_a_pattern_that_nothing_matches_is_refused(bytes_codec: Codec, answer: Regex) -> None:
    """What can only be left empty is no answer."""
    with pytest.raises(AnswerFormatError, match="nothing can match"):
        compile_format(answer, bytes_codec)


@pytest.mark.parametrize("text", ["7", "42", "421", "left"])
def test_a_match_can_be_said_with_merged_tokens(bytes_codec: Codec, text: str) -> None:
    """The tokens that the tokenizer itself would use are allowed."""
    compiled = compile_format(Regex("[0-9]{1,3}|left"), bytes_codec)
    cursor = say(compiled, [*bytes_codec.encode_text(text), END])
    assert cursor.done
    assert cursor.text == text


PATTERNS = ["[0-9]{1,3}", "left|lefty|right", "(a|b){2,4}c?", "-?[0-9]{1,2}(\\.[0-9])?", "(left)?(right)?[xy]"]


@settings(deadline=None)
@given(st.sampled_from(PATTERNS), st.randoms(use_true_random=False))
def test_any_walk_ends_in_a_match_within_the_steps(bytes_codec: Codec, pattern: str, rng: random.Random) -> None:
    """Whatever tokens are taken among the allowed ones, the pattern matches and the reserve was long enough."""
    compiled = compile_format(Regex(pattern), bytes_codec)
    cursor, pushed = compiled.start(), 0
    while not cursor.done:
        allowed = cursor.allowed()
        assert allowed is not None
        cursor.push(rng.choice(allowed.tolist()))
        pushed += 1
    assert cursor.text is not None
    assert re.fullmatch(pattern, cursor.text)
    # A match that could go on ends with the end token, which needs no step of its own behind the last one.
    assert pushed <= compiled.answer_steps + 1


def test_an_answer_cut_off_by_max_tokens_is_none(bytes_codec: Codec) -> None:
    """Half a match is not handed over."""
    compiled = compile_format(Regex("[0-9]{5,9}", max_tokens=3), bytes_codec)
    cursor = say(compiled, bytes_codec.encode_text("13579"))
    assert cursor.done
    assert cursor.text is None


def test_cursors_do_not_share_their_state(bytes_codec: Codec) -> None:
    """A probe's answer leaves the next one a fresh start."""
    compiled = compile_format(Regex("ab|ba"), bytes_codec)
    assert say(compiled, bytes_codec.encode_text("ab")).text == "ab"
    assert say(compiled, bytes_codec.encode_text("ba")).text == "ba"


def test_a_schema_makes_json(bytes_codec: Codec) -> None:
    """What the schema allows can be said and parses."""
    document = '{"left": -42, "go": "no"}'
    compiled = compile_format(JsonSchema(SCHEMA, max_tokens=40), bytes_codec)
    cursor = say(compiled, [*bytes_codec.encode_text(document), END])
    assert compiled.answer_steps == 39
    assert cursor.done
    assert cursor.text is not None
    assert json.loads(cursor.text) == {"left": -42, "go": "no"}


def test_what_a_schema_forbids_is_not_allowed(bytes_codec: Codec) -> None:
    """A key of another name cannot be begun."""
    cursor = say(compile_format(JsonSchema(SCHEMA, 40), bytes_codec), bytes_codec.encode_text('{"'))
    allowed = cursor.allowed()
    assert allowed is not None
    assert bytes_codec.encode_text("left")[0] in allowed
    assert bytes_codec.encode_text("r")[0] not in allowed


def test_json_cut_off_is_none(bytes_codec: Codec) -> None:
    """Half a document does not parse, so it is no answer."""
    cursor = say(compile_format(JsonSchema(SCHEMA, 4), bytes_codec), bytes_codec.encode_text('{"left": 1'))
    assert cursor.done
    assert cursor.text is None


def test_a_schema_may_be_text_or_a_mapping() -> None:
    """Both are the same format, so that it is compiled once."""
    assert JsonSchema(json.dumps(SCHEMA), 40) == JsonSchema(SCHEMA, 40)


@pytest.mark.parametrize("schema", ["{", "[]", '{"type": "nonsense"}', '{"enum": []}'])
def test_a_schema_that_cannot_be_used_is_refused(bytes_codec: Codec, schema: str) -> None:
    """Malformed schemas, and those that nothing satisfies."""
    with pytest.raises(AnswerFormatError, match=r"cannot be read|cannot be compiled"):
        compile_format(JsonSchema(schema, 40), bytes_codec)


def test_confidence_leaves_out_what_the_grammar_forced(bytes_codec: Codec) -> None:
    """Of 'a1b', only the digit was the model's choice."""
    cursor = say(compile_format(Regex("a[0-9]b"), bytes_codec), bytes_codec.encode_text("a1b"))
    assert cursor.confidence([1.0, 0.25, 1.0]) == pytest.approx(0.25)


def test_confidence_is_full_where_nothing_was_open(bytes_codec: Codec) -> None:
    """An answer that could not have been another one is certain."""
    cursor = say(compile_format(Regex("ab"), bytes_codec), bytes_codec.encode_text("ab"))
    assert cursor.confidence([1.0, 1.0]) == 1.0


def test_without_llguidance_the_error_names_the_extra(bytes_codec: Codec, monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing optional library is said, with the command that installs it."""
    monkeypatch.setitem(sys.modules, "llguidance", None)
    with pytest.raises(AnswerFormatError, match=r"pip install 'anytime\[grammar\]'"):
        compile_format(Regex("ab"), bytes_codec)


def test_a_tokenizer_that_llguidance_cannot_read_is_said(codec: Codec) -> None:
    """The tiny tokenizer has no bytes: the message says what still works with it."""
    with pytest.raises(AnswerFormatError, match="use Choices, or Text"):
        compile_format(Regex("left"), codec)
