"""The meta-reasoner: after every answer, a contextual bandit decides whether to go on, stop, restart or switch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import msgspec

from anytime.runtime.bank import Candidate
from anytime.runtime.policies.policy import CONCLUDE, DRAWN, THINK, Plan, Verdict, View, to_begin
from anytime.runtime.policies.vote import final_answers, log_odds, surest

CONTINUE, STOP, RESTART, SWITCH = ACTIONS = ("continue", "conclude", "restart", "switch")
MOST_THOUGHTS = 4.0  # whole ones that a request's tokens make: further the bandit was not taught


class MetaReasoner(msgspec.Struct, frozen=True):
    """Takes the action with the highest expected reward in the context there is (Meta-Reasoner, 2502.19918).

    The reward is being right, less what the tokens from there on cost; it is linear in ``context_of``, as in LinUCB,
    with weights learned by ``anytime calibrate`` from replays that explored. Nothing is explored in operation.
    ``restart`` draws another thought, ``switch`` asks for the next effort.
    """

    def begin(self, view: View) -> Plan | Literal["conclude"]:
        return to_begin(self.judge(view))

    def judge(self, view: View) -> Verdict:
        return verdict_of(self.action(view), view) if view.found else THINK

    def action(self, view: View) -> str:
        """What pays most, of what is possible."""
        assert view.forecast is not None
        weights, context = view.forecast.calibration.control, context_of(view)
        able = [action for action in possible(view) if action in weights]
        return max(able, key=lambda action: math.fsum(w * x for w, x in zip(weights[action], context, strict=True)))

    def choose(self, found: Sequence[Candidate]) -> Candidate:
        """The surest of what the thoughts ended with, the later of two alike."""
        return surest(final_answers(found))


def possible(view: View) -> list[str]:
    """The actions there are: a thought that ended does not go on, and one effort has no other.

    Behind ``MOST_THOUGHTS`` none is begun afresh, however much time there is.
    """
    begun = [CONTINUE] if view.width or not _thought(view) else []
    afresh = [RESTART, *([SWITCH] if len(view.efforts) > 1 else [])]
    return [*begun, STOP, *(afresh if view.spent < MOST_THOUGHTS * view.expected() else [])]


def verdict_of(action: str, view: View) -> Verdict:
    if action == RESTART:
        return Plan(sampling=DRAWN)
    if action == SWITCH:
        place = view.efforts.index(view.effort)
        return Plan(effort=view.efforts[(place + 1) % len(view.efforts)])
    return THINK if action == CONTINUE else CONCLUDE


def context_of(view: View) -> list[float]:
    """What the bandit sees of a request: the last answer and the surest, how far the thought is, what time is left."""
    last, lines = view.found[-1], final_answers(view.found)
    expected = max(1.0, view.expected())
    room = min(2.0, view.room(1) / expected)
    surest = max(log_odds(candidate.confidence) for candidate in lines) / 6.0
    share = min(1.5, last.thought_tokens / expected)
    return [
        1.0,
        log_odds(last.confidence) / 6.0,
        surest,
        float(last.complete),
        share,
        room,
        float(room >= 1.0 - share),
        math.log1p(last.agreed),
        math.log1p(len(lines)),
        math.log(expected) / 6.0,
        surest * room,
        float(last.complete) * surest,
    ]


def _thought(view: View) -> bool:
    return view.found[-1].source != "instant"
