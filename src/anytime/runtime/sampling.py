"""Choosing the next token."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from anytime.errors import UsageError
from anytime.runtime.engine import FloatArray

_LEAST_TEMPERATURE = 1e-6  # as good as greedy; a smaller one would overflow


@dataclass(frozen=True, slots=True)
class Sampling:
    """Temperature 0 is greedy; ``top_p`` keeps the smallest set of tokens with that probability; ``seed`` repeats."""

    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0.0 <= self.temperature < float("inf"):
            raise UsageError(f"temperature is {self.temperature}: it must be a finite number of at least 0")
        if not 0.0 < self.top_p <= 1.0:
            raise UsageError(f"top_p is {self.top_p}: it must be above 0 and at most 1")
        if self.seed < 0:
            raise UsageError(f"seed is {self.seed}: it must be a whole number of at least 0")


def softmax(logits: FloatArray) -> npt.NDArray[np.float64]:
    """Probabilities, in double precision."""
    shifted = np.exp(logits.astype(np.float64) - float(logits.max()))
    return np.asarray(shifted / shifted.sum(), dtype=np.float64)


class Sampler:
    """Draws the tokens of one thought; the same seed and logits draw the same tokens."""

    def __init__(self, sampling: Sampling) -> None:
        self._sampling = sampling
        self._rng = np.random.default_rng(sampling.seed)

    def next(self, logits: FloatArray) -> int:
        if self._sampling.temperature == 0.0:
            return int(logits.argmax())
        temperature = max(self._sampling.temperature, _LEAST_TEMPERATURE)
        scaled = np.asarray(logits / np.float32(temperature), dtype=np.float32)
        probabilities = softmax(scaled)
        order = np.argsort(-probabilities, kind="stable")
        cumulative = np.cumsum(probabilities[order])
        kept = int(np.searchsorted(cumulative, self._sampling.top_p * cumulative[-1])) + 1
        draw = self._rng.random() * cumulative[min(kept, len(order)) - 1]
        return int(order[min(int(np.searchsorted(cumulative, draw, side="right")), kept - 1)])
