"""Answer formats: what the caller says an answer may look like.

Their longest answer is known before the clock starts, because the reserve kept back for the answer depends on it.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import msgspec

from anytime.errors import AnswerFormatError

if sys.version_info >= (3, 11):
    from re import _parser
else:
    import sre_parse as _parser


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


class Regex(msgspec.Struct, frozen=True):
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


class Text(msgspec.Struct, frozen=True):
    """Free text of at most ``max_tokens`` tokens, up to the model's own end."""

    max_tokens: int = 16


AnswerFormat: TypeAlias = "Choices | Regex | JsonSchema | Text"


def longest_match(answer: Regex) -> int:
    """Tokens of the longest answer: as given, or the pattern's own bound (a token holds at least one byte)."""
    try:
        _, longest = _parser.parse(answer.pattern).getwidth()
    except (re.error, TypeError) as error:
        raise AnswerFormatError(f"the pattern {answer.pattern!r} cannot be read: {error}") from error
    return _bounded(answer, longest)


_UNBOUNDED_CHARS = 65_536
_BEYOND_ASCII = re.compile(r"\.|\\[wWDS]|\[\^")  # may match characters of up to four bytes


def _bounded(answer: Regex, longest: int) -> int:
    if answer.max_tokens is not None:
        return answer.max_tokens
    if longest >= _UNBOUNDED_CHARS:
        raise AnswerFormatError(
            f"the pattern {answer.pattern!r} has no longest match: bound its repeats, or give max_tokens"
        )
    plain = answer.pattern.isascii() and not _BEYOND_ASCII.search(answer.pattern)
    return int(longest) * (1 if plain else 4)
