"""Admission: does a request fit its budget, and how much thought does the budget buy? Pure arithmetic."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from anytime.scheduler.clock import NS_PER_MS
from anytime.scheduler.profile import LatencyProfile

BUDGETS_MS = (20, 50, 100, 200, 500)
HANDOVER_NS = NS_PER_MS  # from the caller's thread to the engine's, and tokenizing


class Work(msgspec.Struct, frozen=True):
    """What a request asks of the engine, in tokens: prompt, close tag, and the answer's steps after its first.

    ``cached_tokens`` of the prompt need not be run again.
    """

    prompt_tokens: int
    cached_tokens: int
    close_tokens: int
    answer_steps: int
    max_context: int


class Grant(msgspec.Struct, frozen=True):
    """``token_cap``: thought tokens that fit at measured speeds. ``reserve_ns``: kept back for closing the thought."""

    token_cap: int
    reserve_ns: int


class Refusal(msgspec.Struct, frozen=True):
    reason: str


def admit(work: Work, left_ns: int, profile: LatencyProfile, share_ns: int | None = None) -> Grant | Refusal:
    """A grant when prefill and instant answer fit in ``left_ns`` (until the answer must be ready), else a refusal.

    The token cap is what ``share_ns`` of it buys, where other requests need the rest.
    """
    latency = profile.latency()
    floor_ns = instant_ns(work, profile)
    if left_ns < floor_ns:
        return Refusal(
            f"{left_ns / NS_PER_MS:.1f} ms are left and the floor for {_prompt(work)} is "
            f"{floor_ns / NS_PER_MS:.1f} ms: give more time or a shorter prompt"
        )
    reserve_ns = latency.closing_ns(work.prompt_tokens, work.close_tokens, work.answer_steps)
    predicted_ns = sum(latency.run_ns(n, context) for n, context in _prefill(work, profile))
    room = work.max_context - work.prompt_tokens - work.close_tokens - work.answer_steps - 1
    spare_ns = (left_ns if share_ns is None else share_ns) - predicted_ns - reserve_ns
    steps = latency.think_steps(spare_ns, work.prompt_tokens, max(0, room))
    cap = latency.think_steps(int(spare_ns / profile.segment_margin(steps)), work.prompt_tokens, max(0, room))
    return Grant(cap, reserve_ns)


def floor_ns(work: Work, profile: LatencyProfile) -> int:
    """The least budget in which such a request gets an answer of the model, with handing over and delivery."""
    return HANDOVER_NS + instant_ns(work, profile) + profile.delivery_ns


def instant_ns(work: Work, profile: LatencyProfile) -> int:
    """An upper bound of prefill with the instant answer."""
    latency = profile.latency()
    prefill_ns = sum(latency.upper_ns(n, context) for n, context in _prefill(work, profile))
    answer_ns = work.answer_steps * latency.upper_ns(1, work.prompt_tokens + work.close_tokens + work.answer_steps)
    return prefill_ns + answer_ns


def longest_run_ns(work: Work, profile: LatencyProfile) -> int:
    """An upper bound of what of ``floor_ns`` cannot be interrupted: tokenizing, or the longest run of the engine."""
    latency = profile.latency()
    step_ns = latency.upper_ns(1, work.prompt_tokens + work.close_tokens + work.answer_steps)
    runs_ns = [latency.upper_ns(n, context) for n, context in _prefill(work, profile)]
    return max(HANDOVER_NS, *runs_ns, step_ns if work.answer_steps else 0)


def thought_ns(work: Work, tokens: float, profile: LatencyProfile) -> int:
    """Predicted time of so many steps of thought behind a prompt, with the close and the answer behind them."""
    latency = profile.latency()
    steps_ns = tokens * (latency.p * (work.prompt_tokens + tokens / 2) + latency.q)
    closing_ns = latency.closing_ns(work.prompt_tokens + round(tokens), work.close_tokens, work.answer_steps)
    return round(profile.segment_margin(round(tokens)) * steps_ns) + closing_ns


def conclude_ns(work: Work, thought_tokens: int, profile: LatencyProfile) -> int:
    """An upper bound of closing a thought of so many tokens, behind whatever run is under way."""
    closing_ns = profile.latency().closing_ns(work.prompt_tokens + thought_tokens, work.close_tokens, work.answer_steps)
    return profile.longest_run_ns + closing_ns


def _prefill(work: Work, profile: LatencyProfile) -> Iterator[tuple[int, int]]:
    """The runs of the prompt with the close tag behind it: tokens, and what they stand behind."""
    context = work.cached_tokens
    tokens = work.prompt_tokens + work.close_tokens - context
    for size in profile.chunks(tokens, 1 + work.close_tokens):
        yield size, context
        context += size


def _prompt(work: Work) -> str:
    cached = f" ({work.cached_tokens} of them cached)" if work.cached_tokens else ""
    return f"{work.prompt_tokens} prompt tokens{cached}"


def token_caps(profile: LatencyProfile, prompt_tokens: int, close_tokens: int) -> dict[int, int | None]:
    """For each of ``BUDGETS_MS``, the thought tokens that fit behind such a prompt; None below the floor."""
    work = Work(prompt_tokens, 0, close_tokens, 0, profile.key.max_context)
    caps: dict[int, int | None] = {}
    for budget_ms in BUDGETS_MS:
        outcome = admit(work, budget_ms * NS_PER_MS - profile.delivery_ns, profile)
        caps[budget_ms] = outcome.token_cap if isinstance(outcome, Grant) else None
    return caps
