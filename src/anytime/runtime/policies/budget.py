"""Budget control: how long a thought may be is said before it begins."""

from __future__ import annotations

from typing import Literal

import msgspec

from anytime.runtime.policies.policy import CONCLUDE, THINK, Extend, Following, Plan, Verdict, View


class Fixed(Following, msgspec.Struct, frozen=True):
    """Close the thought at a fixed number of tokens, as a cut-off does (the control of s1, 2501.19393)."""

    tokens: int = 64

    def begin(self, view: View) -> Plan | Literal["conclude"]:
        return Plan(limit=self.tokens, probes=False) if self.tokens else CONCLUDE

    def judge(self, view: View) -> Verdict:
        return CONCLUDE


class BudgetForcing(Following, msgspec.Struct, frozen=True):
    """Lengthen a thought that ended by itself by "Wait", at most ``times`` (s1, 2501.19393)."""

    times: int = 1
    text: str = "Wait"

    def begin(self, view: View) -> Plan:
        return Plan(probes=False)

    def judge(self, view: View) -> Verdict:
        return Extend(self.text) if view.extended < self.times and not view.width else CONCLUDE


class SplitBudget(Following, msgspec.Struct, frozen=True):
    """Only a share of the tokens there is time for may go into the thought (Elastic Reasoning, 2505.05315).

    What it keeps for the solution is left over here, because answers are bounded: it shows what a fixed split costs.
    """

    share: float = 0.8

    def begin(self, view: View) -> Plan | Literal["conclude"]:
        limit = int(self.share * view.room(1))
        return Plan(limit=limit, probes=False) if limit > 0 else CONCLUDE

    def judge(self, view: View) -> Verdict:
        return CONCLUDE


class PredictedLength(Following, msgspec.Struct, frozen=True):
    """A cap of ``k`` times the predicted length of the thought, within the time (TimeBill, 2512.21859).

    A thought still going on there is taken for lost.
    """

    k: float = 1.5

    def begin(self, view: View) -> Plan:
        expected = view.expected()
        return Plan(limit=max(1, round(self.k * expected)))

    def judge(self, view: View) -> Verdict:
        return THINK


class Difficulty(Following, msgspec.Struct, frozen=True):
    """The token length budget L = p * L_right + (1 - p) * L_max of DAST (2503.04472).

    p is the calibrated probability that the instant answer is right, L_right the predicted length of the thought.
    """

    stretch: float = 1.0  # of the budget

    def begin(self, view: View) -> Plan:
        assert view.forecast is not None
        p = view.found[-1].confidence if view.found else 0.0
        expected = view.expected()
        longest = view.forecast.calibration.efforts[view.effort].longest
        return Plan(limit=max(1, round(self.stretch * (p * expected + (1 - p) * longest))))

    def judge(self, view: View) -> Verdict:
        return THINK
