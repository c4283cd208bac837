"""Whether confidences are probabilities, on the held-out questions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from anytime.calibrate.fit import calibration_error, reliability, samples_of
from anytime.calibrate.replay import Replayer
from anytime.runtime.forecast import Forecast
from bench.anytime.figures import LEAST_AUROC, MOST_ERROR, auroc, brier
from bench.anytime.sets import Set
from bench.report import Figure

LEAST_PROBES = 5000


def figures(sets: Sequence[Set], replayer: Replayer, forecast: Forecast) -> tuple[list[Figure], list[str]]:
    """Expected calibration error, AUROC and Brier score of all answers found on the way, and their interval."""
    lines = [
        (i, line)
        for i, one in enumerate(sets)
        for effort in one.recordings[0].efforts
        for line in samples_of(one.recordings, replayer, 0, effort)
    ]
    flat = [sample for _, line in lines for sample in line]
    predicted = np.array([forecast.probability(sample.reading) for sample in flat])
    right = np.array([sample.right for sample in flat], dtype=np.float64)
    error = calibration_error(reliability(list(predicted), [bool(r) for r in right]))
    low, high = _clustered([len(line) for _, line in lines], predicted, right)
    score, area = brier(predicted, right), auroc(predicted, right)
    alone = brier(_by_length(flat), right)
    figures = [
        Figure(f"expected calibration error over {len(flat)} answers (95 % by question: {low:.3f} to {high:.3f})",
               error, f"≤ {MOST_ERROR}", error <= MOST_ERROR and len(flat) >= LEAST_PROBES),
        Figure("AUROC of confidence", area, f"≥ {LEAST_AUROC}", area >= LEAST_AUROC),
        Figure(f"Brier score (from the thought's length alone: {alone:.4f})", score, f"< {alone:.4f}", score < alone),
    ]  # fmt: skip
    domain_of = np.concatenate([[i] * len(line) for i, line in lines])
    notes = []
    for i, one in enumerate(sets):
        mine = domain_of == i
        part = calibration_error(reliability(list(predicted[mine]), [bool(r) for r in right[mine]]))
        notes.append(f"{one.domain}: calibration error {part:.3f}, AUROC {auroc(predicted[mine], right[mine]):.3f}")
    return figures, notes


def _clustered(sizes: Sequence[int], predicted: np.ndarray, right: np.ndarray) -> tuple[float, float]:
    """Bootstrap over questions."""
    ends = np.cumsum(sizes)
    groups = [np.arange(end - size, end) for end, size in zip(ends, sizes, strict=True)]
    rng = np.random.default_rng(0)
    errors = []
    for _ in range(100):
        chosen = np.concatenate([groups[i] for i in rng.integers(0, len(groups), len(groups))])
        errors.append(calibration_error(reliability(predicted[chosen], right[chosen])))
    low, high = np.quantile(errors, (0.025, 0.975))
    return float(low), float(high)


def _by_length(samples: Sequence[object]) -> np.ndarray:
    """The share of right answers among those of like thought length, which is all that a clock could know."""
    tokens = np.array([sample.reading.thought_tokens for sample in samples])  # type: ignore[attr-defined]
    right = np.array([sample.right for sample in samples], dtype=np.float64)  # type: ignore[attr-defined]
    edges = np.unique(np.quantile(tokens, np.linspace(0, 1, 21)))
    place = np.clip(np.searchsorted(edges, tokens, side="right"), 1, len(edges))
    means = {i: right[place == i].mean() for i in np.unique(place)}
    return np.array([means[i] for i in place])
