"""Warming up: one whole question, then first answers against the clock."""

from __future__ import annotations

import math

from anytime.errors import NodeError
from anytime.node.parameters import Parameters
from anytime.node.scene import crowded
from anytime.runtime.reasoner import Reasoner
from anytime.scheduler.clock import NS_PER_S

_LONGEST_NS = 10 * NS_PER_S
_AMPLE_S = 60.0  # so that what is measured is the answer, not the deadline
_FIRST_ANSWER = "fixed:tokens=0"


def warm_up(reasoner: Reasoner, parameters: Parameters) -> float:
    """Ask until the 99th percentile of the time to the model's first answer is known, and return it in seconds.

    Raises:
        NodeError: it is longer than the budget allows, or the model has no answer.
        AnytimeError: the policy does not exist, the warm-up question is too long, the engine fails.
    """
    own = parameters.warm_up_question
    answer_format = parameters.format() if own else parameters.scene_format()
    whole = f"{own}" if own else crowded()
    reasoner.answer(
        whole, budget=parameters.budget_s - parameters.margin_s, answer=answer_format, policy=parameters.policy
    )
    times_s: list[float] = []
    begun_ns = reasoner.clock.now()
    while len(times_s) < parameters.warm_up and reasoner.clock.now() - begun_ns < _LONGEST_NS:
        # Each begins differently, or the engine would know the prompt from the one before.
        text = f"{len(times_s) % 10} {own}" if own else crowded(1 + len(times_s))
        answer = reasoner.answer(text, budget=_AMPLE_S, answer=answer_format, policy=_FIRST_ANSWER)
        if not answer.valid:
            raise NodeError(f"the model has no answer to the warm-up question ({answer.reason}): give another one")
        times_s.append(answer.elapsed_s)
    p99_s = sorted(times_s)[math.ceil(0.99 * len(times_s)) - 1]
    if p99_s + parameters.margin_s > parameters.budget_s:
        raise NodeError(
            f"a first answer takes {1e3 * p99_s:.1f} ms (99th percentile of {len(times_s)}) and margin_s "
            f"{1e3 * parameters.margin_s:.1f} ms, more than budget_s, {1e3 * parameters.budget_s:.1f} ms: "
            "give more time, or a smaller model"
        )
    return p99_s
