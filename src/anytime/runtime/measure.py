"""Measuring a latency profile: engine runs over sizes and contexts, decode passes, and how late a caller wakes."""

from __future__ import annotations

import platform
import threading
from collections.abc import Sequence

import numpy as np

from anytime.ext.latency import Latency
from anytime.runtime.advice import advice
from anytime.runtime.engine import Engine
from anytime.runtime.regimes import FIRST, LOADED, WARM, measure_first, measure_idle, measure_loaded, regime
from anytime.runtime.stopwatch import Progress, Stopwatch
from anytime.scheduler.clock import NS_PER_MS, NS_PER_S, Clock, utc_stamp
from anytime.scheduler.fit import fit_relative
from anytime.scheduler.profile import DELTA, Branch, Cell, Fit, LatencyProfile, ProfileKey, Regime
from anytime.scheduler.tail import tail_quantile
from anytime.targets import Host, clocks

_TOKENS = (2, 4, 8, 16, 32, 64, 128, 256, 512)
_CONTEXTS = (0, 64, 256, 512, 1024, 2048)
_SEGMENTS = (8, 32, 128)
_WIDTHS = (1, 2, 4, 8)
_BRANCH_CONTEXTS = (64, 512)
_BRANCH_SHARE = 4  # of the time that runs get
_WARM_UP_RUNS, _LEAST_REPEATS = 5, 3
_WAKE_UPS, _QUICK_WAKE_UPS = 3_000, 400
_LEAST_DELIVERY_NS, _MOST_DELIVERY_NS = 300_000, 2_000_000
_HANDING_OVER_NS = 100_000
_PASS_TOKENS = 512


