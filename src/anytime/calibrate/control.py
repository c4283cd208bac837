"""Learning the meta-reasoner's bandit from replays that explore."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import msgspec
import numpy as np

from anytime.calibrate.record import Recording
from anytime.calibrate.replay import Replayer
from anytime.runtime.bank import Candidate
from anytime.runtime.forecast import Calibration, Forecast
from anytime.runtime.policies.meta import ACTIONS, MOST_THOUGHTS, MetaReasoner, context_of, possible, verdict_of
from anytime.runtime.policies.policy import CONCLUDE, Plan, Verdict, View, to_begin
from anytime.runtime.policies.until import UntilDeadline

TOKEN_COST = 1e-4  # of the reward, which is 1 for a right answer
_EPISODES = 4  # replays of every question in a round
_EXPLORE = (1.0, 0.5, 0.3, 0.2)  # share of decisions taken at random, by round
_MOST_DECISIONS = 60  # in one request; then it thinks no further
_RIDGE = 1.0
_ENDLESS_NS = 3_600 * 10**9


def learn(recordings: Sequence[Recording], replayer: Replayer, calibration: Calibration) -> Calibration:
    """The calibration with weights for the meta-reasoner, from deadlines that bind and deadlines that do not.

    Every round explores less and follows what the rounds before taught more, because what an action is worth depends
    on those after it.
    """
    rng = random.Random(0)
    seen: dict[str, list[tuple[list[float], float]]] = {action: [] for action in ACTIONS}
    whole_ns = [replayer.replay(one, UntilDeadline(), _ENDLESS_NS).elapsed_ns for one in recordings]
    for explore in _EXPLORE:
        knowing = replace(replayer, forecast=Forecast(calibration))
        for recording, longest_ns in zip(recordings, whole_ns, strict=True):
            for _ in range(_EPISODES):
                budget_ns = round(longest_ns * math.exp(rng.uniform(math.log(0.15), math.log(MOST_THOUGHTS))))
                exploring = _Exploring(explore, rng.random())
                outcome = knowing.replay(recording, exploring, budget_ns)
                for context, action, spent in exploring.taken:
                    tokens = outcome.thought_tokens + outcome.answer_tokens - spent
                    seen[action].append((context, outcome.right - TOKEN_COST * tokens))
        calibration = msgspec.structs.replace(
            calibration, control={action: _ridge(rows) for action, rows in seen.items() if rows}
        )
    return calibration


@dataclass
class _Exploring:
    """The meta-reasoner, that now and then does something else, and notes what it did."""

    share: float
    seed: float
    taken: list[tuple[list[float], str, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._rng = random.Random(self.seed)
        self._knowing = MetaReasoner()

    def begin(self, view: View) -> Plan | Literal["conclude"]:
        return to_begin(self.judge(view))

    def judge(self, view: View) -> Verdict:
        if len(self.taken) >= _MOST_DECISIONS:
            return CONCLUDE
        at_random = self._rng.random() < self.share
        action = self._rng.choice(possible(view)) if at_random else self._knowing.action(view)
        self.taken.append((context_of(view), action, view.spent))
        return verdict_of(action, view)

    def choose(self, found: Sequence[Candidate]) -> Candidate:
        return self._knowing.choose(found)


def _ridge(rows: Sequence[tuple[list[float], float]]) -> tuple[float, ...]:
    """LinUCB's estimate: ridge regression of the reward on the context."""
    x, y = np.array([context for context, _ in rows]), np.array([reward for _, reward in rows])
    found = np.linalg.solve(x.T @ x + _RIDGE * np.eye(x.shape[1]), x.T @ y)
    return tuple(float(value) for value in found)
