"""``auto``: the effort that fits the time, probed where that costs no thought, and a harder one where doubt is left."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec

from anytime.runtime.bank import Candidate
from anytime.runtime.forecast import UNKNOWN
from anytime.runtime.policies.policy import CONCLUDE, THINK, Plan, Verdict, View
from anytime.runtime.policies.vote import final_answers, surest

_PROBES = 1.05  # a thought with its probes takes so many times as long as one without
_DEVIATIONS = 3.0  # of the predicted length, for which there must be room before a thought is said to fit


class Auto(msgspec.Struct, frozen=True):
    """Think with the effort that promises most in the time there is, and again with a harder one where doubt is left.

    What a thought of each effort is worth is forecast from the instant answer and the tokens there is time for, less
    what those cost: ``token_cost``, in probability a token, by default so little that it decides only between efforts
    which promise nearly the same. Where the chosen one may not fit, every probe would be paid with its end: there are
    none, and it is closed when the time is up. Where time is ample, probes are free, and the thought ends as soon as an
    answer is right with probability ``sure``.

    ``docs/policies.md`` has the measurements behind it, and why it draws no further lines of thought.
    """

    token_cost: float = 3e-5
    sure: float = 0.999

    def begin(self, view: View) -> Plan | Literal["conclude"]:
        if self._is_sure(view):
            return CONCLUDE
        worth, effort = self._best(view, view.efforts, 1.0)
        if self.token_cost and view.found and worth <= view.found[-1].confidence:
            return CONCLUDE
        return self._plan(view, effort)

    def judge(self, view: View) -> Verdict:
        if self._is_sure(view):
            return CONCLUDE
        if view.width:
            return THINK
        harder = [effort for effort in view.efforts if view.expected(effort) > view.expected()]
        if not harder:
            return CONCLUDE
        doubt = 1.0 - self.choose(view.found).confidence if view.found else 1.0
        gain, effort = self._best(view, harder, doubt)
        return self._plan(view, effort) if gain > 0.0 else CONCLUDE

    def choose(self, found: Sequence[Candidate]) -> Candidate:
        """The surest of what whole thoughts ended with, or else the latest answer.

        Within a thought, a later answer knows more than a surer one; and one that was cut short does not outweigh a
        whole one before it, because it was begun where that had failed.
        """
        ended = [candidate for candidate in final_answers(found) if candidate.complete]
        return surest(ended) if ended else found[-1]

    def _is_sure(self, view: View) -> bool:
        return bool(view.found) and view.found[-1].confidence >= self.sure

    def _best(self, view: View, efforts: Sequence[str], doubt: float) -> tuple[float, str]:
        """The effort with the highest gain where an answer is wrong with probability ``doubt``, and that gain."""
        assert view.forecast is not None
        room = view.room(1)
        known = view.found[0].likelihood if view.found else UNKNOWN
        gains = []
        for effort in efforts:
            promise = view.forecast.fresh(known, view.prompt_tokens, view.kind, effort, room)
            gains.append((doubt * promise - self.token_cost * min(room, view.expected(effort)), effort))
        return max(gains)

    def _plan(self, view: View, effort: str) -> Plan:
        return Plan(probes=self._ample(view, effort), effort=effort)

    def _ample(self, view: View, effort: str) -> bool:
        """Whether a whole thought with its probes is sure to fit."""
        assert view.forecast is not None
        spread = view.forecast.spread(view.kind, effort)
        return view.room(1) >= _PROBES * view.expected(effort) + _DEVIATIONS * spread
