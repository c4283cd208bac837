"""Question files: one JSON object a line.

``{"id", "question", "answer"?, "choices"? | "regex"? | "schema"?, "max_tokens"?, "difficulty"?, "grader"?}``
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import msgspec

from anytime.errors import AnswerFormatError, QuestionFileError
from anytime.runtime.answers.formats import AnswerFormat, Choices, JsonSchema, Regex, Text, longest_match


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
    grader: Literal["exact", "number", "math"] = "exact"
    """How an answer is compared with ``answer``: as text, as a decimal number, or as mathematics."""

    def format(self) -> AnswerFormat | None:
        """The answer format it asks for, if it does; ``max_tokens`` alone asks for free text of that length."""
        if self.choices is not None:
            return Choices(*self.choices)
        if self.regex is not None:
            return Regex(self.regex, self.max_tokens)
        if self.schema is not None:
            if self.max_tokens is None:
                raise AnswerFormatError("a schema needs max_tokens beside it")
            return JsonSchema(self.schema, self.max_tokens)
        return None if self.max_tokens is None else Text(self.max_tokens)


def read_questions(path: Path) -> list[Question]:
    """Read a whole file, every line of which must be well-formed; empty lines are skipped.

    Raises:
        QuestionFileError: a line is malformed, with file and line number, or the file is empty or cannot be read.
    """
    questions, malformed = read_well_formed(path)
    if malformed:
        raise malformed[0]
    return questions


def read_well_formed(path: Path) -> tuple[list[Question], list[QuestionFileError]]:
    """The questions of a file, and an error with file and line number for each malformed line; empty ones are skipped.

    Raises:
        QuestionFileError: no line is well-formed, or the file is empty or cannot be read.
    """
    try:
        lines = path.read_bytes().split(b"\n")
    except OSError as error:
        raise QuestionFileError(f"{path} cannot be read ({error.strerror}): give a .jsonl file") from error
    questions, malformed = [], []
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                questions.append(_read(line, f"{path}:{number}"))
            except QuestionFileError as error:
                malformed.append(error)
    if not questions and malformed:
        raise QuestionFileError(f"{malformed[0]}; no line of the file is well-formed") from malformed[0]
    if not questions:
        raise QuestionFileError(f"{path} holds no question: one JSON object a line, see docs/cli.md")
    return questions, malformed


def _read(line: bytes, where: str) -> Question:
    try:
        question = msgspec.json.decode(line, type=Question)
        check(question)
    except (msgspec.DecodeError, AnswerFormatError, UnicodeDecodeError, RecursionError) as error:
        raise QuestionFileError(f"{where}: {error}; expected an object like {{'id': 'q1', 'question': '…'}}") from error
    return question


def check(question: Question) -> None:
    """What would otherwise end a run half-way, where the line is no longer known.

    Raises:
        AnswerFormatError: there is nothing to ask, or the answer format is ambiguous, unreadable or unbounded.
    """
    if not question.question.strip():
        raise AnswerFormatError("the question is empty")
    if sum(kind is not None for kind in (question.choices, question.regex, question.schema)) > 1:
        raise AnswerFormatError("more than one of choices, regex and schema")
    if question.max_tokens is not None and question.max_tokens < 1:
        raise AnswerFormatError(f"max_tokens is {question.max_tokens}, it must be at least 1")
    answer = question.format()
    if isinstance(answer, Regex):
        longest_match(answer)
