"""``anytime run``: one question, or a file of them."""

from __future__ import annotations

import json
import statistics
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import Progress
from rich.table import Table

from anytime.cli.common import duration_s, err, measuring, out, reported
from anytime.cli.engines import EngineOption, Engines
from anytime.cli.live import live_view
from anytime.errors import AnswerFormatError, UsageError
from anytime.runtime.answer import Answer
from anytime.runtime.answers.formats import AnswerFormat, Choices, JsonSchema, Regex, Text
from anytime.runtime.engine import EngineName
from anytime.runtime.loading import find_profile, open_bundle
from anytime.runtime.questions import Question, read_questions, read_well_formed
from anytime.runtime.reasoner import Reasoner
from anytime.runtime.request import Request
from anytime.runtime.sampling import Sampling


@reported
def run(
    words: Annotated[list[str] | None, typer.Argument(metavar="[BUNDLE] QUESTION", show_default=False)] = None,
    budget: Annotated[str, typer.Option(help="Time for each answer, like 200ms or 1.5s.")] = "200ms",
    choices: Annotated[str | None, typer.Option(help="The answer is one of these: A,B,C.")] = None,
    regex: Annotated[str | None, typer.Option(help="The answer matches this pattern.")] = None,
    schema: Annotated[Path | None, typer.Option(help="The answer is JSON of the schema in this file.")] = None,
    max_tokens: Annotated[int | None, typer.Option(help="Longest answer, where the format has no bound.")] = None,
    questions: Annotated[Path | None, typer.Option(help="Answer every question of a .jsonl file.")] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Refuse a file with a malformed line.")] = False,
    fallback: Annotated[str, typer.Option(help="The answer when the model has none in time.")] = "",
    min_confidence: Annotated[float, typer.Option(help="Answers below this confidence are not returned.")] = 0.0,
    temperature: Annotated[float | None, typer.Option(help="0 is greedy; default: the bundle's.")] = None,
    top_p: Annotated[float, typer.Option(help="Sample from the smallest set with this probability.")] = 1.0,
    seed: Annotated[int, typer.Option(help="Seed of the sampling.")] = 0,
    policy: Annotated[str, typer.Option(help="How the time is spent: NAME or NAME:SETTING=VALUE,…")] = "auto",
    threads: Annotated[int | None, typer.Option(help="Threads of the engine; default: all cores but one.")] = None,
    engine: EngineOption = Engines.onnxruntime,
    profile: Annotated[Path | None, typer.Option(help="Use this latency profile.")] = None,
    estimate: Annotated[bool, typer.Option("--estimate", help="Accept a profile of another key.")] = False,
    speculate: Annotated[bool, typer.Option("--speculate", help="Let the thought guess ahead where it pays.")] = False,
    isolated: Annotated[bool, typer.Option("--isolated", help="Think in a process of its own.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object a line.")] = False,
) -> None:
    """Answer a question by its deadline.

    BUNDLE is a directory written by 'anytime export'; without it the reference reasoner answers.
    """
    bundle, question = _split(words or [], questions)
    budget_s = duration_s(budget)
    answer = _format(choices, regex, schema, max_tokens)
    asked = _asked(questions, strict) if questions else [Question(id="1", question=question)]
    sampling = None if temperature is None else Sampling(temperature, top_p, seed)
    with _opened(bundle, threads, engine.value, profile, estimate, speculate, isolated) as reasoner:
        session = _Session(reasoner, budget_s, answer, fallback, min_confidence, sampling, policy)
        if questions is None:
            session.one(asked[0], as_json)
        else:
            session.many(asked, as_json)


def _opened(
    bundle: str | None,
    threads: int | None,
    engine: EngineName,
    profile: Path | None,
    estimate: bool,
    speculate: bool,
    isolated: bool,
) -> Reasoner:
    if isolated:
        return Reasoner.load(
            bundle,
            threads=threads,
            engine=engine,
            profile=profile,
            estimate=estimate,
            speculate=speculate,
            isolated=True,
        )
    loaded = open_bundle(bundle, threads, engine)
    with measuring() as progress:
        measured = find_profile(loaded, profile, estimate, progress)
    reasoner = Reasoner(loaded.engine, loaded.codec, measured, loaded.bundle, speculate=speculate)
    reasoner.watch_clocks()
    return reasoner


def _split(words: list[str], questions: Path | None) -> tuple[str | None, str]:
    """BUNDLE and QUESTION from the positional arguments."""
    wanted = 0 if questions else 1
    if not wanted <= len(words) <= wanted + 1:
        expected = "[BUNDLE]" if questions else "[BUNDLE] QUESTION"
        raise UsageError(f"expected {expected}, got {len(words)} arguments: put the question in quotes")
    bundle = words[0] if len(words) > wanted else None
    return bundle, "" if questions else words[-1]


