"""From what a caller says of its time to an absolute deadline."""

from __future__ import annotations

from anytime.errors import BudgetError
from anytime.scheduler.clock import NS_PER_S, seconds_to_ns

_LONGEST_BUDGET_S = 86_400.0
_FARTHEST_S = 1e15  # beyond, arithmetic in nanoseconds may overflow


def deadline_of(received_ns: int, budget: float | None, deadline: float | None) -> int:
    """The absolute deadline, ns. A budget that is zero or negative is no error: the answer is then a refusal.

    Args:
        received_ns: when the request came, from which a budget counts.
        budget: seconds, or
        deadline: seconds of ``time.monotonic()``. Exactly one of the two.

    Raises:
        BudgetError: both or neither given, no finite number, or more than a day ahead.
    """
    if (budget is None) == (deadline is None):
        given = "both budget and deadline" if budget is not None else "neither budget nor deadline"
        raise BudgetError(f"{given} given: give exactly one, in seconds")
    name, value = ("budget", budget) if budget is not None else ("deadline", deadline)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) < _FARTHEST_S:
        raise BudgetError(f"{name} is {value!r}: it must be a finite number of seconds")
    instant_ns = seconds_to_ns(value) if name == "deadline" else received_ns + seconds_to_ns(value)
    if instant_ns - received_ns > _LONGEST_BUDGET_S * NS_PER_S:
        raise BudgetError(f"{name} is {value!r}, more than a day ahead: it must be in seconds")
    return instant_ns


def moved_deadline(agreed_ns: int, now: int, budget: float | None, deadline: float | None, sooner: bool) -> int:
    """Another deadline for a request under way, ns; arguments as those of ``deadline_of``.

    Raises:
        BudgetError: it is on the other side of what was agreed, or no instant.
    """
    deadline_ns = deadline_of(now, budget, deadline)
    by_s = (deadline_ns - agreed_ns) / NS_PER_S
    if by_s > 0 if sooner else by_s < 0:
        other = "extend" if sooner else "tighten"
        raise BudgetError(f"that is {abs(by_s):.3f} s {'later' if sooner else 'sooner'} than agreed: use {other}()")
    return deadline_ns
