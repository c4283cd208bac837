"""One deadline for several: its time shared by questions in turn, or by bundles that may be asked. Arithmetic."""

from __future__ import annotations

from collections.abc import Sequence


def kept_ns(floors_ns: Sequence[int], needs_ns: Sequence[int], left_ns: int) -> int:
    """Of the time left, what the first of several in turn must leave to those behind it.

    Their share of it by what each needs, and never less than their floors.
    """
    share = sum(needs_ns[1:]) / sum(needs_ns)
    return max(round(left_ns * share), sum(floors_ns[1:]))


def stages(floors_ns: Sequence[int], needs_ns: Sequence[int], left_ns: int) -> list[tuple[int, int]]:
    """Which of several, cheapest first, to ask in turn, each with the time before the deadline that it must leave.

    The last is the costliest there is time for; one before it is asked where its floor fits ahead of what those behind
    need. ``needs_ns`` must all fit in ``left_ns`` alone.
    """
    last = len(needs_ns) - 1
    found, kept = [(last, 0)], needs_ns[last]
    for i in reversed(range(last)):
        if floors_ns[i] + kept <= left_ns:
            found.insert(0, (i, kept))
            kept += needs_ns[i]
    return found
