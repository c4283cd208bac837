"""Answer formats: what an answer may look like, compiled to the tokens allowed next.

A format is described by the caller (``Choices``, ``Regex``, ``JsonSchema``, ``Text``), compiled once for a bundle, and
walked token by token by a ``Cursor``. Its longest answer is known before the clock starts, because the reserve that
is kept back for the answer depends on it.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from anytime.errors import AnswerFormatError, PromptError
from anytime.runtime.prompt import Codec

IdArray: TypeAlias = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, init=False)
class Choices:
    """One of the given texts."""

    texts: tuple[str, ...]

    def __init__(self, *texts: str) -> None:
        if len(texts) < 2:
            raise AnswerFormatError(f"Choices needs at least two texts, got {len(texts)}")
        if not all(isinstance(text, str) and text.strip() for text in texts):
            raise AnswerFormatError(f"Choices must be texts that are not empty, got {texts!r}")
        if len(set(texts)) != len(texts):
            raise AnswerFormatError(f"Choices must differ, got {texts!r}")
        object.__setattr__(self, "texts", texts)


@dataclass(frozen=True, slots=True)
class Regex:
    """Text that the whole pattern matches. ``max_tokens`` is needed where the pattern has no longest match."""

    pattern: str
    max_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class JsonSchema:
    """A JSON document of at most ``max_tokens`` tokens that a schema (JSON text or a mapping) allows."""

    schema: str
    max_tokens: int

    def __init__(self, schema: str | Mapping[str, Any], max_tokens: int) -> None:
        object.__setattr__(self, "schema", schema if isinstance(schema, str) else json.dumps(schema))
        object.__setattr__(self, "max_tokens", max_tokens)


@dataclass(frozen=True, slots=True)
class Text:
    """Free text of at most ``max_tokens`` tokens, up to the model's own end."""

    max_tokens: int = 16


AnswerFormat: TypeAlias = "Choices | Regex | JsonSchema | Text"


class Cursor(Protocol):
    """One answer being written."""

    def allowed(self) -> IdArray | None:
        """Token ids that may come next; None when all may."""
        ...

    def push(self, token: int) -> None:
        """Take the next token."""
        ...

    @property
    def done(self) -> bool: ...

    @property
    def text(self) -> str | None:
        """The answer; None when what was written is not one."""
        ...

    def confidence(self, probabilities: Sequence[float]) -> float:
        """From the probability of each token among those allowed."""
        ...


class Compiled(Protocol):
    """A format for one bundle. ``answer_steps``: engine steps an answer can need after its first token's."""

    @property
    def answer_steps(self) -> int: ...

    def start(self) -> Cursor: ...


def compile_format(answer: AnswerFormat, codec: Codec) -> Compiled:
    """Compile a format for a bundle.

    Raises:
        AnswerFormatError: nothing can match it, or its length is not bounded.
    """
    if isinstance(answer, Choices):
        return _CompiledChoices(answer, codec)
    if isinstance(answer, Text):
        return _CompiledText(_positive(answer.max_tokens), codec)
    if isinstance(answer, (Regex, JsonSchema)):
        from anytime.runtime.grammar import compile_grammar

        limit = longest_match(answer) if isinstance(answer, Regex) else answer.max_tokens
        return compile_grammar(answer, _positive(limit), codec)
    raise AnswerFormatError(f"unknown answer format {answer!r}: use Choices, Regex, JsonSchema or Text")


def _positive(max_tokens: int) -> int:
    if not isinstance(max_tokens, int) or max_tokens < 1:
        raise AnswerFormatError(f"max_tokens is {max_tokens!r}: it must be a whole number of at least 1")
    return max_tokens


def longest_match(answer: Regex) -> int:
    """Tokens of the longest answer: as given, or the pattern's own bound (a token holds at least one byte)."""
    try:
        _, longest = re._parser.parse(answer.pattern).getwidth()  # type: ignore[attr-defined]
    except (AttributeError, re.error) as error:
        if isinstance(error, AttributeError):  # Python 3.10 keeps it elsewhere
            return _longest_match_310(answer)
        raise AnswerFormatError(f"the pattern {answer.pattern!r} cannot be read: {error}") from error
    return _bounded(answer, longest)


