"""Fitting the latency model: non-negative coefficients from medians."""

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
