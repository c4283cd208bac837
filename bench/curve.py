"""Accuracy against the deadline, from real runs on the wall clock: ``python -m bench.curve [--plot FILE.svg]``."""

from __future__ import annotations

import itertools
import statistics
import sys
from pathlib import Path

from rich.table import Table

from anytime import Answer, Reasoner
from anytime.runtime.questions import Question, read_questions
from bench.intervals import clopper_pearson
from bench.report import ROOT, Report, parser, progress
from bench.thoughts import some

BUDGETS_MS = (5, 7, 10, 14, 20, 30, 50, 75, 100, 150, 200, 300, 500, 700)
DOMAINS = ("drive", "sums")
COUNT, QUICK_COUNT, TURN = 200, 10, 20

Runs = dict[str, dict[int, list[tuple[Question, Answer]]]]


def main() -> int:
    options = parser("curve", __doc__ or "")
    options.add_argument("--plot", type=Path, metavar="FILE", help="draw the curve here (.svg or .png)")
    args = options.parse_args()
    report = Report("curve", args.json)
    runs = _measure(QUICK_COUNT if args.quick else COUNT)
    if args.plot:
        _draw(runs, args.plot, report.environment)
    samples = {
        domain: {
            str(b): [[q.id, a.text == q.answer, a.late, a.source, a.tokens.thought] for q, a in pairs]
            for b, pairs in by.items()
        }
        for domain, by in runs.items()
    }
    return report.finish([], samples, _table(runs))


def _measure(count: int) -> Runs:
    """Every question at every budget; the budgets take turns, so that drift of the machine hits all alike.

    A turn is of several questions, so that none is asked again while its prompt is still in the prefix cache.
    """
    runs: Runs = {domain: {budget_ms: [] for budget_ms in BUDGETS_MS} for domain in DOMAINS}
    with Reasoner.load() as reasoner, progress() as bar:
        task = bar.add_task("answering", total=count * len(DOMAINS) * len(BUDGETS_MS))
        for domain in DOMAINS:
            questions = some(read_questions(ROOT / "data" / "questions" / f"{domain}.test.jsonl"), count)
            turns = [questions[i : i + TURN] for i in range(0, len(questions), TURN)]
            for turn, budget_ms in itertools.product(turns, BUDGETS_MS):
                for question in turn:
                    answer_format = question.format()
                    assert answer_format is not None
                    answer = reasoner.answer(question.question, budget=budget_ms / 1e3, answer=answer_format)
                    runs[domain][budget_ms].append((question, answer))
                    bar.update(task, advance=1, refresh=True)
    return runs


def _accuracy(pairs: list[tuple[Question, Answer]]) -> tuple[float, float, float]:
    """Percent right with its 95 % interval."""
    right = sum(a.text == q.answer for q, a in pairs)
    low, high = clopper_pearson(right, len(pairs))
    return 100 * right / len(pairs), 100 * low, 100 * high


def _table(runs: Runs) -> Table:
    table = Table(title="Accuracy of the answer returned by the deadline")
    for heading in ("domain", "deadline", "right", "95 % interval", "late", "thought tokens", "complete"):
        table.add_column(heading, justify="right")
    for domain, by_budget in runs.items():
        for budget_ms, pairs in by_budget.items():
            accuracy, low, high = _accuracy(pairs)
            table.add_row(
                domain,
                f"{budget_ms} ms",
                f"{accuracy:.1f} %",
                f"{low:.1f}-{high:.1f}",
                str(sum(a.late for _, a in pairs)),
                f"{statistics.median(a.tokens.thought for _, a in pairs):.0f}",
                f"{100 * statistics.fmean(a.stopped == 'complete' for _, a in pairs):.0f} %",
            )
    return table


def _draw(runs: Runs, file: Path, environment: dict[str, object]) -> None:
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4))
    for domain, by_budget in runs.items():
        points = [_accuracy(pairs) for pairs in by_budget.values()]
        middle, low, high = zip(*points, strict=True)
        axes.plot(BUDGETS_MS, middle, marker="o", label={"drive": "highway scenes", "sums": "word problems"}[domain])
        axes.fill_between(BUDGETS_MS, low, high, alpha=0.15)
    axes.set(xscale="log", xlabel="deadline (ms)", ylabel="right answers by the deadline (%)", ylim=(0, 102))
    axes.set_xticks(BUDGETS_MS, [str(b) for b in BUDGETS_MS])
    axes.minorticks_off()
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right")
    axes.set_title(f"{environment['processor']}, {environment['date']}", fontsize=8)
    figure.tight_layout()
    figure.savefig(file, metadata={"Date": None} if file.suffix == ".svg" else None)


if __name__ == "__main__":
    sys.exit(main())
