"""In place of a reasoner that cannot be had: every question gets its fallback at once, and the reason why."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, cast

import msgspec

from anytime.bundle import Bundle
from anytime.runtime.answer import Answer, Tokens
from anytime.runtime.answers.formats import AnswerFormat
from anytime.runtime.engine import Health
from anytime.runtime.pending import fall_back
from anytime.runtime.reasoner import Reasoner
from anytime.scheduler.clock import MONOTONIC, Clock
from anytime.scheduler.deadline import deadline_of

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from anytime.runtime.request import Request


class _NoBundle:
    """No model, so no id."""

    id = ""


class Told(msgspec.Struct):
    """A question that needs no waiting: its answer is there."""

    answer: Answer

    def wait_for_news(self) -> bool:
        """There will be none."""
        return False

    def best(self) -> Answer:
        """The fallback; so are the others."""
        return self.answer

    result = leave = cancel = best


class StandIn(Reasoner):
    """What a node asks of a Reasoner, without a model. It is LOST, which diagnostics call an error."""

    def __init__(self, reason: str, clock: Clock = MONOTONIC) -> None:
        """``reason``: why there is no model, for every answer."""
        self._reason, self._own_clock = reason, clock
        self._count = itertools.count(1)
        self.bundle = cast(Bundle, _NoBundle())

    @property
    def clock(self) -> Clock:
        """By which deadlines are kept."""
        return self._own_clock

    def prepare(self, answer: AnswerFormat) -> None:
        """No format is asked of a fallback."""

    def submit(self, prompt: str, **request: Unpack[Request]) -> Told:  # type: ignore[override]
        """The fallback, whatever is asked.

        Raises:
            BudgetError: a deadline that is none.
        """
        received_ns = self._own_clock.now()
        deadline_ns = deadline_of(received_ns, request.get("budget"), request.get("deadline"))
        text, why = fall_back(request.get("fallback", ""))
        delivered_ns = self._own_clock.now()
        return Told(
            Answer(
                text=text,
                stopped="error",
                source="fallback",
                effort="",
                confidence=0.0,
                calibrated=False,
                reason="; ".join(part for part in (self._reason, why) if part),
                thought="",
                tokens=Tokens(),
                token_cap=0,
                faults=0,
                late=delivered_ns > deadline_ns,
                overrun=False,
                received_ns=received_ns,
                deadline_ns=deadline_ns,
                delivered_ns=delivered_ns,
                request_id=request.get("request_id") or f"standin-{next(self._count)}",
                bundle_id="",
            )
        )

    def drift(self) -> str | None:
        """There is no engine to drift."""
        return None

    def health(self) -> Health:
        """LOST, as it has no engine."""
        return Health.LOST

    def close(self) -> None:
        """Nothing is held."""
