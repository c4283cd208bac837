"""Replaying policies over recordings, in as many processes as there are cores."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from anytime.calibrate.record import Recording
from anytime.calibrate.replay import Outcome, Replayer
from anytime.runtime.policies.policy import Policy
from bench.report import progress

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Run:
    """One policy on one set: arrays of [budget, question].

    ``spent``: thought tokens of all lines and answer tokens of all answers. ``over``, ``under``: thought tokens after
    the answer had become right for good; 1 where thinking stopped on a wrong answer that more would have put right.
    """

    right: Array
    valid: Array
    spent: Array
    elapsed_ns: Array
    over: Array
    under: Array
    answers: list[list[str | None]]


_replayer: Replayer
_recordings: Sequence[Recording]
_budgets: Sequence[int]


def _start(replayer: Replayer, recordings: Sequence[Recording], budgets: Sequence[int]) -> None:
    global _replayer, _recordings, _budgets
    _replayer, _recordings, _budgets = replayer, recordings, budgets


def _one(policy: Policy) -> Run:
    outcomes = [[_replayer.replay(one, policy, budget) for one in _recordings] for budget in _budgets]

    def table(value: object) -> Array:
        return np.array(value, dtype=np.float64)

    return Run(
        table([[o.right for o in row] for row in outcomes]),
        table([[o.answer is not None for o in row] for row in outcomes]),
        table([[o.thought_tokens + o.answer_tokens for o in row] for row in outcomes]),
        table([[o.elapsed_ns for o in row] for row in outcomes]),
        table([[overthought(r, o) for r, o in zip(_recordings, row, strict=True)] for row in outcomes]),
        table([[underthought(r, o) for r, o in zip(_recordings, row, strict=True)] for row in outcomes]),
        [[o.answer.text if o.answer else None for o in row] for row in outcomes],
    )


def joined(runs: Sequence[Run]) -> Run:
    """Runs of one policy on several parts of a set, as one."""

    def together(name: str) -> Array:
        return np.concatenate([getattr(run, name) for run in runs], axis=1)

    by_budget = zip(*(run.answers for run in runs), strict=True)
    return Run(
        right=together("right"),
        valid=together("valid"),
        spent=together("spent"),
        elapsed_ns=together("elapsed_ns"),
        over=together("over"),
        under=together("under"),
        answers=[[text for row in rows for text in row] for rows in by_budget],
    )


def settled(recording: Recording, outcome: Outcome) -> int | None:
    """Tokens after which the greedy thought behind an answer was right to its end; None where it ended wrong."""
    thoughts = recording.efforts[outcome.answer.effort] if outcome.answer else recording.plain
    tokens: int | None = None
    for probe in reversed(thoughts.passes[0].probes):
        if probe.text not in recording.right:
            break
        tokens = probe.tokens
    return tokens


def overthought(recording: Recording, outcome: Outcome) -> float:
    since = settled(recording, outcome)
    return 0.0 if since is None else max(0.0, outcome.thought_tokens - since)


def underthought(recording: Recording, outcome: Outcome) -> float:
    """Only where the policy itself stopped, not the deadline."""
    return float(outcome.stopped == "early" and not outcome.right and settled(recording, outcome) is not None)


def run_all(
    what: str, policies: Sequence[Policy], replayer: Replayer, recordings: Sequence[Recording], budgets: Sequence[int]
) -> list[Run]:
    """A run of each policy, in their order."""
    context = multiprocessing.get_context("fork")
    with progress() as bar, context.Pool(os.cpu_count(), _start, (replayer, recordings, budgets)) as pool:
        task = bar.add_task(f"replaying {what}", total=len(policies))
        runs = []
        for run in pool.imap(_one, policies):
            runs.append(run)
            bar.update(task, advance=1, refresh=True)
    return runs
