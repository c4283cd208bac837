"""Measuring an engine away from its best: its first request, steps behind idle gaps, steps while all cores are busy."""

from __future__ import annotations

import threading

from anytime.ext.latency import Latency
from anytime.runtime.busy import busy_cores
from anytime.runtime.stopwatch import Progress, Stopwatch
from anytime.scheduler.clock import NS_PER_MS, NS_PER_S
from anytime.scheduler.profile import Cell, Regime
from anytime.scheduler.tail import summarize
from anytime.targets import Clocks, clocks

FIRST, WARM, IDLE, LOADED = "first", "warm", "idle", "loaded"
# Idle gaps, and for how long steps behind them are measured: a hundred steps or more, where a step is short.
_IDLE_NS = {NS_PER_MS: NS_PER_S, 10 * NS_PER_MS: 2 * NS_PER_S, 100 * NS_PER_MS: 11 * NS_PER_S}
_QUICK_SHARE = 10  # of which a quick profile takes one part in so many
_LOADED_NS, _GETTING_BUSY_NS = 5 * NS_PER_S, 200 * NS_PER_MS
_FIRST_PROMPT, _FIRST_STEPS = 64, 32
_IDLE_STEPS, _LOADED_STEPS = 8, 32  # of a pass


def measure_first(stopwatch: Stopwatch) -> tuple[list[Cell], Clocks]:
    """A prompt and the steps behind it, of an engine that has run nothing yet."""
    share = max(1, stopwatch.engine.spec.max_context // 4)
    prompt, steps = min(_FIRST_PROMPT, share), min(_FIRST_STEPS, share)
    prompt_ns, *steps_ns = stopwatch.time_cold([prompt, *[1] * steps])
    return [Cell(prompt, 0, (prompt_ns,)), Cell(1, prompt, tuple(steps_ns))], clocks()


def measure_idle(stopwatch: Stopwatch, latency: Latency, quick: bool, progress: Progress) -> list[Regime]:
    """Steps each behind a gap in which the engine had nothing to do; a regime for every length of gap."""
    found = []
    for i, (gap_ns, time_ns) in enumerate(_IDLE_NS.items()):
        progress(IDLE, i / len(_IDLE_NS))
        cells = _passes(stopwatch, time_ns // (_QUICK_SHARE if quick else 1), _IDLE_STEPS, gap_ns)
        found.append(regime(f"{IDLE} {gap_ns // NS_PER_MS} ms", cells, clocks(), latency))
    progress(IDLE, 1.0)
    return found


def measure_loaded(stopwatch: Stopwatch, latency: Latency, cores: int, progress: Progress) -> Regime:
    """Steps while every core has another process that never rests."""
    progress(LOADED, 0.0)
    with busy_cores(cores):
        stopwatch.clock.wait_until(threading.Event(), stopwatch.clock.now() + _GETTING_BUSY_NS)
        cells = _passes(stopwatch, _LOADED_NS, _LOADED_STEPS, gap_ns=0)
        seen = clocks()
    progress(LOADED, 1.0)
    return regime(LOADED, cells, seen, latency)


def regime(name: str, cells: list[Cell], seen: Clocks, latency: Latency) -> Regime:
    """A regime with the summary of its times."""
    return Regime(name, seen, tuple(cells), summarize([ratio for cell in cells for ratio in cell.ratios(latency)]))


def _passes(stopwatch: Stopwatch, time_ns: int, steps: int, gap_ns: int) -> list[Cell]:
    """Decode passes until the time is spent, at least one, at the context at which warm passes begin."""
    context = stopwatch.engine.spec.max_context // 8
    steps = min(steps, stopwatch.engine.spec.max_context // 2)
    end, cells = stopwatch.clock.now() + time_ns, list[Cell]()
    while not cells or stopwatch.clock.now() < end:
        cells.append(Cell(1, context, tuple(stopwatch.time_runs([1] * steps, context, gap_ns))))
    return cells
