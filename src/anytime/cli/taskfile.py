"""Task files: TOML, a ``[[task]]`` table for each periodic task. ``docs/admit.md`` has the fields."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec

from anytime.cli.common import duration_s
from anytime.errors import TaskFileError, UsageError
from anytime.runtime.answers.formats import Text
from anytime.runtime.questions import Question, check
from anytime.runtime.workload import PeriodicTask
from anytime.scheduler.clock import NS_PER_S, seconds_to_ns
from anytime.scheduler.taskset import LONGEST_PERIOD_NS

_LONGEST_S = LONGEST_PERIOD_NS // NS_PER_S
_NO_QUESTION = "?"  # where only its length is given


class _Row(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    name: str
    period: str
    deadline: str | None = None
    phase: str = "0ms"
    prompt_tokens: int | None = None
    question: str | None = None
    choices: list[str] | None = None
    regex: str | None = None
    schema: dict[str, object] | None = None
    max_tokens: int | None = None
    priority: int = 0
    min_quality: float | None = None


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    task: list[dict[str, object]] = []


def read_tasks(path: Path) -> list[PeriodicTask]:
    """The tasks of a file, in its order.

    Raises:
        TaskFileError: it cannot be read, holds no task, or a task is malformed or impossible; the message names it.
    """
    tasks = [_task(table, where(path, i, table)) for i, table in enumerate(_tables(path))]
    names: set[str] = set()
    for i, task in enumerate(tasks):
        if task.name in names:
            raise TaskFileError(f"{where(path, i, task)}: another task has this name: give each its own")
        names.add(task.name)
    return tasks


def where(path: Path, place: int, task: dict[str, object] | PeriodicTask) -> str:
    """A task for people: its file, its number from 1 on, its name if it has one."""
    name = task.name if isinstance(task, PeriodicTask) else task.get("name")
    return f"{path}: task {place + 1}" + (f" ({name!r})" if name else "")


def _tables(path: Path) -> Sequence[dict[str, object]]:
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib

    try:
        file = msgspec.convert(tomllib.loads(path.read_text(encoding="utf-8")), _File)
    except OSError as error:
        raise TaskFileError(f"{path} cannot be read ({error.strerror}): give a .toml file of tasks") from error
    except (ValueError, RecursionError) as error:  # not UTF-8, not TOML, other tables
        raise TaskFileError(f"{path} is no task file ({error}): expected [[task]] tables, see docs/admit.md") from error
    if not file.task:
        raise TaskFileError(f"{path} holds no task: write a [[task]] table for each, see docs/admit.md")
    return file.task


def _task(table: dict[str, object], at: str) -> PeriodicTask:
    try:
        row = msgspec.convert(table, _Row)
        return _checked(row)
    except (UsageError, msgspec.ValidationError) as error:
        raise TaskFileError(f"{at}: {error}") from error


def _checked(row: _Row) -> PeriodicTask:
    period_ns, phase_ns = _duration_ns("period", row.period), _duration_ns("phase", row.phase, 0)
    deadline_ns = period_ns if row.deadline is None else _duration_ns("deadline", row.deadline)
    if not row.name.strip():
        raise TaskFileError("the name is empty: give each task its own")
    if deadline_ns > period_ns:
        raise TaskFileError(f"the deadline {row.deadline!r} is longer than the period {row.period!r}: shorten it")
    if (row.prompt_tokens is None) == (row.question is None):
        given = "both prompt_tokens and question" if row.question is not None else "neither prompt_tokens nor question"
        raise TaskFileError(f"{given} given: give exactly one")
    if row.prompt_tokens is not None and row.prompt_tokens < 1:
        raise TaskFileError(f"prompt_tokens is {row.prompt_tokens}: it must be at least 1")
    if row.min_quality is not None and not 0.0 <= row.min_quality <= 1.0:
        raise TaskFileError(f"min_quality is {row.min_quality}: it is a probability, between 0 and 1")
    question = Question(
        id=row.name,
        question=_NO_QUESTION if row.question is None else row.question,
        choices=row.choices,
        regex=row.regex,
        schema=row.schema,
        max_tokens=row.max_tokens,
    )
    check(question)
    return PeriodicTask(
        name=row.name,
        period_ns=period_ns,
        deadline_ns=deadline_ns,
        phase_ns=phase_ns,
        prompt=row.prompt_tokens if row.prompt_tokens is not None else question.question,
        answer=question.format() or Text(),
        priority=row.priority,
        min_quality=row.min_quality,
    )


def _duration_ns(field: str, text: str, least_ns: int = 1) -> int:
    seconds = duration_s(text)
    if not 0 <= seconds <= _LONGEST_S or seconds_to_ns(seconds) < least_ns:
        bound = "more than 0" if least_ns else "0 or more"
        raise TaskFileError(f"the {field} is {text!r}: it must be {bound}, and at most {_LONGEST_S}s")
    return seconds_to_ns(seconds)