def _longest_match_310(answer: Regex) -> int:
    import sre_parse

    try:
        _, longest = sre_parse.parse(answer.pattern).getwidth()
    except re.error as error:
        raise AnswerFormatError(f"the pattern {answer.pattern!r} cannot be read: {error}") from error
    return _bounded(answer, longest)


_UNBOUNDED_CHARS = 65_536


def _bounded(answer: Regex, longest: int) -> int:
    if answer.max_tokens is not None:
        return answer.max_tokens
    if longest >= _UNBOUNDED_CHARS:
        raise AnswerFormatError(
            f"the pattern {answer.pattern!r} has no longest match: bound its repeats, or give max_tokens"
        )
    return int(longest) * (1 if answer.pattern.isascii() else 4)


def geometric_mean(probabilities: Sequence[float]) -> float:
    """The mean in the log domain, 0 for no probabilities."""
    if not probabilities:
        return 0.0
    return math.exp(sum(math.log(max(p, 1e-300)) for p in probabilities) / len(probabilities))


@dataclass(slots=True)
class _Node:
    """A node of the choices' token tree; ``choice`` is the text that ends here, or the only one that can."""

    children: dict[int, _Node] = field(default_factory=dict)
    ends: str | None = None

    def only(self) -> str | None:
        """The text, when just one is left."""
        node = self
        while not node.ends and len(node.children) == 1:
            node = next(iter(node.children.values()))
        return node.ends if not node.children else None

    def depth(self) -> int:
        """Tokens to push until only one text is left."""
        if self.only() is not None:
            return 0
        return 1 + max(child.depth() for child in self.children.values())


class _CompiledChoices:
    """A tree of token sequences. No token is run once only one choice is left."""

    def __init__(self, answer: Choices, codec: Codec) -> None:
        self._root = _Node()
        self._stop = min(codec.stop_ids)
        for text in answer.texts:
            node = self._root
            for token in _encode_choice(text, codec):
                node = node.children.setdefault(token, _Node())
            if node is self._root or node.ends is not None:
                raise AnswerFormatError(f"the choice {text!r} has no tokens of its own in this model: reword it")
            node.ends = text
        self.answer_steps = max(0, self._root.depth() - 1)

    def start(self) -> Cursor:
        return _ChoicesCursor(self._root, self._stop)


def _encode_choice(text: str, codec: Codec) -> list[int]:
    try:
        codec.check(text)
        return codec.encode_text(text)
    except PromptError as error:
        raise AnswerFormatError(f"the choice {text!r} cannot be encoded: {error}") from error


class _ChoicesCursor:
    def __init__(self, node: _Node, stop: int) -> None:
        self._node, self._stop = node, stop
        self._stopped = False

    def allowed(self) -> IdArray | None:
        ids = [*self._node.children, *([self._stop] if self._node.ends else [])]
        return np.array(ids, dtype=np.int64)

    def push(self, token: int) -> None:
        if token == self._stop and self._node.ends:
            self._stopped = True
        else:
            self._node = self._node.children[token]

    @property
    def done(self) -> bool:
        return self._stopped or self._node.only() is not None

    @property
    def text(self) -> str | None:
        return self._node.ends if self._stopped else self._node.only()

    def confidence(self, probabilities: Sequence[float]) -> float:
        return math.prod(probabilities)


class _CompiledText:
    def __init__(self, max_tokens: int, codec: Codec) -> None:
        self._max_tokens, self._codec = max_tokens, codec
        self.answer_steps = max_tokens - 1

    def start(self) -> Cursor:
        return _TextCursor(self._max_tokens, self._codec)


class _TextCursor:
    def __init__(self, max_tokens: int, codec: Codec) -> None:
        self._max_tokens, self._codec = max_tokens, codec
        self._ids: list[int] = []
        self._stopped = False

    def allowed(self) -> IdArray | None:
        return None

    def push(self, token: int) -> None:
        if token in self._codec.stop_ids:
            self._stopped = True
        else:
            self._ids.append(token)

    @property
    def done(self) -> bool:
        return self._stopped or len(self._ids) >= self._max_tokens

    @property
    def text(self) -> str | None:
        return self._codec.decode(self._ids).strip() or None

    def confidence(self, probabilities: Sequence[float]) -> float:
        return geometric_mean(probabilities)
