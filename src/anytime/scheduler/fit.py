"""Fitting the latency model: non-negative coefficients from medians, margins from the tail of what they miss."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt


def nonnegative_least_squares(a: npt.NDArray[np.float64], b: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The x >= 0 that minimizes ``|ax - b|``, for the few columns of a latency model: the best over all supports."""
    columns = a.shape[1]
    best, least = np.zeros(columns), math.inf
    for size in range(1, columns + 1):
        for support in itertools.combinations(range(columns), size):
            x = np.zeros(columns)
            x[list(support)] = np.linalg.lstsq(a[:, support], b, rcond=None)[0]
            if (x < 0).any():
                continue
            error = float(np.linalg.norm(a @ x - b))
            if error < least:
                best, least = x, error
    return best


def fit_relative(features: Sequence[Sequence[float]], times_ns: Sequence[float]) -> npt.NDArray[np.float64]:
    """Coefficients that minimize the relative error, so that short runs count as much as long ones."""
    a, b = np.asarray(features, dtype=np.float64), np.asarray(times_ns, dtype=np.float64)
    scale = np.abs(a).max(axis=0)
    scale[scale == 0] = 1.0
    return np.asarray(nonnegative_least_squares(a / scale / b[:, None], np.ones(len(b))) / scale, dtype=np.float64)


def tail_quantile(ratios: Sequence[float], delta: float) -> tuple[float, str]:
    """A bound that a fresh ratio exceeds with probability at most ``delta``, and how it was found.

    With enough samples it is the split-conformal quantile, the ``ceil((1 - delta)(m + 1))``-th smallest of m (Vovk et
    al. 2005). With too few it extrapolates a generalized Pareto tail over the upper tenth, fitted by probability-
    weighted moments (Hosking and Wallis 1987), and says so.
    """
    ordered = np.sort(np.asarray(ratios, dtype=np.float64))
    m = len(ordered)
    rank = math.ceil((1 - delta) * (m + 1))
    if rank <= m:
        return float(ordered[rank - 1]), "conformal"
    return max(float(ordered[-1]), _pareto_quantile(ordered, delta)), "generalized-pareto"


def _pareto_quantile(ordered: npt.NDArray[np.float64], delta: float) -> float:
    m = len(ordered)
    exceed = max(5, m // 10)
    if m < 2 * exceed:
        return float(ordered[-1])
    threshold = float(ordered[-exceed - 1])
    excess = ordered[-exceed:] - threshold
    mean = float(excess.mean())
    weights = (exceed - np.arange(1, exceed + 1)) / (exceed - 1)
    weighted = float((weights * excess).mean())
    if mean <= 0 or mean <= 2 * weighted:
        return float(ordered[-1])
    shape = 2 - mean / (mean - 2 * weighted)
    scale = 2 * mean * weighted / (mean - 2 * weighted)
    tail = delta * m / exceed
    if abs(shape) < 1e-9:
        return threshold - scale * math.log(tail)
    return float(threshold + scale / shape * (tail**-shape - 1))
