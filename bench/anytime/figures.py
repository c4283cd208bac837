"""The figures: anytime index, regret, tokens at equal accuracy, calibration; each with its interval."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from bench.anytime.contenders import AUTO
from bench.anytime.runs import Array, Run
from bench.report import Figure

BOOTSTRAPS = 2000
MARGIN, MOST_REGRET, MOST_ERROR, LEAST_AUROC = 0.005, 0.01, 0.03, 0.8

Runs = dict[str, dict[str, Run]]  # policy → domain → run


def index(run: Run) -> float:
    """The anytime index: mean accuracy over the budgets, of the answer actually returned."""
    return float(run.right.mean())


def difference(mine: Array, theirs: Array) -> tuple[float, float, float]:
    """Mean paired difference over questions with its 95 % bootstrap interval; arrays of [budget, question]."""
    paired = (mine - theirs).mean(axis=0)
    rng = np.random.default_rng(0)
    draws = paired[rng.integers(0, len(paired), (BOOTSTRAPS, len(paired)))].mean(axis=1)
    low, high = np.quantile(draws, (0.025, 0.975))
    return float(paired.mean()), float(low), float(high)


def valid_figure(runs: Runs) -> Figure:
    worst = min(float(run.valid.mean(axis=1).min()) for by_domain in runs.values() for run in by_domain.values())
    name = "valid answers at or above the floor, worst policy and budget, %"
    return Figure(name, 100 * worst, "100", worst == 1.0)


def monotone_figure(runs: Runs) -> Figure:
    """The largest fall of auto's accuracy from one budget to the next, beyond its paired interval."""
    falls = []
    for run in runs[AUTO].values():
        for before, after in zip(run.right, run.right[1:], strict=False):
            falls.append(-difference(after[None], before[None])[2])
    worst = 100 * max(falls)
    return Figure(
        "auto: largest fall of accuracy with more time, beyond its 95 % interval, points", worst, "≤ 0", worst <= 0
    )


def index_figures(runs: Runs) -> list[Figure]:
    figures = []
    for domain in runs[AUTO]:
        rivals = {name: by[domain] for name, by in runs.items() if name != AUTO}
        best = max(rivals, key=lambda name: index(rivals[name]))
        worst = min(difference(runs[AUTO][domain].right, rival.right)[1] for rival in rivals.values())
        mean, low, high = difference(runs[AUTO][domain].right, rivals[best].right)
        beside = f"{best}: {mean:+.4f}, {low:+.4f} to {high:+.4f}"
        name = f"{domain}: auto's anytime index minus a baseline's, lowest lower bound (best {beside})"
        figures.append(Figure(name, worst, f"≥ -{MARGIN}", worst >= -MARGIN))
    pooled = {name: np.concatenate([run.right for run in by.values()], axis=1) for name, by in runs.items()}
    best = max((name for name in pooled if name != AUTO), key=lambda name: float(pooled[name].mean()))
    mean, low, high = difference(pooled[AUTO], pooled[best])
    name = f"pooled: auto's anytime index minus the best baseline's ({best}; {low:+.4f} to {high:+.4f})"
    return [*figures, Figure(name, mean, "> 0", mean > 0)]


def regret_figures(runs: Runs, cuts: Mapping[str, Sequence[Run]]) -> list[Figure]:
    """Against the best fixed cut at each budget, picked on the held-out questions themselves, which flatters it."""
    figures = []
    for domain, run in runs[AUTO].items():
        best = np.max([cut.right.mean(axis=1) for cut in cuts[domain]], axis=0)
        regret = float(np.mean(best - run.right.mean(axis=1)))
        worst = float(np.max(best - run.right.mean(axis=1)))
        name = f"{domain}: auto's regret to the best fixed cut per budget, mean (largest {worst:.4f})"
        figures.append(Figure(name, regret, f"≤ {MOST_REGRET}", regret <= MOST_REGRET))
    return figures


def saving_figure(domain: str, runs: dict[str, Run]) -> Figure:
    """Tokens at a loose deadline, of auto and of the baseline with the fewest among those as accurate."""
    rivals = {name: run for name, run in runs.items() if name != AUTO}
    mine = runs[AUTO]
    equal = {n: r for n, r in rivals.items() if difference(r.right, mine.right)[2] >= 0.0}
    if not equal:
        return Figure(f"{domain}: tokens saved at equal accuracy", "no baseline is as accurate", "> 0", False)
    best = min(equal, key=lambda name: float(equal[name].spent.mean()))
    mean, low, high = difference(equal[best].spent, mine.spent)
    accuracy, least, most = (100 * value for value in difference(mine.right, equal[best].right))
    beside = f"{best}: {equal[best].spent.mean():.1f}; {low:+.1f} to {high:+.1f}"
    points = f"accuracy {accuracy:+.2f} points, {least:+.2f} to {most:+.2f}"
    name = f"{domain}, loose deadline: tokens fewer than the best tuned baseline's ({beside}; {points})"
    return Figure(name, mean, "> 0 beyond the interval", low > 0 and most >= 0)


def auroc(score: Array, right: Array) -> float:
    """The probability that a right answer is scored above a wrong one, ties half (Mann and Whitney)."""
    order = np.argsort(score, kind="stable")
    _, inverse, counts = np.unique(score[order], return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    ranks = np.empty(len(score))
    ranks[order] = (ends - (counts - 1) / 2)[inverse]
    positive = right.sum()
    negative = len(right) - positive
    if not positive or not negative:
        return float("nan")
    return float((ranks[right > 0].sum() - positive * (positive + 1) / 2) / (positive * negative))


def brier(predicted: Array, right: Array) -> float:
    return float(np.mean((predicted - right) ** 2))
