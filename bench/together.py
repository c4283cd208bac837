"""What do several questions in one prompt bring, and does ``answer_together`` know? Four small word problems.

``python -m bench.together [--quick] [--json FILE]``. Held-out problems of one to three steps, with ample time for each.
"""

from __future__ import annotations

import itertools
import statistics
import sys
import time
from collections.abc import Callable, Sequence

from rich.table import Table

from anytime import Answer, Reasoner, Regex, answer_together
from anytime.runtime.loading import find_profile, open_bundle
from anytime.runtime.packing import packed_format, packed_prompt, unpacked
from anytime.runtime.questions import Question, read_questions
from bench.report import ROOT, Figure, Report, parser, progress

GROUP, MOST_STEPS, QUICK = 4, 3, 8
BUDGET_S = 1.0
MOST_LOST = 1.0  # points of accuracy
MOST_TIME = 1.15  # its own planning included
POLICY = "until-deadline"
FORMAT = Regex(r"\d{1,2}")


def main() -> int:
    args = parser("together", __doc__ or "").parse_args()
    report = Report("together", args.json)
    loaded = open_bundle(None, threads=1)
    profile = find_profile(loaded, None, False)
    groups = _groups(QUICK if args.quick else None)
    with Reasoner(loaded.engine, loaded.codec, profile, loaded.bundle) as reasoner:
        assert reasoner.bundle.manifest.chat.packs >= GROUP, "the reference was trained for groups of this size"

        def in_turn(prompts: Sequence[str]) -> list[Answer]:
            return [reasoner.answer(prompt, budget=BUDGET_S, answer=FORMAT, policy=POLICY) for prompt in prompts]

        def packed(prompts: Sequence[str]) -> list[Answer]:
            several = packed_format(FORMAT, len(prompts))
            assert several is not None
            answer = reasoner.answer(packed_prompt(prompts), budget=BUDGET_S, answer=several, policy=POLICY)
            return unpacked(answer, FORMAT, len(prompts))

        def together(prompts: Sequence[str]) -> list[Answer]:
            return answer_together(reasoner, prompts, budget=BUDGET_S, answer=FORMAT, policy=POLICY)

        found = _measure(groups, {"in turn": in_turn, "packed": packed, "answer_together": together})
    times = {name: statistics.median(ms for ms, _, _ in rows) for name, rows in found.items()}
    rights = {name: 100 * statistics.fmean(n / GROUP for _, n, _ in rows) for name, rows in found.items()}
    best = min(times["in turn"], times["packed"])
    ratio, lost = times["answer_together"] / best, max(rights.values()) - rights["answer_together"]
    figures = [
        Figure(
            "answer_together's time over that of the faster way, median", ratio, f"≤ {MOST_TIME}", ratio <= MOST_TIME
        ),
        Figure("accuracy lost by answer_together, points", lost, f"≤ {MOST_LOST}", lost <= MOST_LOST),
    ]
    table = Table(title=f"{len(groups)} groups of {GROUP} word problems of 1 to {MOST_STEPS} steps")
    for heading in ("", "right, %", "ms, median", "thought tokens, mean"):
        table.add_column(heading, justify="right" if heading else "left")
    for name, rows in found.items():
        tokens = statistics.fmean(n for _, _, n in rows)
        table.add_row(name, f"{rights[name]:.1f}", f"{times[name]:.2f}", f"{tokens:.1f}")
    return report.finish(figures, found, table)


def _groups(count: int | None) -> list[list[Question]]:
    every = read_questions(ROOT / "data" / "questions" / "sums.heldout.jsonl")
    small = [question for question in every if (question.difficulty or 0) <= MOST_STEPS]
    groups = [small[i : i + GROUP] for i in range(0, len(small) - GROUP + 1, GROUP)]
    return groups[:count]


def _measure(
    groups: Sequence[Sequence[Question]], ways: dict[str, Callable[[Sequence[str]], list[Answer]]]
) -> dict[str, list[tuple[float, int, int]]]:
    """Of each way and group: ms, right answers, thought tokens. The ways take turns in going first."""
    found: dict[str, list[tuple[float, int, int]]] = {name: [] for name in ways}
    names = list(ways)
    orders = itertools.cycle([names[i:] + names[:i] for i in range(len(names))])
    with progress() as bar:
        task = bar.add_task("asking", total=len(groups))
        for group, order in zip(groups, orders, strict=False):
            prompts = [question.question for question in group]
            for name in order:
                began = time.perf_counter()
                answers = ways[name](prompts)
                ms = 1e3 * (time.perf_counter() - began)
                right = sum(a.text == q.answer for a, q in zip(answers, group, strict=True))
                thoughts = {answer.delivered_ns: answer.tokens.thought for answer in answers}
                found[name].append((ms, right, sum(thoughts.values())))
            bar.update(task, advance=1, refresh=True)
    return found


if __name__ == "__main__":
    sys.exit(main())
