"""What a request may say, and what it costs."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypedDict

import msgspec

from anytime.errors import UsageError
from anytime.runtime.answers.formats import AnswerFormat, Text
from anytime.runtime.pending import Fallback
from anytime.runtime.policies.policy import Policy
from anytime.runtime.sampling import Sampling

DEFAULT_FORMAT = Text()
_HIGHEST_PRIORITY = 1_000_000


class Request(TypedDict, total=False):
    """The keyword arguments of a request; see ``Reasoner.answer``."""

    budget: float
    deadline: float
    answer: AnswerFormat
    fallback: Fallback
    accept: Callable[[str], bool] | None
    min_confidence: float
    sampling: Sampling | None
    policy: Policy | str
    priority: int
    topic: str | None
    request_id: str | None


class Costs(msgspec.Struct, frozen=True):
    """Seconds from asking: to the first answer of the model (the floor), and to one behind a whole thought.

    The latter by the bundle's own effort, as far as can be expected; None where the bundle is not calibrated.
    """

    floor_s: float
    thought_s: float | None


def check_numbers(min_confidence: float, priority: int) -> None:
    """Refuse numbers that a request cannot have.

    Raises:
        UsageError: no probability, or no priority.
    """
    if not 0.0 <= min_confidence <= 1.0:
        raise UsageError(f"min_confidence is {min_confidence}: it must be between 0 and 1")
    if not isinstance(priority, int) or abs(priority) > _HIGHEST_PRIORITY:
        raise UsageError(f"priority is {priority!r}: it must be an integer, at most {_HIGHEST_PRIORITY} either way")
