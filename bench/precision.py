"""What do fewer bits cost? Accuracy of the reference checkpoint exported in every precision, on the same questions.

``python -m bench.precision [--quick] [--json FILE]``.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from rich.table import Table

from anytime.export import export_checkpoint
from anytime.runtime.loading import open_bundle
from bench.reference import DOMAINS, accuracy, questions_of
from bench.report import ROOT, Figure, Report, parser, progress
from bench.thoughts import Passage, Thinker

EXACT = "fp32"
MOST_LOSS = {"fp16": 1.0, "int8": 1.0, "int4": 2.0}
SHARES = (0.0, 1.0)  # of the thought: an instant answer, and the whole of it


def main() -> int:
    args = parser("precision", __doc__ or "").parse_args()
    report = Report("precision", args.json)
    passages: dict[str, dict[str, list[Passage]]] = {}
    sizes: dict[str, float] = {}
    for precision in (EXACT, *MOST_LOSS):
        with tempfile.TemporaryDirectory() as scratch:
            out = Path(scratch) / precision
            bundle = export_checkpoint(ROOT / "checkpoints" / "reference", out, precision=precision)  # type: ignore[arg-type]
            sizes[precision] = sum(file.size for file in bundle.manifest.files.values()) / 1e6
            passages[precision] = _think(out, precision, args.quick)
    samples = {
        precision: {
            domain: [[p.question.id, p.thought_tokens, p.answers] for p in group] for domain, group in found.items()
        }
        for precision, found in passages.items()
    }
    return report.finish(_figures(passages), samples, _table(passages, sizes), [])


def _think(bundle: Path, what: str, quick: bool) -> dict[str, list[Passage]]:
    thinker = Thinker(open_bundle(bundle))
    groups = {domain: questions_of(domain, quick) for domain in DOMAINS}
    with progress() as bar:
        task = bar.add_task(what, total=sum(map(len, groups.values())))
        found: dict[str, list[Passage]] = {domain: [] for domain in DOMAINS}
        for domain, questions in groups.items():
            for question in questions:
                found[domain].append(thinker.passage(question, SHARES))
                bar.update(task, advance=1, refresh=True)
    return found


def _figures(passages: dict[str, dict[str, list[Passage]]]) -> list[Figure]:
    figures = []
    for precision, most in MOST_LOSS.items():
        for domain in DOMAINS:
            loss = accuracy(passages[EXACT][domain], 1) - accuracy(passages[precision][domain], 1)
            name = f"{domain}: accuracy lost to {precision} after the full thought, points"
            figures.append(Figure(name, loss, f"≤ {most}", loss <= most))
    return figures


def _table(passages: dict[str, dict[str, list[Passage]]], sizes: dict[str, float]) -> Table:
    table = Table(title="Accuracy (%) by precision of the weights, without thought and with all of it")
    for heading in ("precision", "bundle MB"):
        table.add_column(heading, justify="right")
    for domain in DOMAINS:
        for heading in (f"{domain} instant", f"{domain} full", "tokens"):
            table.add_column(heading, justify="right")
    for precision, found in passages.items():
        cells = []
        for domain in DOMAINS:
            group = found[domain]
            length = sum(p.thought_tokens for p in group) / len(group)
            cells += [f"{accuracy(group, 0):.1f}", f"{accuracy(group, 1):.1f}", f"{length:.0f}"]
        table.add_row(precision, f"{sizes[precision]:.1f}", *cells)
    return table


if __name__ == "__main__":
    sys.exit(main())
