"""What was measured of a contender, and how two contenders are compared: round by round."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field

from bench.peers.roster import Contender

PREFILLS, CONTEXTS, BUDGETS_MS = (64, 512), (64, 900), (50, 100, 200)


@dataclass(slots=True)
class Measured:
    """A contender's samples; those of a round stand at the same place in every list of every contender.

    Times are in nanoseconds, sizes in bytes; ``limit_ns`` is how long its weights take to be read.
    """

    contender: Contender
    disk: int
    memory: int = 0
    greedy: list[int] = field(default_factory=list)
    load_ns: list[int] = field(default_factory=list)
    limit_ns: list[int] = field(default_factory=list)
    prefill_ns: dict[int, list[int]] = field(default_factory=lambda: {tokens: [] for tokens in PREFILLS})
    step_ns: dict[int, list[list[int]]] = field(default_factory=lambda: {context: [] for context in CONTEXTS})
    tokens: dict[int, list[int]] = field(default_factory=lambda: {ms: [] for ms in BUDGETS_MS})

    def steps(self, context: int) -> list[int]:
        """Every step's time at a context, of all rounds."""
        return [step for steps in self.step_ns[context] for step in steps]


def p99(values: Sequence[float]) -> float:
    return sorted(values)[math.ceil(0.99 * len(values)) - 1]


def step_ratio(one: Measured, other: Measured, context: int) -> float:
    """One's median step over the other's: the median of what the rounds say."""
    rounds = zip(one.step_ns[context], other.step_ns[context], strict=True)
    return statistics.median(statistics.median(a) / statistics.median(b) for a, b in rounds)


def token_ratio(one: Measured, other: Measured, budget_ms: int) -> float:
    """One's tokens inside a budget over the other's: the median of what the rounds say."""
    rounds = zip(one.tokens[budget_ms], other.tokens[budget_ms], strict=True)
    return statistics.median(a / max(1, b) for a, b in rounds)


def limit_ratio(one: Measured, context: int) -> float:
    """A median step over the time that reading the weights takes: the median of what the rounds say."""
    rounds = zip(one.step_ns[context], one.limit_ns, strict=True)
    return statistics.median(statistics.median(steps) / limit for steps, limit in rounds)
