"""Messages to the worker, each in a slot of its own, and who waits for what comes back."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Sequence

import msgspec

from anytime.errors import PromptError, UsageError
from anytime.ext.slots import Slots
from anytime.runtime.answer import Answer
from anytime.runtime.isolated.messages import How, Message, Start, Steer
from anytime.runtime.isolated.pending import IsolatedPending, blank_answer, rejected
from anytime.runtime.isolated.seats import Seats
from anytime.runtime.isolated.supervisor import Supervisor
from anytime.runtime.pending import Fallback
from anytime.scheduler.clock import MONOTONIC, NS_PER_S

_STEER_S = 0.1  # how long to wait for a word of the worker


class Exchange:
    """The caller's end of the slots, and the worker's keeper at the other. Owns the slots."""

    def __init__(self, slots: Slots, start: Start, command: Sequence[str]) -> None:
        self._slots, self._seats = slots, Seats(slots)
        self._lock, self._closed = threading.Lock(), False
        self._serials = itertools.count(1)
        self.supervisor = Supervisor(slots, start, self._seats.lose, command)

    def serial(self) -> int:
        """A new one; next() is atomic, so no two messages have the same."""
        return next(self._serials)

    def post(
        self,
        serial: int,
        message: Message,
        blank: Answer,
        leave_ns: int,
        fallback: Fallback = "",
        noted: Callable[[Answer], None] | None = None,
    ) -> IsolatedPending:
        """Put a message into a slot of its own.

        Raises:
            PromptError: it is too long for one.
            UsageError: there is something in it that is no data, or its id is under way.
        """
        try:
            raw = msgspec.msgpack.encode(message)
        except (TypeError, OverflowError, ValueError) as error:
            raise UsageError(f"the request cannot cross into the isolated process: {error}") from error
        if len(raw) > self._slots.request_bytes:
            raise PromptError(
                f"the request has {len(raw)} bytes and an isolated one at most {self._slots.request_bytes}: "
                "shorten the prompt"
            )
        with self._lock:
            refusal = self._refusal()
            slot = None if refusal else self._seats.free()
            if slot is None:
                refusal = refusal or f"{self._slots.count} requests are under way already"
                return rejected(self._slots, blank, fallback, noted, refusal)
            if blank.request_id and self._seats.holds(blank.request_id):
                raise UsageError(f"a request with the id {blank.request_id!r} is under way: give each its own")
            pending = IsolatedPending(
                self._slots, slot, serial, blank, leave_ns, fallback, steer=self._steer, noted=noted
            )
            self._seats.take(slot, pending)
            self._slots.ask(slot, serial, blank.deadline_ns, raw)
            self.supervisor.notice()
        return pending

    def _refusal(self) -> str:
        """Why nothing can be asked now; empty when it can."""
        if self._closed:
            return "the Reasoner is closed"
        failure = self.supervisor.failure
        return f"the isolated process cannot be started: {failure}" if failure is not None else ""

    def tell(self, message: Message, within_s: float) -> Answer:
        """What the worker says to a message that is no question: ``complete``, or why not."""
        now_ns = MONOTONIC.now()
        blank = blank_answer("", "", now_ns, now_ns + round(within_s * NS_PER_S))
        return self.post(self.serial(), message, blank, blank.deadline_ns).result()

    def _steer(self, serial: int, how: How, deadline_ns: int) -> bool:
        """Do something to a request under way; whether that could be done. Nobody waits for a hurry to begin."""
        steer = Steer(serial, how, deadline_ns)
        try:
            if how == "hurry":
                now_ns = MONOTONIC.now()
                self.post(self.serial(), steer, blank_answer("", "", now_ns, deadline_ns), now_ns)
                return True
            return self.tell(steer, _STEER_S).stopped == "complete"
        except UsageError:  # the worker's deadline is later than ours by a rounding
            return False

    def close(self) -> None:
        """End the worker; whoever waits is woken."""
        with self._lock:
            closed, self._closed = self._closed, True
        if not closed:
            self.supervisor.stop()
            self._slots.close()
