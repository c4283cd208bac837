"""What the commands share: errors as one line with the right exit code, durations, progress."""

from __future__ import annotations

import contextlib
import functools
import math
import os
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import ParamSpec, TypeVar

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from anytime.errors import AnytimeError, BudgetError, QuestionFileError, UsageError
from anytime.runtime.questions import Question, read_well_formed

WRONG_USE, FAILURE = 2, 1
_UNITS_S = {"us": 1e-6, "ms": 1e-3, "s": 1.0}

out = Console()
err = Console(stderr=True)

P = ParamSpec("P")
R = TypeVar("R")


def reported(command: Callable[P, R]) -> Callable[P, R]:
    """Turn the package's errors and Ctrl-C into one line on stderr and an exit code; no traceback."""

    @functools.wraps(command)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return command(*args, **kwargs)
        except UsageError as error:
            _say(str(error))
            raise typer.Exit(WRONG_USE) from None
        except AnytimeError as error:
            _say(str(error))
            raise typer.Exit(FAILURE) from None
        except KeyboardInterrupt:
            raise typer.Exit(interrupted()) from None
        except BrokenPipeError:  # the reader of our output has gone, which is its right
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(FAILURE) from None

    return wrapped


def interrupted() -> int:
    """Say so in a line; the exit code."""
    _say("interrupted; nothing was left half-written, run the same command again")
    return FAILURE


def _say(message: str) -> None:
    print(f"error: {message}".encode("utf-8", "backslashreplace").decode(), file=sys.stderr)


def duration_s(text: str) -> float:
    """``200ms``, ``0.2s`` or ``500us`` in seconds.

    Raises:
        BudgetError: it is not a finite number with a unit.
    """
    match = re.fullmatch(r"\s*([-+]?[0-9.eE+-]+|nan|[-+]?inf(?:inity)?)\s*(us|ms|s)\s*", text, re.IGNORECASE)
    try:
        value = float(match.group(1)) if match else math.nan
    except ValueError:
        value = math.nan
    if match is None or not math.isfinite(value):
        raise BudgetError(f"the duration {text!r} cannot be read: write a number with us, ms or s, like 200ms")
    return value * _UNITS_S[match.group(2).lower()]


@contextlib.contextmanager
def measuring() -> Iterator[Callable[[str, float], None]]:
    """A progress bar for measurements: call it with what is being measured and how much of it is done."""
    columns = (TextColumn("measuring {task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=err, transient=True) as progress:
        tasks: dict[str, object] = {}

        def report(what: str, done: float) -> None:
            if what not in tasks:
                tasks[what] = progress.add_task(what, total=1.0)
            progress.update(tasks[what], completed=done)  # type: ignore[arg-type]

        yield report


def with_answers(file: Path, strict: bool) -> list[Question]:
    """The questions of a file that have answers; unless strict, malformed lines are named and left out."""
    questions, malformed = read_well_formed(file)
    if strict and malformed:
        raise malformed[0]
    for error in malformed:
        err.print(f"[yellow]warning:[/yellow] {error}; the line is left out")
    known = [question for question in questions if question.answer is not None]
    if not known:
        raise QuestionFileError(f"no question of {file} has an answer: add them, or give another file")
    return known
