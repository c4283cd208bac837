"""The scheduler's arithmetic in plain Python: slow, obvious, and what the compiled kernels are held to.

Every function takes the kernel's ``Latency`` for its coefficients and uses none of its methods; ``Drift`` is a kernel
of its own, see ``anytime.ext.drift``.
"""

from __future__ import annotations

import math
import statistics
from collections import deque

from anytime.ext.latency import CLOSE, PROBE, THINK, Latency


def run_cost(latency: Latency, n: int, context: int) -> float:
    """Predicted cost of n tokens behind ``context`` others, ns."""
    if n <= 0:
        return 0.0
    step = latency.p * context + latency.q
    if n == 1:
        return step
    return max(step, latency.alpha * n * (context + n / 2) + latency.beta * n + latency.gamma)


def upper_cost(latency: Latency, n: int, context: int) -> float:
    """Upper bound of ``run_cost``, ns."""
    return run_cost(latency, n, context) * (latency.step_margin if n == 1 else latency.run_margin)


def closing_cost(latency: Latency, context: int, close_tokens: int, answer_steps: int) -> float:
    """Upper bound of the pending token with the close tag, and every further answer step, ns."""
    cost = upper_cost(latency, close_tokens + 1, context)
    for i in range(answer_steps):
        cost += upper_cost(latency, 1, context + close_tokens + 1 + i)
    return cost


def think_steps(latency: Latency, budget_ns: int, context: int, limit: int) -> int:
    """Take decode steps one after the other while they fit."""
    spent, steps = 0.0, 0
    while steps < limit:
        spent += latency.p * (context + steps) + latency.q
        if spent > budget_ns:
            break
        steps += 1
    return steps


def likely_closing_cost(latency: Latency, context: int, close_tokens: int, answer_steps: int) -> float:
    """A tenth more than closing is predicted to take, at most its upper bound, ns."""
    cost = run_cost(latency, close_tokens + 1, context)
    for i in range(answer_steps):
        cost += run_cost(latency, 1, context + close_tokens + 1 + i)
    return min(1.1 * cost, closing_cost(latency, context, close_tokens, answer_steps))


def sure_steps(latency: Latency, left_ns: int, context: int, close_tokens: int, answer_steps: int, limit: int) -> int:
    """Take steps one after the other while their upper bounds and the closing behind them fit."""
    spent, steps = 0.0, 0
    while steps < limit:
        spent += upper_cost(latency, 1, context + steps)
        if spent + closing_cost(latency, context + steps + 1, close_tokens, answer_steps) > left_ns:
            break
        steps += 1
    return steps


def next_action(
    latency: Latency,
    left_ns: int,
    context: int,
    close_tokens: int,
    answer_steps: int,
    probe_due: bool,
    finished: bool,
) -> int:
    """Close unless the action and the closing behind it still fit in ``left_ns``."""
    if finished:
        return CLOSE
    closing_after = closing_cost(latency, context + 1, close_tokens, answer_steps)
    if probe_due and closing_cost(latency, context, close_tokens, answer_steps) + closing_after <= left_ns:
        return PROBE
    if upper_cost(latency, 1, context) + closing_after <= left_ns:
        return THINK
    return CLOSE


def is_close(a: float, b: float) -> bool:
    """Equal up to a nanosecond of rounding."""
    return math.isclose(a, b, rel_tol=1e-9, abs_tol=1.0)


class Drift:
    """A factor, a margin and counts from measured and predicted times of engine actions."""

    def __init__(self, margin: float, delta: float, eta: float, least: float, most: float) -> None:
        self.margin = self.planned_margin = margin
        self.delta, self.eta, self.least, self.most = delta, eta, least, most
        self.factor = self.ratio = 1.0
        self.actions = self.overruns = self.misses = 0.0
        self.away = 0
        self._recent = deque([1.0] * 15, maxlen=15)
        self._predicted_ns, self._measured_ns = [0.0, 0.0], [0.0, 0.0]

    def update(self, predicted_ns: int, measured_ns: int, kind: int = 0) -> None:
        """Take note of one action."""
        overran = measured_ns > predicted_ns * self.margin * self.factor
        if self.actions >= 10_000:
            self._forget_half()
        self.actions += 1
        self.overruns += overran
        self.misses += measured_ns > predicted_ns * self.planned_margin
        self._predicted_ns[kind] += predicted_ns
        self._measured_ns[kind] += measured_ns
        self.margin = min(self.most, max(self.least, self.margin + self.eta * (overran - self.delta)))
        self._recent.append(measured_ns / predicted_ns)
        self.ratio = statistics.median(self._recent)
        target = max(1.0, self.ratio)
        self.factor = target + max(0.0, self.factor - target) * 0.5 ** (1 / 200)
        self.away = self.away + 1 if self.ratio > 1.15 or self.ratio * 1.15 < 1 else 0

    def doubt(self) -> None:
        """Forget half of what the factor is above 1."""
        self.factor = 1 + (self.factor - 1) / 2

    def expect(self, slowdown: float) -> None:
        """Take it that actions take so many times as long from now on, until they show otherwise."""
        self.factor = max(self.factor, slowdown)

    def recover(self) -> None:
        """What slowed actions down is over: back to the pace that the last of them show."""
        self.factor = max(1.0, self.ratio)

    def _forget_half(self) -> None:
        self.actions, self.overruns, self.misses = self.actions / 2, self.overruns / 2, self.misses / 2
        self._predicted_ns = [ns / 2 for ns in self._predicted_ns]
        self._measured_ns = [ns / 2 for ns in self._measured_ns]

    def pace(self, kind: int) -> float:
        """Measured over predicted time of all counted actions of a kind."""
        return self._measured_ns[kind] / self._predicted_ns[kind] if self._predicted_ns[kind] else 1.0
