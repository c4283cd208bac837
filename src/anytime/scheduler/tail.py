"""The tail of measured over predicted times: quantiles, what they extrapolate to, and whether misses come in bursts."""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec
import numpy as np
import numpy.typing as npt

_Floats = npt.NDArray[np.float64]

FAR_DELTA = 0.001  # the far quantile is the one that a sample in a thousand exceeds
_LEAST_FOR_FAR = 100  # samples; fewer say nothing about one in a thousand
_FITTED = 50  # largest samples to which the tail is fitted, where that is not over a tenth of all
_LEAST_FOR_BURSTS = 5  # samples above p99
_RESAMPLES = 400
_INTERVAL = (0.025, 0.975)


class Pareto(msgspec.Struct, frozen=True):
    """A generalized Pareto tail: ``share`` of the samples lie above ``threshold``; it is heavy where ``shape`` > 0."""

    threshold: float
    share: float
    scale: float
    shape: float

    def quantile(self, delta: float) -> float:
        """What a sample exceeds with probability ``delta``, at most ``share``."""
        left = delta / self.share
        if abs(self.shape) < 1e-9:
            return self.threshold - self.scale * math.log(left)
        return self.threshold + self.scale / self.shape * (math.pow(left, -self.shape) - 1)


class Tail(msgspec.Struct, frozen=True):
    """How measured over predicted times are distributed.

    ``p999`` is the 99.9th percentile, ``interval`` its 95 % interval; None where the samples are too few. ``pareto`` is
    the tail fitted to the 50 largest samples, at most a tenth of all. Where more than those lie above ``p999``, it is
    the sample's own, elsewhere that tail's. ``burst`` is the probability that the sample behind one above p99 is above
    it too (None where too few are), ``base`` that any sample is: equal where misses do not come in bursts.
    """

    samples: int
    p50: float
    p99: float
    p999: float | None
    interval: tuple[float, float] | None
    most: float
    pareto: Pareto | None
    burst: float | None
    base: float


def summarize(ratios: Sequence[float], seed: int = 0) -> Tail:
    """The distribution of ``ratios``, which are in the order measured; at least one."""
    values = np.asarray(ratios, dtype=np.float64)
    enough = len(values) >= _LEAST_FOR_FAR
    p50, p99 = (float(value) for value in np.quantile(values, (0.5, 0.99)))
    burst, base = burstiness(values, p99)
    return Tail(
        samples=len(values),
        p50=p50,
        p99=p99,
        p999=far_quantile(values) if enough else None,
        interval=bootstrap_interval(values, seed) if enough else None,
        most=float(values.max()),
        pareto=fit_pareto(values, _fitted(values)) if enough else None,
        burst=burst,
        base=base,
    )


def tail_quantile(ratios: Sequence[float], delta: float) -> tuple[float, str]:
    """A bound that a fresh ratio exceeds with probability at most ``delta``, and how it was found.

    With enough samples it is the split-conformal quantile, the ``ceil((1 - delta)(m + 1))``-th smallest of m (Vovk et
    al. 2005). With too few it extrapolates a generalized Pareto tail over the upper tenth, and says so.
    """
    ordered = np.sort(np.asarray(ratios, dtype=np.float64))
    m = len(ordered)
    rank = math.ceil((1 - delta) * (m + 1))
    if rank <= m:
        return float(ordered[rank - 1]), "conformal"
    return _extrapolated(ordered, delta), "generalized-pareto"


def fit_pareto(values: _Floats, exceed: int) -> Pareto | None:
    """The tail over the ``exceed`` largest samples, by probability-weighted moments (Hosking and Wallis 1987).

    None where these are more than half of the samples, or have no spread.
    """
    m = len(values)
    if m < 2 * exceed:
        return None
    upper = np.sort(np.partition(values, m - exceed - 1)[m - exceed - 1 :])
    threshold, excess = float(upper[0]), upper[1:] - upper[0]
    mean = float(excess.mean())
    weights = (exceed - np.arange(1, exceed + 1)) / (exceed - 1)
    weighted = float((weights * excess).mean())
    if mean <= 0 or mean <= 2 * weighted:
        return None
    shape = 2 - mean / (mean - 2 * weighted)
    return Pareto(threshold, exceed / m, 2 * mean * weighted / (mean - 2 * weighted), shape)


def _extrapolated(values: _Floats, delta: float) -> float:
    """The quantile of a tail fitted over the upper tenth, and never less than the largest sample."""
    pareto = fit_pareto(values, max(5, len(values) // 10))
    most = float(values.max())
    return most if pareto is None else max(most, pareto.quantile(delta))


def _fitted(values: _Floats) -> int:
    """As few of the largest samples as make a steady fit: further down most are ordinary steps, not stalls."""
    return min(len(values) // 10, _FITTED)


def far_quantile(values: _Floats) -> float:
    """The 99.9th percentile: the sample's own where it lies below the fitted tail, else the tail's."""
    pareto = fit_pareto(values, _fitted(values))
    if pareto is None or pareto.share >= FAR_DELTA:
        return float(values.max()) if pareto is None else pareto.quantile(FAR_DELTA)
    return float(np.quantile(values, 1 - FAR_DELTA))


def bootstrap_interval(values: _Floats, seed: int = 0) -> tuple[float, float]:
    """A 95 % interval of ``far_quantile``: percentiles over resampled blocks of consecutive samples.

    Stalls come in bursts, so samples are not drawn one by one: a block of about the cube root of their number keeps its
    order (moving blocks, Künsch 1989).
    """
    m = len(values)
    length = max(1, round(m ** (1 / 3)))
    rng, within = np.random.default_rng(seed), np.arange(length)
    found = []
    for _ in range(_RESAMPLES):
        starts = rng.integers(0, m - length + 1, size=-(-m // length))
        drawn = values[(starts[:, None] + within).reshape(-1)[:m]]
        found.append(far_quantile(drawn))
    low, high = (float(value) for value in np.quantile(found, _INTERVAL))
    return low, high


def burstiness(values: _Floats, threshold: float) -> tuple[float | None, float]:
    """Probability that the sample behind one above ``threshold`` is above it too, and that any sample is."""
    above = values > threshold
    behind = above[1:][above[:-1]]
    return float(behind.mean()) if len(behind) >= _LEAST_FOR_BURSTS else None, float(above.mean())
