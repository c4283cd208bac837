"""Admission: does a request fit its budget, and how much thought does the budget buy? Pure arithmetic."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from anytime.scheduler.clock import NS_PER_MS
from anytime.scheduler.profile import LatencyProfile

BUDGETS_MS = (20, 50, 100, 200, 500)
MOST_STEPS = 8  # that a thought takes in a row before the clock is looked at again
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


class ThoughtLimits(msgspec.Struct, frozen=True):
    """How a request may think: at most ``tokens``, on ``lines`` side by side.

    ``reframings``: for each change of effort that may come, the tokens in common with the prompt before and those to
    run. ``forks``: copies that a plan of several lines may begin with.
    """

    tokens: int
    reframings: tuple[tuple[int, int], ...] = ()
    lines: int = 1
    forks: int = 0


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


def longest_stretch_ns(work: Work, profile: LatencyProfile, limits: ThoughtLimits) -> int:
    """An upper bound of what cannot be interrupted, from one yield of ``runtime.loop`` to the next.

    A chunk of the prompt, the last one with the instant answer behind it; steps in a row, or guesses verified in one
    run; or a close with its whole answer, behind which the prompt may be run anew and forked for another plan, or words
    of up to ``MOST_STEPS`` tokens be taken into the thought. Tokenizing, where all that is shorter.
    """
    close, answer = work.close_tokens, work.answer_steps
    prompt_tokens = max([work.prompt_tokens, *(same + again for same, again in limits.reframings)])
    most = max(prompt_tokens, work.max_context - 2 - close - answer)  # context that leaves room for a close
    context = min(prompt_tokens + limits.tokens, most)
    latency = profile.latency()
    steps_ns = max(MOST_STEPS * latency.upper_ns(1, context), latency.upper_ns(MOST_STEPS, context))
    anew_ns = max([0, *(_chunks_ns(profile, same, again) for same, again in limits.reframings)])
    anew_ns += limits.forks * profile.fork_ns(prompt_tokens)
    words_ns = latency.upper_ns(MOST_STEPS, context)
    closing_ns = max(profile.latency(lines).closing_ns(context, close, answer) for lines in {1, limits.lines})
    return max(HANDOVER_NS, _prompt_stretch_ns(work, profile), steps_ns, closing_ns + max(anew_ns, words_ns))


def _prompt_stretch_ns(work: Work, profile: LatencyProfile) -> int:
    """An upper bound of the prompt's last run with its answer, however much of the prompt need not be run again.

    The more is known, the later the chunks stand, and the last may be a whole one. Of all chunks that end where the
    prompt does, the longest costs most, or the shortest where a run costs hardly more than a step so far behind.
    """
    latency, whole = profile.latency(), work.prompt_tokens + work.close_tokens
    shortest = 1 + work.close_tokens
    longest = min(whole, max(profile.chunk, shortest))
    run_ns = max(latency.upper_ns(1, whole), *(latency.upper_ns(n, whole - n) for n in (shortest, longest)))
    return run_ns + work.answer_steps * latency.upper_ns(1, whole + work.answer_steps)


def _chunks_ns(profile: LatencyProfile, context: int, tokens: int) -> int:
    """An upper bound of running so many tokens of a prompt behind ``context`` others, chunk by chunk."""
    latency, total = profile.latency(), 0
    for size in profile.chunks(tokens, 1):
        total += latency.upper_ns(size, context)
        context += size
    return total


def thought_ns(work: Work, tokens: float, profile: LatencyProfile) -> int:
    """Predicted time of so many steps of thought behind a prompt, with the close and the answer behind them."""
    latency = profile.latency()
    steps_ns = tokens * (latency.p * (work.prompt_tokens + tokens / 2) + latency.q)
    closing_ns = latency.closing_ns(work.prompt_tokens + round(tokens), work.close_tokens, work.answer_steps)
    return round(profile.segment_margin(round(tokens)) * steps_ns) + closing_ns


def resume_ns(closing_ns: int) -> int:
    """With how much a thought that stands still goes on: as much for thinking as for the close behind it."""
    return 2 * closing_ns


def conclude_ns(work: Work, thought_tokens: int, profile: LatencyProfile, blocking_ns: int) -> int:
    """An upper bound of closing a thought of so many tokens, behind what cannot be interrupted any more."""
    closing_ns = profile.latency().closing_ns(work.prompt_tokens + thought_tokens, work.close_tokens, work.answer_steps)
    return blocking_ns + closing_ns


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
