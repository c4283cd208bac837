"""Does the reference reasoner gain from thinking? Accuracy after every share of its thought, beside a control.

``python -m bench.reference [--quick] [--json FILE]``. Held-out questions: scenes recorded from highway-env and word
problems. The control has the same size and saw the same questions, but was trained only to answer directly.
"""

from __future__ import annotations

import collections
import itertools
import statistics
import sys
import tempfile
from pathlib import Path

from rich.table import Table

from anytime.export import export_checkpoint
from anytime.runtime.loading import open_bundle
from anytime.runtime.questions import Question, read_questions
from bench.report import ROOT, Figure, Report, parser, progress
from bench.thoughts import FRACTIONS, Passage, Thinker, some

DOMAINS = ("drive", "sums")
LEAST_FULL = {"drive": 97.0, "sums": 95.0}
LEAST_GAIN = {"drive": 15.0, "sums": 40.0}
CONTROL_WITHIN = 3.0
MOST_FALL = 1.0
QUICK_COUNT = 24


def main() -> int:
    options = parser("reference", __doc__ or "")
    options.add_argument("--bundle", type=Path, help="default: the reference that ships with the package")
    options.add_argument("--control", type=Path, default=ROOT / "checkpoints" / "control", help="its checkpoint")
    args = options.parse_args()
    report = Report("reference", args.json)
    questions = {domain: questions_of(domain, args.quick) for domain in DOMAINS}
    passages = _think(args.bundle, questions, FRACTIONS, "thinking")
    with tempfile.TemporaryDirectory() as scratch:
        export_checkpoint(args.control, Path(scratch) / "control")
        control = _think(Path(scratch) / "control", questions, (0.0,), "control")
    figures = [figure for domain in DOMAINS for figure in _figures(domain, passages[domain], control[domain])]
    notes = [line for domain in DOMAINS for line in _notes(domain, passages[domain], control[domain])]
    samples = {
        name: {d: [_sample(p) for p in group[d]] for d in DOMAINS}
        for name, group in (("reference", passages), ("control", control))
    }
    return report.finish(figures, samples, _table(passages, control), notes)


def questions_of(domain: str, quick: bool) -> list[Question]:
    every = read_questions(ROOT / "data" / "questions" / f"{domain}.test.jsonl")
    return some(every, QUICK_COUNT) if quick else every


def _think(
    bundle: Path | None, questions: dict[str, list[Question]], fractions: tuple[float, ...], what: str
) -> dict[str, list[Passage]]:
    thinker = Thinker(open_bundle(bundle))
    passages: dict[str, list[Passage]] = {domain: [] for domain in DOMAINS}
    with progress() as bar:
        task = bar.add_task(what, total=sum(map(len, questions.values())))
        for domain, group in questions.items():
            for question in group:
                passages[domain].append(thinker.passage(question, fractions))
                bar.update(task, advance=1, refresh=True)
    return passages


def accuracy(passages: list[Passage], i: int) -> float:
    """Percent right at the i-th fraction."""
    return 100 * statistics.fmean(p.right(i) for p in passages)


def balanced(passages: list[Passage], i: int) -> float:
    """Percent right, every right answer weighing the same however often it occurs."""
    groups = collections.defaultdict(list)
    for p in passages:
        groups[p.question.answer].append(p)
    return statistics.fmean(accuracy(group, i) for group in groups.values())


def _figures(domain: str, passages: list[Passage], control: list[Passage]) -> list[Figure]:
    curve = [accuracy(passages, i) for i in range(len(FRACTIONS))]
    none, full, direct = curve[0], curve[-1], accuracy(control, 0)
    fall = max(a - b for a, b in itertools.pairwise(curve))
    least, gain = LEAST_FULL[domain], LEAST_GAIN[domain]
    return [
        Figure(f"{domain}: accuracy with the full thought, %", full, f"≥ {least}", full >= least),
        Figure(f"{domain}: full thought minus no thought, points", full - none, f"≥ {gain}", full - none >= gain),
        Figure(
            f"{domain}: no thought minus direct-answer control, points",
            none - direct,
            f"≥ -{CONTROL_WITHIN}",
            none - direct >= -CONTROL_WITHIN,
        ),
        Figure(
            f"{domain}: largest fall from one fraction to the next, points", fall, f"≤ {MOST_FALL}", fall <= MOST_FALL
        ),
    ]


def _table(passages: dict[str, list[Passage]], control: dict[str, list[Passage]]) -> Table:
    table = Table(title="Accuracy (%) after a share of the thought, by difficulty (vehicles, steps)")
    for heading in ("domain", "difficulty", "questions", "thought tokens", "control"):
        table.add_column(heading, justify="right")
    for fraction in FRACTIONS:
        table.add_column(f"{fraction:.0%}", justify="right")
    for domain in DOMAINS:
        levels = sorted({p.question.difficulty for p in passages[domain]}, key=float)  # type: ignore[arg-type]
        for level in levels:
            group = [p for p in passages[domain] if p.question.difficulty == level]
            direct = [p for p in control[domain] if p.question.difficulty == level]
            table.add_row(domain, f"{level:g}", *_row(group, direct))
        table.add_row(domain, "all", *_row(passages[domain], control[domain]), style="bold")
        cells = [f"{balanced(passages[domain], i):.1f}" for i in range(len(FRACTIONS))]
        table.add_row(domain, "balanced", "", "", f"{balanced(control[domain], 0):.1f}", *cells, end_section=True)
    return table


def _row(group: list[Passage], direct: list[Passage]) -> list[str]:
    length = statistics.median(p.thought_tokens for p in group)
    cells = [f"{accuracy(group, i):.1f}" for i in range(len(FRACTIONS))]
    return [str(len(group)), f"{length:.0f}", f"{accuracy(direct, 0):.1f}", *cells]


def _notes(domain: str, passages: list[Passage], control: list[Passage]) -> list[str]:
    """Is the model's own probability its accuracy? Which answer should a bank return, the latest or the surest?"""
    last = len(FRACTIONS) - 1
    gaps = [100 * statistics.fmean(p.confidences[i] for p in passages) - accuracy(passages, i) for i in range(last + 1)]
    notes = [f"{domain}: mean confidence minus accuracy at each fraction: " + ", ".join(f"{gap:+.1f}" for gap in gaps)]
    for i in range(1, last + 1):
        surest = 100 * statistics.fmean(
            p.right(max(range(i + 1), key=lambda j: (p.confidences[j], j))) for p in passages
        )
        notes.append(
            f"{domain}: stopped at {FRACTIONS[i]:.0%}, "
            f"the latest answer is right in {accuracy(passages, i):.1f} %, the surest so far in {surest:.1f} %"
        )
    complete = 100 * statistics.fmean(p.complete for p in passages)
    notes.append(
        f"{domain}: {complete:.1f} % of the thoughts ended by themselves; control {accuracy(control, 0):.1f} %"
    )
    if domain == "drive":
        dense = [p.thought_tokens for p in passages if (p.question.difficulty or 0) >= 8]
        if dense:
            notes.append(f"drive: median full thought at 8 to 12 vehicles: {statistics.median(dense):.0f} tokens")
    return notes


def _sample(p: Passage) -> list[object]:
    return [p.question.id, p.thought_tokens, p.complete, p.answers, [round(c, 4) for c in p.confidences]]


if __name__ == "__main__":
    sys.exit(main())
