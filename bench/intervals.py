"""How sure a counted rate is: the exact binomial interval of Clopper and Pearson (1934)."""

from __future__ import annotations

import math

_HALVINGS = 60


def binomial_cdf(k: int, n: int, p: float) -> float:
    """The probability of at most ``k`` successes in ``n`` trials."""
    if p <= 0.0 or k >= n:
        return 1.0
    if p >= 1.0:
        return 0.0
    log_p, log_q, log_n = math.log(p), math.log1p(-p), math.lgamma(n + 1)
    terms = (log_n - math.lgamma(i + 1) - math.lgamma(n - i + 1) + i * log_p + (n - i) * log_q for i in range(k + 1))
    return min(1.0, math.fsum(math.exp(term) for term in terms))


def clopper_pearson(k: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Two-sided bounds on the rate behind ``k`` successes in ``n`` trials; (0, 1) for no trials."""
    if not 0 <= k <= n:
        raise ValueError(f"{k} successes in {n} trials: there must be between 0 and {n}")
    tail = (1.0 - confidence) / 2
    low = 0.0 if k == 0 else _rate_where_cdf_is(1.0 - tail, k - 1, n)
    high = 1.0 if k == n else _rate_where_cdf_is(tail, k, n)
    return low, high


def _rate_where_cdf_is(probability: float, k: int, n: int) -> float:
    """Bisection: the distribution function falls as the rate grows."""
    low, high = 0.0, 1.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if binomial_cdf(k, n, middle) > probability:
            low = middle
        else:
            high = middle
    return (low + high) / 2
