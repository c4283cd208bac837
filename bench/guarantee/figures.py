"""From what callers saw to figures; nothing here measures anything."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

import numpy as np

from bench.guarantee.asking import Asked
from bench.guarantee.concurrent import IN_PROCESS, LOADS, OURS
from bench.guarantee.disciplines import BASELINES
from bench.guarantee.gil import Held
from bench.guarantee.goodput import goodput
from bench.guarantee.soak import growth
from bench.intervals import clopper_pearson
from bench.report import NOT_OBSERVED, Figure

CONTROL_VOID = 0.001  # of the controls late: then the machine was, and the part says nothing
MOST_LATE, MOST_P999_MS, LEAST_THOUGHT = 0.001, 1.0, 0.95
MOST_RETURN_MS = 2.0  # behind the GIL's being free
MOST_GROWTH_MIB = 4.0
MOST_REJECTED, MOST_REJECTION_MS, LEAST_OF_PEAK = 0.001, 1.0, 0.9
_RESAMPLES = 2_000


def late(rows: Sequence[Asked]) -> list[bool]:
    return [row.lateness_ms > 0 for row in rows]


def control_late(rows: Sequence[Asked]) -> list[bool]:
    return [row.control_ms > 0 for row in rows]


def void(rows: Sequence[Asked]) -> bool:
    return statistics.fmean(control_late(rows)) > CONTROL_VOID


def void_note(part: str, rows: Sequence[Asked]) -> list[str]:
    """What must be said of a part whose controls were late themselves."""
    missed = sum(control_late(rows))
    if not void(rows):
        return []
    share = 100 * missed / len(rows)
    return [f"{part}: VOID, {missed} of {len(rows)} controls were late ({share:.2f} %), more than 0.1 %"]


def lateness_note(part: str, rows: Sequence[Asked]) -> str:
    parts = []
    for name, hits, times in (
        ("ours", late(rows), [row.lateness_ms for row in rows]),
        ("control", control_late(rows), [row.control_ms for row in rows]),
    ):
        low, high = clopper_pearson(sum(hits), len(hits))
        parts.append(
            f"{name} late {sum(hits)} of {len(hits)} (95 % bounds {100 * low:.3f} to {100 * high:.3f} %), "
            f"by {max(times):.2f} ms at most, longest run of misses {longest_run(hits)}"
        )
    return f"{part}: " + "; ".join(parts)


def longest_run(hits: Sequence[bool]) -> int:
    """How many in a row."""
    longest = run = 0
    for hit in hits:
        run = run + 1 if hit else 0
        longest = max(longest, run)
    return longest


def unloaded(rows: Sequence[Asked], thoughts: Sequence[tuple[int, int, bool]]) -> list[Figure]:
    """The caller alone."""
    beyond = sum(late(rows)) - sum(control_late(rows))
    ratio = thought_ratio(rows, thoughts)
    return [
        Figure("alone: late beyond the control's, requests", beyond, "<= 1", beyond <= 1),
        p999("alone", rows),
        Figure(
            "alone: thought behind the answer over an uninterrupted one's, median",
            round(ratio, 4),
            f">= {LEAST_THOUGHT}",
            ratio >= LEAST_THOUGHT,
        ),
    ]


def p999(part: str, rows: Sequence[Asked]) -> Figure:
    """How late the latest in a thousand are, beyond their controls."""
    beyond_ms = upper_p999_difference_ms(rows)
    name = f"{part}: p99.9 of lateness less the control's, upper 95 % bound, ms"
    return Figure(name, round(beyond_ms, 4), f"<= {MOST_P999_MS:g}", beyond_ms <= MOST_P999_MS)


def upper_p999_difference_ms(rows: Sequence[Asked]) -> float:
    """Bootstrap of requests with their controls, one-sided."""
    source = np.random.default_rng(0)
    pairs = np.array([(row.lateness_ms, row.control_ms) for row in rows])
    found = []
    for _ in range(_RESAMPLES):
        ours, control = np.quantile(pairs[source.integers(len(pairs), size=len(pairs))], 0.999, axis=0)
        found.append(ours - control)
    return float(np.quantile(found, 0.95))


def thought_ratio(rows: Sequence[Asked], thoughts: Sequence[tuple[int, int, bool]]) -> float:
    """1 where both ended by themselves; no ratio where nobody had a token."""
    by_number = {row.number: row for row in rows}
    ratios = []
    for number, tokens, completed in thoughts:
        row = by_number[number]
        if completed and row.stopped == "complete":
            ratios.append(1.0)
        elif tokens:
            ratios.append(row.thought_tokens / tokens)
    return statistics.median(ratios)


def fault(name: str, rows: Sequence[Asked], normal: tuple[int, int]) -> list[Figure]:
    """Under one fault: nobody later than the control, and what comes behind a recovery is answered by the model."""
    ours, control = max(row.lateness_ms for row in rows), max(row.control_ms for row in rows)
    answered, calm = normal
    return [
        Figure(f"{name}: latest answer, ms behind its deadline", ours, f"<= {control:g}", ours <= control),
        Figure(f"{name}: answered by the model half a second behind a fault", answered, f"{calm}", answered == calm),
    ]


def late_note(name: str, late: tuple[int, int]) -> list[str]:
    """Whether it was the fault that made requests late, or the machine."""
    by_fault, count = late
    return [f"{name}: of {count} late requests {by_fault} were struck or came shortly behind a fault"] if count else []


def gil_held(name: str, rows: Sequence[Asked], held: Sequence[Held]) -> list[Figure]:
    """While holds of the GIL come and go; ``rows`` are late by their native stamps. What was cut off says nothing."""
    pairs = [(row, of) for row, of in zip(rows, held, strict=True) if not of.cut_off]
    missed = sum(row.control_ms > 0 for row, _ in pairs)
    beyond = sum(of.rung_ms > 0 for _, of in pairs) - missed
    after_ms = [of.after_free_ms for _, of in pairs if of.kept or of.returned_ms > 0]
    worst = round(max(after_ms), 4) if after_ms else NOT_OBSERVED
    answered = sum(row.valid for row, _ in pairs)
    return [
        Figure(f"{name}: slots filled and signalled late beyond the control's, requests", beyond, "<= 0", beyond <= 0),
        Figure(
            f"{name}: Python's return behind the GIL's being free, worst, ms",
            worst,
            f"<= {MOST_RETURN_MS:g}",
            bool(after_ms) and max(after_ms) <= MOST_RETURN_MS,
        ),
        Figure(f"{name}: answered by the model", answered, f"{len(pairs)}", 0 < answered == len(pairs)),
    ]


def holds_note(name: str, held: Sequence[Held]) -> str:
    """What the holds did to Python, and which requests could not be asked for them."""
    kept = [of for of in held if of.kept and not of.cut_off]
    late_ms = [of.returned_ms for of in kept if of.returned_ms > 0]
    bare_ms = [of.returned_ms for of in held if of.returned_ms > 0 and not of.kept and not of.cut_off]
    control_ms = [of.control_after_free_ms for of in held if of.control_kept and not of.cut_off]
    final = sum(of.rung_ms <= 0 < of.final_ms for of in held if not of.cut_off)
    return (
        f"{name}: late means by native stamps; a hold kept {len(kept)} of {len(held)} callers from returning, "
        f"{len(late_ms)} of them beyond the deadline, by {max(late_ms, default=0.0):.2f} ms at most; "
        f"{len(bare_ms)} returned late with no hold in the way, by {max(bare_ms, default=0.0):.2f} ms at most; "
        f"a hold kept {len(control_ms)} controls, which were back {max(control_ms, default=0.0):.2f} ms at most behind "
        f"the GIL's being free; {final} slots had an answer in time and their final one late; "
        f"left out because a hold began while they or their controls were being asked: "
        f"{sum(of.cut_off for of in held)}"
    )


def soaked(grown: Sequence[Sequence[float]]) -> list[Figure]:
    """What grew in the process, by its sizes behind each round; lateness is told and not judged."""
    found = []
    for name, column, most in (("memory, MiB", 1, MOST_GROWTH_MIB), ("descriptors", 2, 0.0), ("threads", 3, 0.0)):
        grew = round(growth(grown, column), 3)
        found.append(Figure(f"growth of {name}", grew, f"<= {most:g}", grew <= most))
    return found


Crowds = dict[float, dict[str, list[Asked]]]  # by load and discipline, the same requests in the same order


def concurrent(crowds: Crowds) -> list[Figure]:
    """Many clients."""
    found = []
    for load in LOADS:
        found += [_lateness(load, name, crowds[load][name]) for name in (OURS, IN_PROCESS)]
        qualities = {name: [row.quality for row in rows] for name, rows in crowds[load].items()}
        found += [goodput(load, baseline, qualities[OURS], qualities[baseline]) for baseline in BASELINES]
    lightest = crowds[LOADS[0]][OURS]
    rejected = statistics.fmean(row.stopped == "rejected" for row in lightest)
    found.append(
        Figure(f"{LOADS[0]:g} times capacity: rejected", rejected, f"<= {MOST_REJECTED}", rejected <= MOST_REJECTED)
    )
    rates = {load: load * statistics.fmean(row.quality for row in crowds[load][OURS]) for load in LOADS}
    share = rates[LOADS[-1]] / max(rates.values())
    found.append(
        Figure(
            f"goodput at {LOADS[-1]:g} times capacity over its own peak",
            round(share, 4),
            f">= {LEAST_OF_PEAK}",
            share >= LEAST_OF_PEAK,
        )
    )
    return found


def _lateness(load: float, name: str, rows: Sequence[Asked]) -> Figure:
    """Of those that were admitted."""
    rows = [row for row in rows if row.stopped != "rejected"]
    points = 100 * (statistics.fmean(late(rows)) - statistics.fmean(control_late(rows)))
    title = f"{load:g} times capacity, {name}: late, ours minus control, percentage points"
    return Figure(title, round(points, 4), f"<= {100 * MOST_LATE:g}", points <= 100 * MOST_LATE + 1e-9)


def rejected(times_ms: Sequence[float]) -> Figure:
    """What it costs to be told that there is no room."""
    median = statistics.median(times_ms)
    return Figure("a rejection, median, ms", round(median, 4), f"< {MOST_REJECTION_MS:g}", median < MOST_REJECTION_MS)


def rejections_note(times_ms: Sequence[float]) -> str:
    """The rest of their distribution."""
    p99 = float(np.quantile(times_ms, 0.99))
    return f"a rejection: {len(times_ms)} of them, p99 {p99:.3f} ms, at most {max(times_ms):.3f} ms"