def measure(
    engine: Engine, key: ProfileKey, host: Host, clock: Clock, quick: bool, progress: Progress = lambda what, done: None
) -> LatencyProfile:
    """Measure a profile: some seconds when ``quick``, one to two minutes otherwise, longer where the engine is slow.

    The engine must have run nothing yet. The coefficients and margins are those of the warm engine. Of the other
    regimes a quick profile leaves out ``loaded``.
    """
    stopwatch = Stopwatch(engine, clock)
    first, first_clocks = measure_first(stopwatch)
    for _ in range(_WARM_UP_RUNS):
        stopwatch.time_run(16, context=0)
    time_ns = (2 if quick else 25) * NS_PER_S
    runs = _measure_runs(stopwatch, time_ns, progress)
    steps = _measure_steps(stopwatch, time_ns, progress)
    warm_clocks = clocks()
    branches = _measure_branches(stopwatch, time_ns // _BRANCH_SHARE, progress)
    kept_back_ns = _measure_delivery(stopwatch, clock, _QUICK_WAKE_UPS if quick else _WAKE_UPS, progress)
    fit = fit_profile(runs, steps, branches)
    latency = Latency(fit.alpha, fit.beta, fit.gamma, fit.p, fit.q)
    regimes = [
        regime(FIRST, first, first_clocks, latency),
        Regime(WARM, warm_clocks, (), regime(WARM, steps, warm_clocks, latency).tail),
        *measure_idle(stopwatch, latency, quick, progress),
    ]
    if not quick:
        regimes.append(measure_loaded(stopwatch, latency, host.cores, progress))
    return LatencyProfile(
        key=key,
        created=utc_stamp(),
        quick=quick,
        environment=_environment(host, quick),
        warnings=tuple(advice(host, fit, steps, regimes, latency)),
        delivery_ns=kept_back_ns,
        fit=fit,
        runs=tuple(runs),
        steps=tuple(steps),
        branches=tuple(branches),
        regimes=tuple(regimes),
    )


def _environment(host: Host, quick: bool) -> dict[str, str]:
    return {
        "python": platform.python_version(),
        "system": platform.platform(),
        "cores": str(host.cores),
        "memory_gib": str(host.memory_gib),
        "governor": host.governor,
        "load": f"{host.load:.2f}",
        **({"not measured": LOADED} if quick else {}),
    }


def _measure_branches(stopwatch: Stopwatch, time_ns: int, progress: Progress) -> list[Branch]:
    """Forks, and steps of several rows at once, in turn until the time is spent."""
    spec = stopwatch.engine.spec
    widths = [rows for rows in _WIDTHS if rows <= spec.max_rows]
    cells = [(rows, c) for c in _BRANCH_CONTEXTS if c + 2 <= spec.max_context for rows in widths]
    times: dict[tuple[int, int], list[tuple[int, int]]] = {cell: [] for cell in cells}
    repeats = spent_ns = 0
    while repeats < _LEAST_REPEATS or spent_ns < time_ns:
        for rows, context in cells:
            progress("branches", min(1.0, spent_ns / max(1, time_ns)))
            times[rows, context].append(stopwatch.time_branches(rows, context))
            spent_ns += sum(times[rows, context][-1])
        repeats += 1
    progress("branches", 1.0)
    return [
        Branch(rows, context, tuple(fork for fork, _ in found) if rows > 1 else (), tuple(step for _, step in found))
        for (rows, context), found in times.items()
    ]


def _measure_runs(stopwatch: Stopwatch, time_ns: int, progress: Progress) -> list[Cell]:
    """Multi-token runs until the time is spent; all sizes and contexts in turn, so that drift hits all alike."""
    most = stopwatch.engine.spec.max_context
    cells = [(n, c) for c in _CONTEXTS for n in _TOKENS if n + c <= most and (n <= 64 or c in (0, n))]
    times: dict[tuple[int, int], list[int]] = {cell: [] for cell in cells}
    repeats = spent_ns = 0
    while repeats < _LEAST_REPEATS or spent_ns < time_ns:
        for tokens, context in cells:
            progress("prefill", min(1.0, spent_ns / time_ns))
            times[tokens, context].append(stopwatch.time_run(tokens, context))
            spent_ns += times[tokens, context][-1]
        repeats += 1
    progress("prefill", 1.0)
    return [Cell(tokens, context, tuple(values)) for (tokens, context), values in times.items()]


def _measure_steps(stopwatch: Stopwatch, time_ns: int, progress: Progress) -> list[Cell]:
    """Whole decode passes, one after the other, until the time is spent (at least one)."""
    length = min(_PASS_TOKENS, stopwatch.engine.spec.max_context // 2)
    passes: list[Cell] = []
    spent_ns = 0
    while not passes or spent_ns < time_ns:
        progress("decode", min(1.0, spent_ns / time_ns))
        start = stopwatch.engine.spec.max_context // 8
        passes.append(Cell(1, start, tuple(stopwatch.time_runs([1] * length, start))))
        spent_ns += sum(passes[-1].times_ns)
    progress("decode", 1.0)
    return passes


def _measure_delivery(stopwatch: Stopwatch, clock: Clock, wake_ups: int, progress: Progress) -> int:
    """How late a waiting caller wakes while the engine works, and a little for handing the answer over."""
    stop, never = threading.Event(), threading.Event()

    def work() -> None:
        while not stop.is_set():
            stopwatch.time_run(1, context=64)

    worker = threading.Thread(target=work, daemon=True)
    worker.start()
    lateness = []
    for i in range(wake_ups):
        if i % 20 == 0:
            progress("delivery", i / wake_ups)
        instant = clock.now() + 2 * NS_PER_MS
        clock.wait_until(never, instant)
        lateness.append(clock.now() - instant)
    stop.set()
    worker.join()
    progress("delivery", 1.0)
    return delivery_ns(lateness)


def delivery_ns(lateness_ns: Sequence[int]) -> int:
    """What is kept back for waking the caller, who is to be late no more often than once in a thousand times.

    The largest of 2,995 samples is above the 99.9th percentile with a confidence of 95 %, however they are distributed.
    Within limits: a margin cannot buy off the long stalls of a crowded machine, it only takes their time from every
    answer.
    """
    return min(_MOST_DELIVERY_NS, max(_LEAST_DELIVERY_NS, max(lateness_ns) + _HANDING_OVER_NS))


def fit_profile(runs: list[Cell], steps: list[Cell], branches: list[Branch]) -> Fit:
    """Coefficients from medians, margins from what they miss."""
    features = [(c.tokens * (c.context + c.tokens / 2), float(c.tokens), 1.0) for c in runs]
    alpha, beta, gamma = map(float, fit_relative(features, [float(np.median(c.times_ns)) for c in runs]))
    contexts, medians = _step_medians(steps)
    p, q = map(float, fit_relative([(n, 1.0) for n in contexts], medians))
    plain = Latency(alpha, beta, gamma, p, q)
    run_ratios = [ratio for cell in runs for ratio in cell.ratios(plain)]
    run_margin, run_tail = tail_quantile(run_ratios, DELTA)
    step_margin, step_tail = tail_quantile(_segment_ratios(steps, plain, 1), DELTA)
    segments = [(length, _segment_ratios(steps, plain, length)) for length in _SEGMENTS]
    return Fit(
        alpha=alpha,
        beta=beta,
        gamma=gamma,
        p=p,
        q=q,
        run_margin=max(1.0, run_margin),
        run_tail=run_tail,
        step_margin=max(1.0, step_margin),
        step_tail=step_tail,
        segments=tuple((n, max(1.0, tail_quantile(ratios, DELTA)[0])) for n, ratios in segments if ratios),
        widths=tuple(
            (rows, *_line([branch for branch in branches if branch.rows == rows], "steps_ns"))
            for rows in sorted({branch.rows for branch in branches})
        ),
        fork=_line([branch for branch in branches if branch.forks_ns], "forks_ns"),
    )


def _line(branches: list[Branch], field: str) -> tuple[float, float]:
    """Cost a token of context and constant cost, from medians; nothing where nothing was measured."""
    if not branches:
        return 0.0, 0.0
    medians = [max(1.0, float(np.median(getattr(branch, field)))) for branch in branches]
    a_token, constant = map(float, fit_relative([(float(branch.context), 1.0) for branch in branches], medians))
    return a_token, constant


def _step_medians(steps: list[Cell], width: int = 32) -> tuple[list[float], list[float]]:
    """Median step time over stretches of ``width`` contexts, all passes together."""
    by_stretch: dict[int, list[int]] = {}
    for cell in steps:
        for i, time_ns in enumerate(cell.times_ns):
            by_stretch.setdefault((cell.context + i) // width, []).append(time_ns)
    return [(k + 0.5) * width for k in by_stretch], [float(np.median(v)) for v in by_stretch.values()]


def _segment_ratios(steps: list[Cell], plain: Latency, length: int) -> list[float]:
    """Measured over predicted time of whole segments of consecutive steps, which do not overlap."""
    ratios = []
    for cell in steps:
        predicted = cell.predicted_ns(plain)
        starts = range(0, len(predicted) - length + 1, length)
        ratios += [sum(cell.times_ns[i : i + length]) / sum(predicted[i : i + length]) for i in starts]
    return ratios
