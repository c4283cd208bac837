"""How long decisions of the scheduler take: the compiled kernels, called from Python, and plain Python.

A decision is what one turn of the loop needs: which action comes next (``next_action``) and how many steps of thought
still fit (``think_steps``). The kernel is timed in its own loop, as the time of a Python call would drown it. Picking
whose step is next, and whether one more request fits, are timed as the worker asks for them, from Python, at their
worst: every request has to be looked at.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable

from rich.table import Table

from anytime.ext.agenda import Agenda
from anytime.ext.latency import Latency, time_decisions
from anytime.scheduler import reference
from anytime.scheduler.clock import MONOTONIC, NS_PER_MS
from anytime.scheduler.plain_agenda import PlainAgenda
from bench.report import Figure, Report, parser, progress

TARGET_NS = 1_000
KERNEL, CALL, PLAIN = "kernel, in its own loop", "kernel, called from Python", "plain Python reference"
# A model of some 5 M parameters on one x86 core, a fifth of a second before its deadline, in the middle of a thought.
_LATENCY = Latency(alpha=8.0, beta=40_000.0, gamma=800_000.0, p=400.0, q=800_000.0, run_margin=1.3, step_margin=1.2)
_LEFT_NS, _CONTEXT, _MOST_STEPS = 200 * NS_PER_MS, 300, 100_000


def _in_kernel(rounds: int) -> None:
    time_decisions(_LATENCY, rounds, _LEFT_NS, _CONTEXT)


def _from_python(rounds: int) -> None:
    for i in range(rounds):
        _LATENCY.next_action(_LEFT_NS + i, _CONTEXT, 1, 0, i & 15 == 0, False)
        _LATENCY.think_steps(_LEFT_NS + i, _CONTEXT, _MOST_STEPS)


def _in_plain_python(rounds: int) -> None:
    for i in range(rounds):
        reference.next_action(_LATENCY, _LEFT_NS + i, _CONTEXT, 1, 0, i & 15 == 0, False)
        reference.think_steps(_LATENCY, _LEFT_NS + i, _CONTEXT, _MOST_STEPS)


_FEW, _SOME, _MANY = 16, 250, 1_000
_A_MS = NS_PER_MS
MOST_PICK_NS = {_FEW: 1_000, _MANY: 10_000}
MOST_GROWTH = 1.25  # of the time a request, from some to many: more would be steeper than linear


def _filled(requests: int, agenda: Agenda | PlainAgenda) -> Agenda | PlainAgenda:
    """All have their first answers and a little time granted, so that none can be picked before all were looked at."""
    for key in range(requests):
        agenda.add(key, (10 + 2 * key) * _A_MS, _A_MS)
        agenda.seat(key)
        agenda.answer(key)
    agenda.grant(0, [(key, _A_MS, 0.1) for key in range(requests)])
    return agenda


def _pick(agenda: Agenda | PlainAgenda) -> Callable[[int], None]:
    def picks(rounds: int) -> None:
        for _ in range(rounds):
            agenda.pick(4)

    return picks


def _fit(agenda: Agenda | PlainAgenda) -> Callable[[int], None]:
    def fits(rounds: int) -> None:
        for i in range(rounds):
            agenda.fits(i, _A_MS * 20, _A_MS, _A_MS)

    return fits


def _picking(requests: int) -> str:
    return f"picking one of {requests:,}"


def _admitting(requests: int) -> str:
    return f"admitting one more beside {requests:,}"


_CONTENDERS: dict[str, tuple[Callable[[int], None], int]] = {
    KERNEL: (_in_kernel, 100_000),
    CALL: (_from_python, 5_000),
    PLAIN: (_in_plain_python, 100),
    **{_picking(n): (_pick(_filled(n, Agenda(n))), 32_000 // n) for n in (_FEW, _MANY)},
    f"{_picking(_FEW)}, plain Python": (_pick(_filled(_FEW, PlainAgenda())), 50),
    **{_admitting(n): (_fit(_filled(n, Agenda(n))), 32_000 // n) for n in (_FEW, _SOME, _MANY)},
}


def measure(repeats: int) -> dict[str, list[float]]:
    """Nanoseconds a decision, for each contender and repeat; contenders take turns."""
    times: dict[str, list[float]] = {name: [] for name in _CONTENDERS}
    with progress() as bar:
        task = bar.add_task("decisions", total=repeats)
        for _ in range(repeats):
            for name, (run, rounds) in _CONTENDERS.items():
                start = MONOTONIC.now()
                run(rounds)
                times[name].append((MONOTONIC.now() - start) / rounds)
            bar.update(task, advance=1, refresh=True)
    return times


def _table(times: dict[str, list[float]]) -> Table:
    table = Table(
        "contender", "decisions a repeat", "median ns", "fastest ns", "slowest ns", title="scheduler decision"
    )
    for name, values in times.items():
        row = (statistics.median(values), min(values), max(values))
        table.add_row(name, f"{_CONTENDERS[name][1]:,}", *(f"{value:,.1f}" for value in row))
    return table


def _figures(times: dict[str, list[float]]) -> list[Figure]:
    medians = {name: statistics.median(values) for name, values in times.items()}
    found = [_at_most("scheduler decision, median, ns", medians[KERNEL], TARGET_NS)]
    for requests, most_ns in MOST_PICK_NS.items():
        found.append(_at_most(f"{_picking(requests)}, median, ns", medians[_picking(requests)], most_ns))
    growth = medians[_admitting(_MANY)] / medians[_admitting(_SOME)] / (_MANY / _SOME)
    name = f"admitting: time a request beside {_MANY:,} over that beside {_SOME}"
    return [*found, _at_most(name, round(growth, 3), MOST_GROWTH)]


def _at_most(name: str, measured: float, most: float) -> Figure:
    return Figure(name, measured, f"<= {most:g}", measured <= most)


def main() -> int:
    options = parser("scheduler", "How long a decision of the scheduler takes.").parse_args()
    report = Report("scheduler", options.json)
    times = measure(100 if options.quick else 1_000)
    samples = {"unit": "ns a decision", **{name: [round(t, 2) for t in values] for name, values in times.items()}}
    return report.finish(_figures(times), samples, _table(times))


if __name__ == "__main__":
    raise SystemExit(main())
