"""Question files: one JSON object a line, ``{"id", "question", "answer"?, "choices"? | "regex"? | "schema"?}``."""

from __future__ import annotations

from pathlib import Path

import msgspec

from anytime.errors import AnswerFormatError, QuestionFileError
from anytime.runtime.formats import AnswerFormat, Choices, JsonSchema, Regex


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """One line of a question file."""

    id: str
    question: str
    answer: str | None = None
    choices: list[str] | None = None
    regex: str | None = None
    schema: dict[str, object] | None = None
    max_tokens: int | None = None
    difficulty: float | None = None

    def format(self) -> AnswerFormat | None:
        """The answer format it asks for, if it does."""
        if self.choices is not None:
            return Choices(*self.choices)
        if self.regex is not None:
            return Regex(self.regex, self.max_tokens)
        if self.schema is not None:
            if self.max_tokens is None:
                raise AnswerFormatError("a schema needs max_tokens beside it")
            return JsonSchema(self.schema, self.max_tokens)
        return None


def read_questions(path: Path) -> list[Question]:
    """Read a whole file; empty lines are skipped.

    Raises:
        QuestionFileError: a line is malformed, with file and line number, or the file is empty or cannot be read.
    """
    try:
        lines = path.read_bytes().split(b"\n")
    except OSError as error:
        raise QuestionFileError(f"{path} cannot be read ({error.strerror}): give a .jsonl file") from error
    questions = [_read(line, f"{path}:{i}") for i, line in enumerate(lines, 1) if line.strip()]
    if not questions:
        raise QuestionFileError(f"{path} holds no question: one JSON object a line, see docs/cli.md")
    return questions


def _read(line: bytes, where: str) -> Question:
    try:
        question = msgspec.json.decode(line, type=Question)
        if sum(kind is not None for kind in (question.choices, question.regex, question.schema)) > 1:
            raise AnswerFormatError("more than one of choices, regex and schema")
        question.format()
    except (msgspec.DecodeError, AnswerFormatError, UnicodeDecodeError) as error:
        raise QuestionFileError(f"{where}: {error}; expected an object like {{'id': 'q1', 'question': '…'}}") from error
    return question
