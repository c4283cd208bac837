"""Adaptive stopping: end the thought when an answer found on the way looks good enough."""

from __future__ import annotations

from typing import Literal

import msgspec

from anytime.runtime.bank import Candidate
from anytime.runtime.forecast import reading_of
from anytime.runtime.policies.policy import CONCLUDE, THINK, Following, Plan, Verdict, View, to_begin

_AHEAD = (0.1, 0.25, 0.5, 0.75, 1.0, 1.1, 1.25)  # of the thought still expected


class ConfidenceExit(Following, msgspec.Struct, frozen=True):
    """Stop at a probe whose own likelihood is over a threshold (DEER, 2504.15895; 0.95 is what it uses)."""

    threshold: float = 0.95

    def begin(self, view: View) -> Plan:
        return Plan()

    def judge(self, view: View) -> Verdict:
        last = view.found[-1] if view.found else None
        return CONCLUDE if last is not None and last.likelihood > self.threshold else THINK


class Consensus(Following, msgspec.Struct, frozen=True):
    """Stop when so many probes in a row agree (Dynasor, 2412.20993). A weak signal, kept as a baseline."""

    probes: int = 3

    def begin(self, view: View) -> Plan:
        return Plan()

    def judge(self, view: View) -> Verdict:
        last = view.found[-1] if view.found else None
        return CONCLUDE if last is not None and last.source != "instant" and last.agreed >= self.probes - 1 else THINK


class ValueOfComputation(Following, msgspec.Struct, frozen=True):
    """Think on as long as the best expected gain in the probability of being right is worth the tokens it takes.

    Russell and Wefald's value of computation with a forecast that looks several lengths ahead, because a gain may lie
    behind a plateau. ``token_cost`` is what a token must bring, in probability: the quality-cost weight. ``sure``: an
    answer with this calibrated probability is taken whatever a token costs. ``hopeless``: where no length that
    there is time for leads to this probability, the time is saved too (the lower bound of 2602.03814).
    """

    token_cost: float = 0.0
    sure: float = 1.0
    hopeless: float = 0.0

    def begin(self, view: View) -> Plan | Literal["conclude"]:
        return to_begin(self.judge(view))

    def judge(self, view: View) -> Verdict:
        if not view.found:
            return THINK
        last = view.found[-1]
        if last.confidence >= self.sure:
            return CONCLUDE
        if self.token_cost == 0.0 and self.hopeless == 0.0:
            return THINK
        ahead = outlook(view, last, view.room(1), view.effort)
        worth = max((later - last.confidence - self.token_cost * n for n, later in ahead), default=0.0)
        best = max((later for _, later in ahead), default=0.0)
        if max(best, last.confidence) < self.hopeless:
            return CONCLUDE
        return THINK if worth > 0.0 or self.token_cost == 0.0 else CONCLUDE


def outlook(view: View, known: Candidate, room: int, effort: str) -> list[tuple[int, float]]:
    """Numbers of thought tokens that may come, within ``room``, and how likely an answer behind them is right.

    ``known`` is the answer found on this thought last, or the instant one for a thought that is yet to begin.
    """
    assert view.forecast is not None
    reading = msgspec.structs.replace(reading_of(known, view.prompt_tokens, view.kind), effort=effort)
    left = max(1.0, view.expected(effort) - known.thought_tokens)
    fitting = sorted({max(1, min(room, round(share * left))) for share in _AHEAD}) if room > 0 else []
    return list(zip(fitting, view.forecast.outlook(reading, fitting), strict=True))
