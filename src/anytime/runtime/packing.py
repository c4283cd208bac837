"""Several small questions in one prompt, for bundles whose model was trained for it (DRQA, 2508.17803).

The questions stand in a numbered list, one a line; the answers are expected in the same order, separated by commas.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import msgspec

from anytime.runtime.answer import Answer
from anytime.runtime.answers.formats import AnswerFormat, Choices, Regex

SEPARATOR = ", "


def packed_prompt(prompts: Sequence[str]) -> str:
    return "\n".join(f"{i}. {prompt}" for i, prompt in enumerate(prompts, 1))


def packed_format(answer: AnswerFormat, count: int) -> Regex | None:
    """So many answers in a row; None where the format has no pattern that can stand more than once."""
    pattern = _pattern(answer)
    if pattern is None or _apart(pattern, count) is None:
        return None
    bound = answer.max_tokens if isinstance(answer, Regex) else None
    longest = None if bound is None else count * (bound + len(SEPARATOR))
    return Regex(f"(?:{pattern})(?:{SEPARATOR}(?:{pattern})){{{count - 1}}}", longest)


def _pattern(answer: AnswerFormat) -> str | None:
    if isinstance(answer, Choices):
        return "|".join(map(re.escape, answer.texts))
    return answer.pattern if isinstance(answer, Regex) else None


def _apart(pattern: str, count: int) -> re.Pattern[str] | None:
    """Takes packed answers apart by their own pattern: an answer may hold the separator."""
    try:
        return re.compile(SEPARATOR.join(f"(?P<_{i}>{pattern})" for i in range(count)))
    except re.error:  # a group that has a name can stand once only
        return None


def packable(prompt: str) -> bool:
    """Whether a question can stand on a line of its own."""
    return "\n" not in prompt


def unpacked(answer: Answer, asked: AnswerFormat, count: int) -> list[Answer]:
    """The answer of each question, all as sure as they are together; the same fallback for all."""
    if count == 1:
        return [answer]
    texts = parts(answer.text, asked, count) if answer.valid else [answer.text] * count
    return [
        msgspec.structs.replace(answer, text=text, request_id=f"{answer.request_id}.{i}")
        for i, text in enumerate(texts, 1)
    ]


def parts(text: str, asked: AnswerFormat, count: int) -> list[str]:
    """The answers in a text of the packed format."""
    apart = _apart(_pattern(asked) or "", count)
    match = apart.fullmatch(text) if apart else None
    assert match is not None, f"{text!r} was written in the packed format"
    return [match[f"_{i}"] for i in range(count)]
