"""From the deadline bench's samples to its table and its figures; nothing here measures anything."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from rich.table import Table

from bench.contenders import Delivery, Uninterrupted
from bench.intervals import clopper_pearson
from bench.peer import PeerDelivery
from bench.report import NOT_OBSERVED, Figure

BINS_MS = ((20, 40), (40, 80), (80, 160), (160, 320), (320, 500))
HARDEST = 12  # vehicles
MOST_LATE_POINTS = 0.1
LEAST_RATIO = 0.9
MOST_FLOOR_MS = 40.0

S = TypeVar("S", Delivery, Uninterrupted, PeerDelivery)


@dataclass(slots=True)
class Results:
    """All that was measured. ``floors_ms``: difficulty and floor of each question."""

    delivery_ms: float
    floors_ms: dict[str, tuple[int, float]]
    ours: list[Delivery] = field(default_factory=list)
    control: list[Delivery] = field(default_factory=list)
    uninterrupted: list[Uninterrupted] = field(default_factory=list)
    peer: list[PeerDelivery] = field(default_factory=list)
    peer_note: str = ""

    def samples(self) -> dict[str, Any]:
        """Rows under the names of their columns."""
        return {
            "floors": {
                "columns": ["id", "difficulty", "floor_ms"],
                "rows": [[k, *v] for k, v in self.floors_ms.items()],
            },
            "ours": {"columns": Delivery._fields, "rows": self.ours},
            "control": {"columns": Delivery._fields, "rows": self.control},
            "uninterrupted": {"columns": Uninterrupted._fields, "rows": self.uninterrupted},
            "peer": {"columns": PeerDelivery._fields, "rows": self.peer, "note": self.peer_note},
            "notes": notes(self),
        }


def figures(results: Results, quick: bool) -> list[Figure]:
    """Everything the bench was asked to reach. What a quick run happens not to observe is no miss."""
    return [
        _late(results),
        _hangs(results),
        _valid(results, quick),
        _floor(results, quick),
        *_ratio_figures(results, quick),
        _at_once(results, quick),
    ]


def _late(results: Results) -> Figure:
    points = 100 * (_share(d.late for d in results.ours) - _share(d.late for d in results.control))
    name = "late, ours minus control, percentage points"
    return Figure(name, round(points, 6), f"<= {MOST_LATE_POINTS}", points <= MOST_LATE_POINTS + 1e-9)


def _hangs(results: Results) -> Figure:
    hangs = sum(d.hung for d in results.ours)
    return Figure("hangs", hangs, "0", hangs == 0)


def _valid(results: Results, quick: bool) -> Figure:
    name = "valid answers at or above the floor, %"
    judged = [d for d in results.ours if d.budget_ms >= d.floor_ms]
    if not judged:
        return Figure(name, NOT_OBSERVED, "100", quick)
    return Figure(name, round(100 * _share(d.valid for d in judged), 4), "100", all(d.valid for d in judged))


def _floor(results: Results, quick: bool) -> Figure:
    name, target = f"largest floor with {HARDEST} vehicles, ms", f"<= {MOST_FLOOR_MS:.0f}"
    floors = [floor for difficulty, floor in results.floors_ms.values() if difficulty == HARDEST]
    if not floors:
        return Figure(name, NOT_OBSERVED, target, quick)
    return Figure(name, max(floors), target, max(floors) <= MOST_FLOOR_MS)


def _ratio_figures(results: Results, quick: bool) -> list[Figure]:
    found = []
    for low, high in BINS_MS:
        name = f"thought behind the answer over an uninterrupted one's, median, {low}-{high} ms"
        ratios = _ratios(results, (low, high))
        median = statistics.median(ratios) if ratios else None
        measured, holds = (NOT_OBSERVED, quick) if median is None else (round(median, 4), median >= LEAST_RATIO)
        found.append(Figure(name, measured, f">= {LEAST_RATIO}", holds))
    return found


def _ratios(results: Results, limits: tuple[int, int]) -> list[float]:
    """1 where both thoughts closed themselves; no ratio where even the uninterrupted one had no token yet."""
    deliveries = {d.request: d for d in results.ours}
    ratios = []
    for bare in _within(results.uninterrupted, limits):
        delivery = deliveries[bare.request]
        if bare.completed and _whole(delivery):
            ratios.append(1.0)
        elif bare.tokens > 0:
            ratios.append(delivery.thought_tokens / bare.tokens)
    return ratios


def _whole(delivery: Delivery) -> bool:
    """The answer rests on a thought that closed itself."""
    return delivery.stopped == "complete" and delivery.source == "thought"


def _at_once(results: Results, quick: bool) -> Figure:
    """A runtime that sat on a finished answer until the deadline would hand it over long after it was found.

    Waking a thread is what it takes, so it is held to the control's waking in the same run, not to a time.
    """
    name = "a finished thought's answer found until returned, p99, over the control's waking up, p99"
    handovers, wakings = _handovers(results), _wakings(results)
    if not handovers or not wakings:
        return Figure(name, NOT_OBSERVED, "<= 1", quick)
    ratio = _quantile(handovers, 0.99) / _quantile(wakings, 0.99)
    return Figure(name, round(ratio, 4), "<= 1", ratio <= 1)


def _handovers(results: Results) -> list[float]:
    """From a whole thought's answer to its caller, ms."""
    return [d.handover_ms for d in results.ours if _whole(d) and d.handover_ms is not None]


