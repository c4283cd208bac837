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
