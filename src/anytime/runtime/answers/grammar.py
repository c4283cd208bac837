"""Regular expressions and JSON schemas, through llguidance (extra ``[grammar]``)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from anytime.errors import AnswerFormatError
from anytime.runtime.answers.cursors import Compiled, Cursor, IdArray, geometric_mean
from anytime.runtime.answers.formats import JsonSchema, Regex
from anytime.runtime.prompt import Codec

if TYPE_CHECKING:
    from llguidance import LLMatcher, LLTokenizer


def compile_grammar(answer: Regex | JsonSchema, max_tokens: int, codec: Codec) -> Compiled:
    """Compile for a bundle.

    Raises:
        AnswerFormatError: llguidance is not installed, or rejects the grammar, or nothing can match it.
    """
    try:
        from llguidance import LLMatcher
    except ImportError as error:
        raise AnswerFormatError("Regex and JsonSchema need llguidance: pip install 'anytime[grammar]'") from error
    try:
        if isinstance(answer, Regex):
            grammar = LLMatcher.grammar_from_regex(answer.pattern)
        else:
            grammar = LLMatcher.grammar_from_json_schema(answer.schema)
    except ValueError as error:
        raise AnswerFormatError(f"the answer format cannot be read: {error}") from error
    compiled = _CompiledGrammar(grammar, max_tokens, codec)
    cursor = compiled.start()
    allowed = cursor.allowed()
    if allowed is None or codec.stop_ids.issuperset(allowed.tolist()):
        raise AnswerFormatError(f"nothing can match {answer!r}: correct the pattern or schema")
    return compiled


class _CompiledGrammar:
    kind = "grammar"

    def __init__(self, grammar: str, max_tokens: int, codec: Codec) -> None:
        from llguidance import LLMatcher, LLTokenizer

        self._codec, self._max_tokens = codec, max_tokens
        try:
            tokenizer: LLTokenizer = LLTokenizer(
                codec.tokenizer_json, n_vocab=codec.vocab_size, eos_token=min(codec.stop_ids)
            )
        except ValueError as error:
            raise AnswerFormatError(
                f"llguidance cannot constrain this model's tokenizer ({error}): use Choices, or Text"
            ) from error
        self._matcher = LLMatcher(tokenizer, grammar, log_level=0)
        if self._matcher.is_error():
            raise AnswerFormatError(f"the answer format cannot be compiled: {self._matcher.get_error()}")
        self.answer_steps = max_tokens - 1

    def start(self) -> Cursor:
        return _GrammarCursor(self._matcher.deep_copy(), self._max_tokens, self._codec)


class _GrammarCursor:
    def __init__(self, matcher: LLMatcher, max_tokens: int, codec: Codec) -> None:
        self._matcher: Any = matcher
        self._max_tokens, self._codec = max_tokens, codec
        self._ids: list[int] = []
        self._forced: list[bool] = []

    def allowed(self) -> IdArray | None:
        mask = np.frombuffer(self._matcher.compute_bitmask(), dtype=np.uint8)
        ids = np.flatnonzero(np.unpackbits(mask, bitorder="little")[: self._codec.vocab_size])
        self._forced.append(len(ids) == 1)
        return ids

    def push(self, token: int) -> None:
        self._matcher.consume_token(token)
        if token not in self._codec.stop_ids:
            self._ids.append(token)

    @property
    def done(self) -> bool:
        return bool(self._matcher.is_stopped()) or len(self._ids) >= self._max_tokens

    @property
    def text(self) -> str | None:
        return self._codec.decode(self._ids) if self._matcher.is_accepting() or self._finished() else None

    def _finished(self) -> bool:
        return bool(self._matcher.is_stopped()) and not self._matcher.is_error()

    def confidence(self, probabilities: Sequence[float]) -> float:
        free = [p for p, forced in zip(probabilities, self._forced, strict=False) if not forced]
        return geometric_mean(free) if free else 1.0
