"""Tuning: each contender's setting is the one that did best on the calibration questions."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from anytime.calibrate.control import learn
from anytime.calibrate.fit import fit
from anytime.calibrate.record import Recording
from anytime.calibrate.replay import Replayer
from anytime.runtime.forecast import Calibration, Forecast
from anytime.runtime.policies.policy import Policy
from bench.anytime.contenders import contenders, savers
from bench.anytime.figures import index
from bench.anytime.runs import Run, joined, run_all
from bench.anytime.sets import Set


def for_index(
    sets: Sequence[Set], halves: Sequence[Replayer], budgets: Mapping[str, Sequence[int]]
) -> dict[str, Policy]:
    """Of each contender, the setting with the highest anytime index, mean over the domains."""
    compared = contenders(halves[0].codec.efforts)
    tried = _tried(compared, sets, halves, budgets)
    return {
        name: settings[int(np.argmax([np.mean([index(run) for run in runs]) for runs in tried[name]]))]
        for name, settings in compared.items()
    }


def for_tokens(one: Set, halves: Sequence[Replayer], budget_ns: int) -> dict[str, Policy]:
    """Of each contender, the setting with the fewest tokens among those as accurate as the whole thought.

    Where none is, the most accurate.
    """
    compared = savers(halves[0].codec.efforts)
    tried = _tried(compared, [one], halves, {one.domain: [budget_ns]})
    whole = np.mean([recording.plain.passes[0].probes[-1].text in recording.right for recording in one.recordings])
    chosen: dict[str, Policy] = {}
    for name, settings in compared.items():
        runs = [by_domain[0] for by_domain in tried[name]]
        enough = [i for i, run in enumerate(runs) if index(run) >= whole]
        cheapest = min(enough, key=lambda i: float(runs[i].spent.mean()), default=None)
        chosen[name] = settings[int(np.argmax([index(run) for run in runs])) if cheapest is None else cheapest]
    return chosen


def _tried(
    contenders: Mapping[str, Sequence[Policy]],
    sets: Sequence[Set],
    halves: Sequence[Replayer],
    budgets: Mapping[str, Sequence[int]],
) -> dict[str, list[list[Run]]]:
    """contender → setting → domain → run."""
    policies = [policy for settings in contenders.values() for policy in settings]
    by_domain = [_crossed(policies, one, halves, budgets[one.domain]) for one in sets]
    by_policy = list(zip(*by_domain, strict=True))
    tried: dict[str, list[list[Run]]] = {}
    start = 0
    for name, settings in contenders.items():
        tried[name] = [list(runs) for runs in by_policy[start : start + len(settings)]]
        start += len(settings)
    return tried


def _crossed(policies: Sequence[Policy], one: Set, halves: Sequence[Replayer], budgets: Sequence[int]) -> list[Run]:
    """Each half of the questions under the forecast that was fitted to the other."""
    parts = [
        run_all(f"{one.domain}, tuning {i + 1} of {len(halves)}", policies, replayer, half(one, i), budgets)
        for i, replayer in enumerate(halves)
    ]
    return [joined(list(runs)) for runs in zip(*parts, strict=True)]


def half(one: Set, i: int) -> list[Recording]:
    """Every other question."""
    return one.recordings[i::2]


def _known(recordings: Sequence[Recording], replayer: Replayer) -> Calibration:
    return learn(recordings, replayer, fit(recordings, replayer, "the other half"))


def cross_fitted(sets: Sequence[Set], replayer: Replayer) -> list[Replayer]:
    """A replayer for each half, with a forecast fitted to the other: on questions it was fitted to, it is too good."""
    return [
        dataclasses.replace(
            replayer,
            forecast=Forecast(_known([one for part in sets for one in half(part, 1 - i)], replayer)),
        )
        for i in range(2)
    ]
