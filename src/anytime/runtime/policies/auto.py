"""``auto``: the effort that fits the time, probed only where that costs no thought, ended where more would not pay."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec

from anytime.runtime.bank import Candidate
from anytime.runtime.forecast import reading_of
from anytime.runtime.policies.adaptive import ValueOfComputation
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
        best = self.choose(view.found)
        tried = max(view.expected(candidate.effort) for candidate in final_answers(view.found))
        harder = [effort for effort in view.efforts if view.expected(effort) > tried]
        if best.confidence >= self.sure or not harder:
            return CONCLUDE
        doubt = 1.0 - best.confidence
        gain, effort = max(
            (doubt * self._promise(view, effort) - self._cost(view, effort), effort) for effort in harder
        )
        return self._plan(view, effort) if gain > 0.0 else CONCLUDE

    def choose(self, found: Sequence[Candidate]) -> Candidate:
        """The surest of what whole thoughts ended with, or else the latest answer.

        Within a thought, a later answer knows more than a surer one; and one that was cut short does not outweigh a
        whole one before it, because it was begun where that had failed.
        """
        ended = [candidate for candidate in final_answers(found) if candidate.complete]
        return max(reversed(ended), key=lambda candidate: candidate.confidence) if ended else found[-1]

    def _value(self) -> ValueOfComputation:
        return ValueOfComputation(self.token_cost, self.sure)

    def _plan(self, view: View, effort: str) -> Plan:
        return Plan(probes=self._ample(view, effort), effort=effort)

    def _worth(self, view: View, effort: str) -> float:
        """What a thought of this effort promises, less its tokens."""
        return self._promise(view, effort) - self._cost(view, effort)

    def _promise(self, view: View, effort: str) -> float:
        assert view.forecast is not None
        reading = reading_of(view.found[0], view.prompt_tokens, view.kind)
        return view.forecast.fresh(reading, effort, view.room(1))

    def _cost(self, view: View, effort: str) -> float:
        return self.token_cost * min(view.room(1), view.expected(effort))

    def _ample(self, view: View, effort: str) -> bool:
        """Whether a whole thought with its probes is sure to fit."""
        assert view.forecast is not None
        spread = view.forecast.spread(view.kind, effort)
        return view.room(1) >= _PROBES * view.expected(effort) + _DEVIATIONS * spread
