"""What the bench was asked to reach, judged from the samples; a figure that lacks a side is left out."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from functools import partial

from bench.peers.samples import Measured, limit_ratio, step_ratio, token_ratio
from bench.peers.shapes import LARGE, REFERENCE
from bench.report import Figure

MOST_STEP, MOST_STEP_AT_EQUAL_BITS, MOST_LIMIT, LEAST_TOKENS = 0.8, 1.0, 2.0, 1.2
STRETCH_AT_EQUAL_BITS = 0.9
BUDGET_MS = 200
SHORT, LONG = 64, 900

Ratio = Callable[[Measured, Measured], float]


def figures(shape: str, every: Sequence[Measured]) -> list[Figure]:
    """Those of one shape."""
    return _reference(every) if shape == REFERENCE else _large(every)


def _reference(every: Sequence[Measured]) -> list[Figure]:
    found = []
    for context in (SHORT, LONG):
        ratio = least(every, partial(step_ratio, context=context))
        name = f"{REFERENCE}: token to token at context {context}, ours over the best peer's"
        found += _at_most(name, ratio, MOST_STEP)
    ratio = most(every, partial(token_ratio, budget_ms=BUDGET_MS))
    if ratio is not None:
        name = f"{REFERENCE}: tokens inside {BUDGET_MS} ms, ours over the best peer's"
        found.append(Figure(name, ratio, f"≥ {LEAST_TOKENS}", ratio >= LEAST_TOKENS))
    return found


def _large(every: Sequence[Measured]) -> list[Figure]:
    found = []
    for bits in (4, 8):
        group = [one for one in every if one.contender.bits == bits]
        ratio = least(group, partial(step_ratio, context=SHORT))
        name = f"{LARGE}: token to token at context {SHORT} with {bits} bits, ours over the best peer's"
        found += _at_most(name, ratio, MOST_STEP_AT_EQUAL_BITS)
    ours = [one for one in every if one.contender.ours]
    if ours:
        fastest = min(ours, key=lambda one: statistics.median(one.steps(SHORT)))
        name = f"{LARGE}: token to token at context {SHORT}, our fastest over reading its weights"
        found += _at_most(name, limit_ratio(fastest, SHORT), MOST_LIMIT)
    return found


def _at_most(name: str, ratio: float | None, limit: float) -> list[Figure]:
    return [] if ratio is None else [Figure(name, ratio, f"≤ {limit}", ratio <= limit)]


def least(every: Sequence[Measured], ratio: Ratio) -> float | None:
    """Our best precision against the peer that is hardest to beat, where less is better."""
    ours, peers = sides(every)
    return min(max(ratio(one, peer) for peer in peers) for one in ours) if ours and peers else None


def most(every: Sequence[Measured], ratio: Ratio) -> float | None:
    """The same where more is better."""
    ours, peers = sides(every)
    return max(min(ratio(one, peer) for peer in peers) for one in ours) if ours and peers else None


def sides(every: Sequence[Measured]) -> tuple[list[Measured], list[Measured]]:
    """Ours, and the peers'."""
    return [one for one in every if one.contender.ours], [one for one in every if not one.contender.ours]


def took_part(measured: int, asked: int) -> Figure:
    """Nobody is left out silently."""
    return Figure("contenders that could be measured", f"{measured} of {asked}", "all", measured == asked)