def _wakings(results: Results) -> list[float]:
    """From the instant at which the control's wait should have ended until its caller was back, ms."""
    return [d.elapsed_ms - (d.budget_ms - results.delivery_ms) for d in results.control if d.elapsed_ms is not None]


def _waking_note(results: Results) -> str:
    """Both sides of the ratio, in milliseconds."""
    sides = (
        ("a finished thought's answer until returned", _handovers(results)),
        ("control's waking up", _wakings(results)),
    )
    parts = [
        f"{name} {statistics.median(times):.2f} ms at the median, {_quantile(times, 0.99):.2f} at p99"
        for name, times in sides
        if times
    ]
    return "; ".join(parts) or "no wait observed"


def notes(results: Results) -> list[str]:
    """What the figures rest on, and what was not asked for but belongs beside them."""
    return [
        _rate("late, ours", [d.late for d in results.ours]),
        _rate("late, control", [d.late for d in results.control]),
        _rate("late, ours, of those that used their whole budget", [d.late for d in results.ours if not _whole(d)]),
        _rate("flagged late, ours", [d.flagged_late for d in results.ours]),
        _rate("overrun, ours", [d.overrun for d in results.ours]),
        _rate("valid below the floor", [d.valid for d in results.ours if d.budget_ms < d.floor_ms]),
        _finished(results),
        _waking_note(results),
        *_peer(results),
    ]


def _rate(name: str, hits: Sequence[bool]) -> str:
    low, high = clopper_pearson(sum(hits), len(hits))
    share = f"{100 * _share(hits):.3f} %, " if hits else ""
    return f"{name}: {sum(hits)} of {len(hits)} ({share}95 % bounds {100 * low:.3f} to {100 * high:.3f} %)"


def _finished(results: Results) -> str:
    shares = [d.elapsed_ms / d.budget_ms for d in results.ours if _whole(d) and d.elapsed_ms is not None]
    if not shares:
        return f"thoughts that closed themselves: {NOT_OBSERVED}"
    return (
        f"thoughts that closed themselves: {len(shares)}, returned after {statistics.median(shares):.3f} of the budget"
    )


def _peer(results: Results) -> list[str]:
    if not results.peer:
        return [results.peer_note or "peer not measured: it was not asked"]
    over = [p.elapsed_ms - p.budget_ms for p in results.peer]
    return [
        f"peer, transformers generate(max_time=budget): {results.peer_note}",
        _rate("late, peer", [o > 0 for o in over]),
        _rate("answer behind the thought, peer", [p.answered for p in results.peer]),
        f"peer: over the budget by {_quantile(over, 0.5):.2f} ms at the median, {_quantile(over, 0.99):.2f} ms at p99; "
        f"{statistics.median(p.tokens for p in results.peer):.0f} tokens at the median",
    ]


def table(results: Results) -> Table:
    """A line for each range of budgets."""
    columns = ("budget ms", "requests", "late ours", "late control", "late peer")
    medians = ("slack ms", "thought tokens", "thought ratio")
    made = Table(*columns, *(f"{name}, median" for name in medians), title="delivery by the deadline")
    for low, high in BINS_MS:
        mine, control = _within(results.ours, (low, high)), _within(results.control, (low, high))
        peer = _within(results.peer, (low, high))
        made.add_row(
            f"{low}-{high}",
            str(len(mine)),
            str(sum(d.late for d in mine)),
            str(sum(d.late for d in control)),
            f"{sum(p.elapsed_ms > p.budget_ms for p in peer)} of {len(peer)}",
            _median([d.slack_ms for d in mine if d.slack_ms is not None], ".2f"),
            _median([d.thought_tokens for d in mine], ".0f"),
            _median(_ratios(results, (low, high)), ".3f"),
        )
    return made


def _within(samples: Sequence[S], limits: tuple[int, int]) -> list[S]:
    low, high = limits
    return [s for s in samples if low <= s.budget_ms < high or (high == BINS_MS[-1][1] and s.budget_ms >= high)]


def _median(values: Sequence[float], form: str) -> str:
    return format(statistics.median(values), form) if values else "-"


def _quantile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least this share of them does not exceed."""
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)]


def _share(hits: Iterable[bool]) -> float:
    counted = list(hits)
    return sum(counted) / len(counted) if counted else 0.0
