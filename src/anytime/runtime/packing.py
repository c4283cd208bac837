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
    """So many answers in a row; None where the format has no pattern, or an answer may hold the separator."""
    if isinstance(answer, Choices):
        if any(SEPARATOR.strip() in text for text in answer.texts):
            return None
        pattern, longest = "|".join(map(re.escape, answer.texts)), None
    elif isinstance(answer, Regex):
        pattern = answer.pattern
        longest = None if answer.max_tokens is None else count * (answer.max_tokens + len(SEPARATOR))
    else:
        return None
    return Regex(f"(?:{pattern})(?:{SEPARATOR}(?:{pattern})){{{count - 1}}}", longest)


def packable(prompt: str) -> bool:
    """Whether a question can stand on a line of its own."""
    return "\n" not in prompt


def unpacked(answer: Answer, count: int) -> list[Answer]:
    """The answer of each question, all as sure as they are together; the same fallback for all."""
    if count == 1:
        return [answer]
    texts = parts(answer.text) if answer.valid else [answer.text] * count
    return [
        msgspec.structs.replace(answer, text=text, request_id=f"{answer.request_id}.{i}")
        for i, text in enumerate(texts, 1)
    ]


def parts(text: str) -> list[str]:
    return text.split(SEPARATOR)
