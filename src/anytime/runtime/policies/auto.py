"""``auto``: the effort that fits the time, probed only where that costs no thought, ended where more would not pay."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec

from anytime.runtime.bank import Candidate
from anytime.runtime.policies.adaptive import ValueOfComputation, outlook
from anytime.runtime.policies.policy import CONCLUDE, Plan, Verdict, View
from anytime.runtime.policies.vote import final_answers

_PROBES = 1.05  # a thought with its probes takes so many times as long as one without
_DEVIATIONS = 3.0  # of the predicted length, for which there must be room before a thought is said to fit


class Auto(msgspec.Struct, frozen=True):
    """Think with the effort that promises most in the time there is, and again with another where that failed.

    What a thought of each effort would be worth is forecast from the instant answer and the tokens there is time for.
    Where the chosen one may not fit, every probe would be paid with its end: there are none, and it is closed when the
    time is up. Where time is ample, probes are free: the thought ends by the value of computation at ``token_cost``
    (what a token must bring, in probability; 0 while time is free), or when an answer is right with probability
    ``sure``. A thought that ended with less makes room for another effort, as far as that promises to pay.

    ``docs/policies.md`` has the measurements behind it, and why it draws no further lines of thought.
    """

    token_cost: float = 0.0
    sure: float = 0.999

    def begin(self, view: View) -> Plan | Literal["conclude"]:
        last = view.found[-1] if view.found else None
        if last is None:
            return Plan()
        if last.confidence >= self.sure:
            return CONCLUDE
        worth, effort = max((self._worth(view, effort), effort) for effort in view.efforts)
        if self.token_cost and worth <= last.confidence:
            return CONCLUDE
        return self._plan(view, effort)

    def judge(self, view: View) -> Verdict:
        if view.width:
            return self._value().judge(view)
        best, tried = self.choose(view.found), {candidate.effort for candidate in final_answers(view.found)}
        others = [effort for effort in view.efforts if effort not in tried]
        if best.confidence >= self.sure or not others:
            return CONCLUDE
        promise, effort = max((self._promise(view, effort), effort) for effort in others)
        cost = self.token_cost * view.expected(effort)
        return self._plan(view, effort) if (1.0 - best.confidence) * promise > cost else CONCLUDE

    def choose(self, found: Sequence[Candidate]) -> Candidate:
        """The surest of what the thoughts ended with: within one, a later answer knows more than a surer one."""
        return max(reversed(final_answers(found)), key=lambda candidate: candidate.confidence)

    def _value(self) -> ValueOfComputation:
        return ValueOfComputation(self.token_cost, self.sure)

    def _plan(self, view: View, effort: str) -> Plan:
        return Plan(probes=self.token_cost > 0.0 or self._ample(view, effort), effort=effort)

    def _worth(self, view: View, effort: str) -> float:
        """The best that a thought of this effort promises, less its tokens."""
        return max((p - self.token_cost * n for n, p in self._ahead(view, effort)), default=0.0)

    def _promise(self, view: View, effort: str) -> float:
        return max((p for _, p in self._ahead(view, effort)), default=0.0)

    def _ahead(self, view: View, effort: str) -> list[tuple[int, float]]:
        return outlook(view, view.found[0], view.room(1), effort)

    def _ample(self, view: View, effort: str) -> bool:
        """Whether a whole thought with its probes is sure to fit."""
        assert view.forecast is not None
        spread = view.forecast.spread(view.kind, effort)
        return view.room(1) >= _PROBES * view.expected(effort) + _DEVIATIONS * spread
