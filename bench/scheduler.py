"""How long a decision of the scheduler takes: the compiled kernel, called from Python, and plain Python.

A decision is what one turn of the loop needs: which action comes next (``next_action``) and how many steps of thought
still fit (``think_steps``). The kernel is timed in its own loop, as the time of a Python call would drown it.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable

from rich.table import Table

from anytime.ext.latency import Latency, time_decisions
from anytime.scheduler import reference
from anytime.scheduler.clock import MONOTONIC, NS_PER_MS
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


_CONTENDERS: dict[str, tuple[Callable[[int], None], int]] = {
    KERNEL: (_in_kernel, 100_000),
    CALL: (_from_python, 5_000),
    PLAIN: (_in_plain_python, 100),
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


def main() -> int:
    options = parser("scheduler", "How long a decision of the scheduler takes.").parse_args()
    report = Report("scheduler", options.json)
    times = measure(100 if options.quick else 1_000)
    median_ns = statistics.median(times[KERNEL])
    figure = Figure("scheduler decision, median, ns", median_ns, f"<= {TARGET_NS}", median_ns <= TARGET_NS)
    samples = {"unit": "ns a decision", **{name: [round(t, 2) for t in values] for name, values in times.items()}}
    return report.finish([figure], samples, _table(times))


if __name__ == "__main__":
    raise SystemExit(main())
