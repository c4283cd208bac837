"""Steps of several requests in one run of the engine: how many in a row, and whether that pays. Pure arithmetic."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from anytime.ext.latency import Latency

_MOST_SLOWER = 1.5  # times a step alone, a step beside others may take


class Member(msgspec.Struct, frozen=True):
    """A request that could take up to ``count`` steps behind ``context``, with ``left_ns`` until it must be ready."""

    context: int
    count: int
    left_ns: int
    answer_steps: int


class Batch(msgspec.Struct, frozen=True):
    """``steps`` in a row of several requests, and their predicted times."""

    steps: int
    alone_ns: int  # of each of them
    together_ns: int


def pays(alone: Latency, wide: Latency, context: int) -> bool:
    """Whether a step beside others takes hardly longer than one alone, as on machines that wait for the weights.

    A thought is worth most when it ends. Where rows cost nearly what steps do, thoughts that advance side by side all
    end later, and fewer of them in time, however many tokens there are in all.
    """
    return wide.run_ns(1, context) <= _MOST_SLOWER * alone.run_ns(1, context)


def batch(members: Sequence[Member], alone: Latency, wide: Latency, close_tokens: int, most_ns: int) -> Batch | None:
    """The most steps of all members, behind which each can still close its thought, within ``most_ns``.

    ``wide`` are the costs of a step of them all. None where that does not pay, or not even one step leaves time.
    """
    context = sum(member.context for member in members) // len(members)
    if not pays(alone, wide, context):
        return None
    alone_ns, together_ns = alone.run_ns(1, context), wide.run_ns(1, context)
    upper_ns = wide.upper_ns(1, max(member.context for member in members) + min(member.count for member in members))
    steps = min(most_ns // upper_ns, *(member.count for member in members))
    while steps > 0 and not all(_can_close(member, steps, upper_ns, alone, close_tokens) for member in members):
        steps -= 1
    return Batch(steps, steps * alone_ns, steps * together_ns) if steps > 0 else None


def unhurried(member: Member, alone: Latency, close_tokens: int, most_ns: int) -> bool:
    """Whether a request could wait for ``most_ns`` and still close its thought."""
    return most_ns + alone.closing_ns(member.context, close_tokens, member.answer_steps) <= member.left_ns


def _can_close(member: Member, steps: int, upper_ns: int, alone: Latency, close_tokens: int) -> bool:
    closing_ns = alone.closing_ns(member.context + steps, close_tokens, member.answer_steps)
    return steps * upper_ns + closing_ns <= member.left_ns
