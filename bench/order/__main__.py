"""``python -m bench.order``: whose step is next? Goodput of many clients under several disciplines, in simulated time.

The requests are drawn as in ``bench.guarantee together``, from seeds of their own. Answers are the model's and time
is simulated: runs take what the latency profile of this machine predicts, times residuals that were measured, and
0.1 ms for Python's own work between them. So differences can be seen which on the wall clock drown in the machine's
own unrest. Late wake-ups are not in it.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Sequence

from rich.table import Table

from anytime.runtime.loading import find_profile, open_bundle
from anytime.runtime.questions import Question, read_questions
from anytime.scheduler.clock import NS_PER_S
from bench.contenders import Request
from bench.guarantee.asking import draw
from bench.guarantee.concurrent import BUDGETS_MS, CAPACITY_QUESTIONS, LOADS, LOOSE_S, OURS, TURN, TURNS
from bench.guarantee.disciplines import BASELINES
from bench.guarantee.faults import QUESTIONS
from bench.guarantee.goodput import goodput, ratio_interval
from bench.order.crowd import Machine, Outcome, arriving, machine_of, one_by_one, served
from bench.report import Report, parser, progress

ALONE = "alone"  # the same requests, each with the engine to itself
CONTENDERS = (OURS, *BASELINES, ALONE)
HEADINGS = ("load", "discipline", "quality", "right", "over least laxity", "95 %", "rejected", "by the deadline")
Cells = dict[float, dict[str, list[Outcome]]]  # by load and contender, the same requests in the same order


def options() -> argparse.Namespace:
    wanted = parser("order", "Whose step is next? Goodput of many clients under several disciplines, simulated.")
    wanted.add_argument("--turns", type=int, metavar="N", help=f"of {TURN} requests at each load, default {TURNS}")
    given = wanted.parse_args()
    if given.turns is not None and given.turns < 1:
        wanted.error(f"--turns is {given.turns}: at least 1")
    return given


def capacity(machine: Machine, questions: Sequence[Question]) -> float:
    """Full thoughts that can be finished in a second, one behind the other."""
    budget_ns = round(LOOSE_S * NS_PER_S)
    requests = [Request(i, question, budget_ns, 0) for i, question in enumerate(questions[:CAPACITY_QUESTIONS])]
    outcomes = served(machine, one_by_one(requests), None, policy="until-deadline")
    return NS_PER_S / statistics.fmean(outcome.elapsed_ns for outcome in outcomes)


def turn(
    machine: Machine, name: str, load: float, rate: float, requests: Sequence[Request], seed: str
) -> list[Outcome]:
    """One contender's turn; all of them get the same requests."""
    if name == ALONE:
        return served(machine, one_by_one(requests), None)
    discipline = None if name == OURS else name
    return served(machine, arriving(requests, load * rate, seed), discipline, round(NS_PER_S / rate))


def measure(machine: Machine, questions: Sequence[Question], rate: float, turns: int, count: int) -> Cells:
    floors_ns = machine.floors(questions)
    cells: Cells = {load: {name: [] for name in CONTENDERS} for load in LOADS}
    with progress() as bar:
        wanted = [(number, load, name) for number in range(turns) for load in LOADS for name in CONTENDERS]
        for number, load, name in bar.track(wanted, description="simulating"):
            seed = f"order/{load}/{number}"
            requests = draw(questions, count, BUDGETS_MS, floors_ns, seed)
            cells[load][name] += turn(machine, name, load, rate, requests, seed)
            bar.refresh()
    return cells


def table(cells: Cells) -> Table:
    """Mean quality of what was delivered on time, and what became of the rest."""
    made = Table(title="In simulated time")
    for heading in HEADINGS:
        made.add_column(heading, justify="left" if heading == "discipline" else "right")
    for load, of in cells.items():
        theirs = qualities(of["least-laxity"])
        for name, outcomes in of.items():
            low, high = ratio_interval(qualities(outcomes), theirs)
            mine = qualities(outcomes)
            made.add_row(
                f"{load:g}",
                name,
                f"{statistics.fmean(mine):.4f}",
                f"{statistics.fmean(one.right for one in outcomes):.1%}",
                f"{sum(mine) / sum(theirs):.4f}",
                f"{low:.4f} to {high:.4f}",
                f"{statistics.fmean(one.stopped == 'rejected' for one in outcomes):.2%}",
                f"{statistics.fmean(one.stopped == 'deadline' for one in outcomes):.1%}",
            )
    return made


def qualities(outcomes: Sequence[Outcome]) -> list[float]:
    return [outcome.quality for outcome in outcomes]


def main() -> int:
    given = options()
    report = Report("order", given.json)
    loaded = open_bundle(None)
    machine = machine_of(loaded, find_profile(loaded, None, False))
    questions = read_questions(QUESTIONS)
    rate = capacity(machine, questions)
    turns, count = (1, 40) if given.quick else (given.turns or TURNS, TURN)
    cells = measure(machine, questions, rate, turns, count)
    found = [
        goodput(load, baseline, qualities(of[OURS]), qualities(of[baseline]))
        for load, of in cells.items()
        for baseline in BASELINES
    ]
    notes = [f"simulated; capacity {rate:.1f} full thoughts a second"]
    samples = {"columns": Outcome._fields, "rows": {f"{load:g}": of for load, of in cells.items()}}
    return report.finish(found, samples, table(cells), notes)


if __name__ == "__main__":
    raise SystemExit(main())