def _asked(file: Path, strict: bool) -> list[Question]:
    """The questions of a file; unless strict, malformed lines are named on stderr and left out."""
    if strict:
        return read_questions(file)
    questions, malformed = read_well_formed(file)
    for error in malformed:
        line = f"warning: {error}; the line is left out"
        print(line.encode("utf-8", "backslashreplace").decode(), file=sys.stderr)  # a path may be no Unicode
    return questions


def _format(choices: str | None, regex: str | None, schema: Path | None, max_tokens: int | None) -> AnswerFormat:
    given = [name for name, value in (("choices", choices), ("regex", regex), ("schema", schema)) if value is not None]
    if len(given) > 1:
        raise AnswerFormatError(f"--{' and --'.join(given)} given: give one")
    if choices is not None:
        return Choices(*(text.strip() for text in choices.split(",")))
    if regex is not None:
        return Regex(regex, max_tokens)
    if schema is not None:
        if max_tokens is None:
            raise AnswerFormatError("--schema needs --max-tokens, the longest answer there can be")
        try:
            return JsonSchema(schema.read_text(encoding="utf-8"), max_tokens)
        except (OSError, UnicodeDecodeError) as error:
            raise AnswerFormatError(f"the schema {schema} cannot be read: {error}") from error
    return Text() if max_tokens is None else Text(max_tokens)


class _Session:
    """One way of asking, for one question or many."""

    def __init__(
        self,
        reasoner: Reasoner,
        budget_s: float,
        answer: AnswerFormat,
        fallback: str,
        min_confidence: float,
        sampling: Sampling | None,
        policy: str,
    ) -> None:
        self._reasoner, self._answer = reasoner, answer
        self._request: Request = {
            "budget": budget_s,
            "fallback": fallback,
            "min_confidence": min_confidence,
            "sampling": sampling,
            "policy": policy,
        }

    def one(self, question: Question, as_json: bool) -> None:
        """Ask and print; on a terminal, show the thought as it grows."""
        answer_format = question.format() or self._answer
        self._reasoner.prepare(answer_format)
        request: Request = {**self._request, "answer": answer_format}
        pending = self._reasoner.submit(question.question, **request)
        if as_json or not sys.stdout.isatty():
            answer = pending.result()
        else:
            with live_view(pending, err):
                answer = pending.result()
        if as_json:
            _print_json(answer, question)
        elif sys.stdout.isatty():
            out.print(_card(answer))
        else:
            print(answer.text)

    def many(self, questions: list[Question], as_json: bool) -> None:
        """Ask one after the other, then sum up."""
        answers = []
        with Progress(console=err, transient=True) as progress:
            for question in progress.track(questions, description="answering"):
                answer_format = question.format() or self._answer
                self._reasoner.prepare(answer_format)
                request: Request = {**self._request, "answer": answer_format, "request_id": question.id}
                answer = self._reasoner.answer(question.question, **request)
                answers.append(answer)
                if as_json:
                    _print_json(answer, question)
        (err if as_json else out).print(_summary(questions, answers))


def _print_json(answer: Answer, question: Question) -> None:
    record = {**answer.record(), "id": question.id}
    if question.answer is not None:
        record["correct"] = answer.text == question.answer
    print(json.dumps(record, ensure_ascii=False), flush=True)


def _card(answer: Answer) -> Table:
    table = Table(show_header=False, box=None)
    rows = {
        "answer": answer.text or "(none)",
        "confidence": f"{answer.confidence:.3f}" + ("" if answer.calibrated else " (not calibrated)"),
        "from": f"{answer.source}, stopped: {answer.stopped}" + (f" ({answer.reason})" if answer.reason else ""),
        "time": f"{answer.elapsed_s * 1e3:.1f} of {answer.budget_s * 1e3:.0f} ms" + (", LATE" if answer.late else ""),
        "thought": f"{answer.tokens.thought} tokens (cap {answer.token_cap})",
    }
    for name, value in rows.items():
        table.add_row(f"[bold]{name}", value)
    return table


def _summary(questions: list[Question], answers: list[Answer]) -> Table:
    known = [(q.answer, a.text) for q, a in zip(questions, answers, strict=True) if q.answer is not None]
    table = Table(title=f"{len(answers)} questions", show_header=False)
    table.add_row("on time", f"{sum(not a.late for a in answers)} of {len(answers)}")
    table.add_row("answered by the model", f"{sum(a.valid for a in answers)} of {len(answers)}")
    if known:
        right = sum(expected == got for expected, got in known)
        table.add_row("accuracy", f"{100 * right / len(known):.1f} % of {len(known)}")
    table.add_row("slack, median", f"{statistics.median(a.slack_s for a in answers) * 1e3:.1f} ms")
    table.add_row("thought, median", f"{statistics.median(a.tokens.thought for a in answers):.0f} tokens")
    return table
