"""Several lines of thought side by side: what they agree on, the first to finish, or the surest."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import msgspec

from anytime.runtime.bank import Candidate
from anytime.runtime.policies.policy import CONCLUDE, DRAWN, THINK, Plan, Verdict, View
from anytime.runtime.policies.vote import final_answers, majority, tally, weighted
from anytime.runtime.sampling import Sampling


class NoThinking(msgspec.Struct, frozen=True):
    """``k`` drawn answers without any thought, and a vote (2504.09858)."""

    k: int = 4

    def begin(self, view: View) -> Plan:
        return Plan(min(self.k, view.rows), Sampling(1.0), limit=0, probes=False, draw_answers=True)

    def judge(self, view: View) -> Verdict:
        return THINK

    def choose(self, found: Sequence[Candidate]) -> Candidate:
        return majority(found)


class SelfConsistency(msgspec.Struct, frozen=True):
    """``k`` lines and a vote (2203.11171), ended as soon as the outcome is settled.

    ``early`` is "window" (ESC, 2401.10480: all of the lines so far that ended agree, at least ``least``), "posterior"
    (Adaptive-Consistency, 2305.11860: the leader stays ahead with probability 0.95), or "no".
    """

    k: int = 4
    early: Literal["no", "window", "posterior"] = "no"
    least: int = 2

    def begin(self, view: View) -> Plan:
        return Plan(min(self.k, view.rows), DRAWN, probes=False)

    def judge(self, view: View) -> Verdict:
        return CONCLUDE if view.found and self._settled(view) else THINK

    def _settled(self, view: View) -> bool:
        ended = [candidate for candidate in final_answers(view.found) if candidate.complete]
        if self.early == "no" or len(ended) < self.least:
            return False
        votes = sorted(tally(ended, lambda candidate: 1.0).values(), reverse=True)
        if self.early == "window":
            return len(votes) == 1
        return stays_ahead(round(votes[0]), round(votes[1]) if len(votes) > 1 else 0) > 0.95

    def choose(self, found: Sequence[Candidate]) -> Candidate:
        return majority(found)


def stays_ahead(first: int, second: int) -> float:
    """The probability that the first of two answers is the likelier, after so many votes: P(x > 1/2), x ~ Beta.

    The Beta of Adaptive-Consistency's stopping rule has parameters first + 1 and second + 1; for whole numbers its
    distribution is a binomial tail.
    """
    n = first + second + 1
    return math.fsum(math.comb(n, i) for i in range(first + 1)) / 2.0**n


class ShortestFirst(msgspec.Struct, frozen=True):
    """``k`` lines; the first ``m`` that end vote, the others are let go (short-m@k, 2505.17813)."""

    m: int = 1
    k: int = 4

    def begin(self, view: View) -> Plan:
        return Plan(min(self.k, view.rows), DRAWN, probes=False)

    def judge(self, view: View) -> Verdict:
        return CONCLUDE if view.ended >= self.m else THINK

    def choose(self, found: Sequence[Candidate]) -> Candidate:
        ended = [candidate for candidate in found if candidate.complete]
        return majority(ended or found)


class _Abreast(msgspec.Struct, frozen=True):
    """``k`` drawn lines, all thought to their ends."""

    k: int = 4

    def begin(self, view: View) -> Plan:
        return Plan(min(self.k, view.rows), DRAWN, probes=False)

    def judge(self, view: View) -> Verdict:
        return THINK


class BestOf(_Abreast, frozen=True):
    """``k`` lines, and the answer of the most confident."""

    def choose(self, found: Sequence[Candidate]) -> Candidate:
        candidates = final_answers(found)
        ended = [candidate for candidate in candidates if candidate.complete]
        return max(ended or candidates, key=lambda candidate: candidate.confidence)


class WeightedVote(_Abreast, frozen=True):
    """``k`` lines, their calibrated log-odds added up."""

    def choose(self, found: Sequence[Candidate]) -> Candidate:
        return weighted(found)


class WidthDepth(msgspec.Struct, frozen=True):
    """As many lines as can still come to their predicted end at the measured cost of that width; their odds are added.

    ``slack`` of the predicted length must fit.
    """

    slack: float = 1.1

    def begin(self, view: View) -> Plan:
        length = self.slack * view.expected()
        widths = [width for width in range(2, view.rows + 1) if view.room(width) >= length]
        return Plan(max(widths), DRAWN, probes=False) if widths else Plan()

    def judge(self, view: View) -> Verdict:
        return THINK

    def choose(self, found: Sequence[Candidate]) -> Candidate:
        return weighted(found)
