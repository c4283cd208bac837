"""From an answer format to its compiled form for a bundle, done once and before the clock starts."""

from __future__ import annotations

from anytime.errors import AnswerFormatError
from anytime.runtime.answers.cursors import Compiled, CompiledChoices, CompiledText
from anytime.runtime.answers.formats import AnswerFormat, Choices, JsonSchema, Regex, Text, longest_match
from anytime.runtime.answers.grammar import compile_grammar
from anytime.runtime.prompt import Codec


def compile_format(answer: AnswerFormat, codec: Codec) -> Compiled:
    """Compile a format for a bundle.

    Raises:
        AnswerFormatError: nothing can match it, or its length is not bounded.
    """
    if isinstance(answer, Choices):
        return CompiledChoices(answer, codec)
    if isinstance(answer, Text):
        return CompiledText(_positive(answer.max_tokens), codec)
    if isinstance(answer, (Regex, JsonSchema)):
        limit = longest_match(answer) if isinstance(answer, Regex) else answer.max_tokens
        return compile_grammar(answer, _positive(limit), codec)
    raise AnswerFormatError(f"unknown answer format {answer!r}: use Choices, Regex, JsonSchema or Text")


def _positive(max_tokens: int) -> int:
    if not isinstance(max_tokens, int) or max_tokens < 1:
        raise AnswerFormatError(f"max_tokens is {max_tokens!r}: it must be a whole number of at least 1")
    return max_tokens
