"""``python -m bench.guarantee [PART ...] [--quick] [--keep FILE] [--json FILE]``

Parts: ``alone``, ``together``, one of the faults by name, ``soak``; all but ``soak`` unless named. With ``--keep`` what
was measured stays in a file, and a run that was broken off goes on where it stopped.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from anytime import Reasoner
from anytime.runtime.questions import Question, read_questions
from anytime.scheduler.clock import MONOTONIC, NS_PER_S
from bench.guarantee import concurrent, faults, figures, gil, quiet, soak, unloaded
from bench.guarantee.asking import Asked, asked, draw, floors_of, priority_note
from bench.guarantee.disciplines import BASELINES
from bench.guarantee.kept import Kept
from bench.guarantee.serve_as import served_as
from bench.report import Figure, Report, parser, progress

ALONE, TOGETHER, SOAK = "alone", "together", "soak"
PARTS = (ALONE, TOGETHER, *faults.FAULTS, gil.GIL, SOAK)
MINUTES, QUICK_MINUTES = 60.0, 0.3


class Bench:
    """What all parts share: questions, how much of each, and what is measured already."""

    def __init__(self, quick: bool, keep: Path | None, minutes: float | None) -> None:
        self.quick, self._keep = quick, keep
        self.questions: list[Question] = read_questions(faults.QUESTIONS)
        self.minutes = minutes if minutes is not None else (QUICK_MINUTES if quick else MINUTES)
        self.found: list[Figure] = []
        self.notes: list[str] = []
        self.samples: dict[str, Any] = {}
        self.table = Table("part", "requests", "late", "control late", "by the model", "latest ms", "latest control ms")

    def kept(self, reasoner: Reasoner) -> Kept:
        return Kept(self._keep, f"{reasoner.bundle.id[:16]}, profile of {reasoner.profile.created}")

    def tell(self, part: str, rows: list[Asked]) -> None:
        """A line of the table, and the notes that belong to a part."""
        self.notes += [figures.lateness_note(part, rows), *figures.void_note(part, rows)]
        self.samples[part] = {"columns": Asked._fields, "rows": rows}
        self.table.add_row(
            part,
            str(len(rows)),
            str(sum(figures.late(rows))),
            str(sum(figures.control_late(rows))),
            f"{100 * statistics.fmean(row.valid for row in rows):.1f} %",
            f"{max(row.lateness_ms for row in rows):.2f}",
            f"{max(row.control_ms for row in rows):.2f}",
        )


def alone(bench: Bench) -> None:
    count, size = (40, 40) if bench.quick else (unloaded.REQUESTS, unloaded.PIECE)
    with Reasoner.load() as reasoner:
        kept, floors_ns = bench.kept(reasoner), floors_of(reasoner, bench.questions)
        requests = draw(bench.questions, count, unloaded.BUDGETS_MS, floors_ns, ALONE)
        rows, thoughts = [], []
        for start in _each(ALONE, range(0, count, size)):
            some = requests[start : start + size]
            rows += asked(kept.piece(f"{ALONE}/{start}", lambda some=some: unloaded.pairs(reasoner, some)))
            thoughts += kept.piece(f"{ALONE}/thoughts/{start}", lambda some=some: unloaded.thoughts(reasoner, some))
    bench.tell(ALONE, rows)
    bench.found += figures.unloaded(rows, thoughts)


def together(bench: Bench) -> None:
    turns, size = (1, 40) if bench.quick else (concurrent.TURNS, concurrent.TURN)
    with contextlib.ExitStack() as opened:
        reasoner = opened.enter_context(Reasoner.load())
        kept, floors_ns = bench.kept(reasoner), floors_of(reasoner, bench.questions)
        ((rate,),) = kept.piece("capacity", lambda: [[concurrent.capacity(reasoner, bench.questions)]])
        bench.notes.append(f"{TOGETHER}: capacity {rate:.1f} full thoughts a second")
        bench.notes.append(f"{TOGETHER}: priority of the clients: {priority_note()}")
        asked_of = {
            concurrent.IN_PROCESS: reasoner,
            concurrent.OURS: opened.enter_context(Reasoner.load(isolated=True)),
        }
        for name in BASELINES:
            asked_of[name] = opened.enter_context(served_as(name, round(NS_PER_S / rate)))
        for other in asked_of.values():
            floors_of(other, bench.questions)  # compiles their formats
        crowds: figures.Crowds = {load: {name: [] for name in concurrent.CONTENDERS} for load in concurrent.LOADS}
        cells = [(load, turn, name) for turn in range(turns) for load in crowds for name in concurrent.CONTENDERS]
        for load, turn, name in _each(TOGETHER, cells):
            rows = kept.piece(
                f"{TOGETHER}/{load}/{turn}/{name}",
                lambda load=load, turn=turn, name=name: concurrent.turn(
                    asked_of[name], bench.questions, floors_ns, rate, load, turn, size
                ),
            )
            crowds[load][name] += asked(rows)
        count = 10 if bench.quick else concurrent.REJECTIONS
        times_ms = [
            took_ms
            for (took_ms,) in kept.piece("rejections", lambda: concurrent.rejections(reasoner, bench.questions, count))
        ]
    for load, of in crowds.items():
        for name, rows in of.items():
            bench.tell(f"{load:g} × capacity, {name}", rows)
        goodputs = {name: rate * load * statistics.fmean(row.quality for row in rows) for name, rows in of.items()}
        rights = {
            name: statistics.fmean(row.right and not row.lateness_ms for row in rows) for name, rows in of.items()
        }
        bench.notes.append(
            f"{load:g} times capacity, quality delivered on time a second: "
            + ", ".join(f"{name} {value:.1f} ({100 * rights[name]:.1f} % right)" for name, value in goodputs.items())
        )
    bench.found += [*figures.concurrent(crowds), figures.rejected(times_ms)]
    bench.notes.append(figures.rejections_note(times_ms))


def under(fault: str) -> Callable[[Bench], None]:
    def part(bench: Bench) -> None:
        count, size = (20, 20) if bench.quick else (faults.REQUESTS, faults.PIECE)
        with Reasoner.load() as reasoner:
            kept = bench.kept(reasoner)
        rows: list[Any] = []
        for start in _each(fault, range(0, count, size)):
            rows += kept.piece(
                f"{fault}/{start}", lambda start=start: faults.piece(fault, bench.questions, start // size, size)
            )
        seen = asked([row[: len(Asked._fields)] for row in rows])
        bench.tell(fault, seen)
        bench.notes += figures.late_note(fault, faults.late_by_a_fault(rows))
        bench.notes += [f"{fault}: priority of the caller: {priority_note()}"] * (fault in faults.FIRST)
        bench.found += figures.fault(fault, seen, faults.normal_after_recovery(rows))

    return part


def gil_held(bench: Bench) -> None:
    count, size = (40, 40) if bench.quick else (faults.REQUESTS, faults.PIECE)
    with Reasoner.load() as reasoner:
        kept = bench.kept(reasoner)
    rows: list[Any] = []
    for start in _each(gil.GIL, range(0, count, size)):
        rows += kept.piece(f"{gil.GIL}/{start}", lambda start=start: gil.piece(bench.questions, start // size, size))
    seen, held = gil.read_rows(rows)
    bench.tell(gil.GIL, [row for row, of in zip(seen, held, strict=True) if not of.cut_off])
    columns = (*Asked._fields, *gil.Held._fields)
    bench.samples[gil.GIL] = {"columns": columns, "rows": [(*row, *of) for row, of in zip(seen, held, strict=True)]}
    bench.notes.append(figures.holds_note(gil.GIL, held))
    bench.found += figures.gil_held(gil.GIL, seen, held)


def soaked(bench: Bench) -> None:
    with Reasoner.load() as reasoner, progress() as bar:
        floors_ns = floors_of(reasoner, bench.questions)
        rate = concurrent.capacity(reasoner, bench.questions, 20)
        task = bar.add_task(SOAK, total=100)
        rows, grown = soak.rounds(
            reasoner,
            bench.questions,
            floors_ns,
            rate,
            bench.minutes,
            lambda done: bar.update(task, completed=100 * done, refresh=True),
        )
    part = f"{SOAK}, {bench.minutes:g} minutes"
    bench.tell(part, rows)
    bench.samples[part] = {"columns": soak.Round._fields, "rows": soak.told(rows)}  # of an hour, not every request
    bench.samples["sizes"] = {"columns": ("minutes", "resident_mib", "descriptors", "threads"), "rows": grown}
    bench.found += figures.soaked(grown)


RUN: dict[str, Callable[[Bench], None]] = {
    ALONE: alone,
    TOGETHER: together,
    **{fault: under(fault) for fault in faults.FAULTS},
    gil.GIL: gil_held,
    SOAK: soaked,
}


def _warn_of_the_machine(count: int) -> None:
    with Reasoner.load() as reasoner:
        delivery_ns = reasoner.profile.delivery_ns
    if said := quiet.unfit(quiet.late_timers_ns(MONOTONIC, delivery_ns, count), count):
        print(said, flush=True)


def _each(part: str, cells: Sequence[Any]) -> Iterator[Any]:
    with progress() as bar:
        yield from bar.track(cells, description=part)


def options(given: Sequence[str] | None = None) -> argparse.Namespace:
    """What was asked for on the command line."""
    wanted = parser("guarantee", "Never late without an answer: alone, together, under faults, and for an hour.")
    wanted.add_argument("parts", nargs="*", metavar="PART", help=f"{', '.join(PARTS)}; default: all but {SOAK}")
    wanted.add_argument("--keep", type=Path, metavar="FILE", help="measure only what is not in this file, and add it")
    wanted.add_argument("--minutes", type=float, help=f"of the soak; default {MINUTES:g}")
    read = wanted.parse_args(given)
    for part in read.parts:
        if part not in PARTS:
            wanted.error(f"there is no part {part!r}: choose among {', '.join(PARTS)}")
    return read


def main() -> int:
    given = options()
    report = Report("guarantee", given.json)
    bench = Bench(given.quick, given.keep, given.minutes)
    _warn_of_the_machine(quiet.QUICK_WAITS if given.quick else quiet.WAITS)
    for part in given.parts or PARTS[:-1]:
        RUN[part](bench)
    return report.finish(bench.found, bench.samples, bench.table, bench.notes)


if __name__ == "__main__":
    raise SystemExit(main())
