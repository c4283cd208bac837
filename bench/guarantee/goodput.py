"""Goodput: the quality of what is delivered on time, beside another discipline's of the same requests."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bench.report import Figure

ABOVE_FROM = 1.5  # times the capacity, from where on ours must be above the others
_RESAMPLES, _BLOCK = 2_000, 20


def goodput(load: float, baseline: str, ours: Sequence[float], theirs: Sequence[float]) -> Figure:
    """Over the baseline's; qualities of the same requests in the same order."""
    low, high = ratio_interval(ours, theirs)
    name = f"{load:g} times capacity: goodput over that of {baseline}, 95 % interval"
    measured = f"{low:.4f} to {high:.4f}"
    if load >= ABOVE_FROM:
        return Figure(name, measured, "above 1", low > 1.0)
    return Figure(name, measured, "not below 1", high >= 1.0)


def ratio_interval(ours: Sequence[float], theirs: Sequence[float]) -> tuple[float, float]:
    """95 % interval of the ratio of mean qualities, from a bootstrap over blocks of requests that follow each other."""
    source = np.random.default_rng(0)
    pairs = np.array(list(zip(ours, theirs, strict=True)))
    sums = np.array([pairs[i : i + _BLOCK].sum(axis=0) for i in range(0, len(pairs), _BLOCK)])
    ratios = []
    for _ in range(_RESAMPLES):
        mine, other = sums[source.integers(len(sums), size=len(sums))].sum(axis=0)
        ratios.append(mine / max(other, 1e-9))
    low, high = np.quantile(ratios, (0.025, 0.975))
    return float(low), float(high)
