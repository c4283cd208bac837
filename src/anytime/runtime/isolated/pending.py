"""The caller's side of one request to an isolated reasoner: wait at its slot, and leave in time with what is there."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import msgspec

from anytime.errors import UsageError
from anytime.ext.slots import ADMITTED, Slots
from anytime.runtime.answer import Answer, Stopped, Tokens
from anytime.runtime.isolated.messages import Found, How, read
from anytime.runtime.pending import Fallback, fall_back
from anytime.scheduler.clock import MONOTONIC
from anytime.scheduler.deadline import moved_deadline

NO_SLOT = -1
Steering: TypeAlias = "Callable[[int, How, int], bool]"  # serial, what to do to it, deadline; whether it could be done


class IsolatedPending:
    """A question that has been asked: wait for its answer, look at the best so far, hurry it, or call it off.

    Waiting happens outside the GIL, so no other thread of this process keeps an answer from being noticed; to return,
    the caller needs the GIL like everybody. Instants are nanoseconds of CLOCK_MONOTONIC; ``slot`` and ``serial`` say
    where another process finds the answer (``anytime_slots.h``).
    """

    def __init__(
        self,
        slots: Slots,
        slot: int,
        serial: int,
        blank: Answer,
        leave_ns: int,
        fallback: Fallback,
        *,
        steer: Steering | None = None,
        noted: Callable[[Answer], None] | None = None,
        kept: Found | None = None,
    ) -> None:
        self.slot, self.serial = slot, serial
        self.request_id = blank.request_id
        self.received_ns, self.deadline_ns = blank.received_ns, blank.deadline_ns
        self.final: Answer | None = None  # once the caller has left
        self._slots, self._blank, self._leave_ns, self._fallback = slots, blank, leave_ns, fallback
        self._steer, self._noted = steer, noted
        self._seen = 0
        self._kept = kept  # once the slot is another request's
        self._lost: tuple[Stopped, str] | None = None  # once nothing more can come, and why

    def result(self) -> Answer:
        """Wait until the thought is complete or the deadline is there, and take the best answer.

        Raises:
            UsageError: the request itself was wrong, as only the worker could see.
        """
        try:
            self._wait(seen=0, final=True)
        except BaseException:  # Ctrl-C in the middle of an answer: the engine must be free for the next one
            self._call_off()
            raise
        return self.leave()

    def leave(self) -> Answer:
        """The answer as things stand now; the worker is told to stop thinking, and nobody waits for it."""
        return self._deliver("deadline")

    def cancel(self) -> Answer:
        """Stop thinking; the best answer so far. The worker is told, and nobody waits for it."""
        return self._deliver("cancelled")

    def answer_now(self) -> None:
        """Let the thought be closed where it stands, before all others; ``result`` has its answer soon."""
        if self._steer is not None:
            self._steer(self.serial, "hurry", self.deadline_ns)

    def tighten(self, *, budget: float | None = None, deadline: float | None = None) -> bool:
        """Want the answer sooner: ``budget`` seconds from now, or at a ``deadline``.

        False, and nothing is changed, where other requests leave no time for that, or it has ended, or the worker does
        not say.

        Raises:
            BudgetError: that is later than now agreed, or no instant.
        """
        return self._reschedule("tighten", moved_deadline(self.deadline_ns, MONOTONIC.now(), budget, deadline, True))

    def extend(self, *, budget: float | None = None, deadline: float | None = None) -> bool:
        """Allow it more time: ``budget`` seconds from now, or until a ``deadline``. False where it has ended.

        Raises:
            BudgetError: that is sooner than now agreed, or no instant.
        """
        return self._reschedule("extend", moved_deadline(self.deadline_ns, MONOTONIC.now(), budget, deadline, False))

    def _reschedule(self, how: How, deadline_ns: int) -> bool:
        if self._steer is None or self.final is not None or not self._steer(self.serial, how, deadline_ns):
            return False
        self._leave_ns += deadline_ns - self.deadline_ns
        self.deadline_ns = deadline_ns
        self._slots.move(self.slot, self.serial, deadline_ns)  # behind the others: who waits looks at them again
        return True

    def _wait(self, seen: int, final: bool) -> bool:
        """Whether there was an answer like that, or none can come, before it was time to leave."""
        while self._kept is None:
            moves = self._slots.moves(self.slot)
            if self._slots.wait(self.slot, self.serial, seen, final, self._leave_ns, moves):
                return True
            if self._slots.moves(self.slot) == moves:
                return False
        return True

    def _deliver(self, stopped: Stopped) -> Answer:
        if self.final is not None:
            return self.final
        found = self._found()
        if found is None or not found.final:
            self._call_off()
        self.final = self._answer(found, stopped, leaving=True)
        if self._noted is not None:
            self._noted(self.final)
        return self.final

    def _call_off(self) -> None:
        if self._kept is None and self._lost is None:
            self._slots.cancel(self.slot, self.serial)

    def best(self) -> Answer:
        """The best answer so far, as it would be returned now. Costs the worker nothing."""
        return self._answer(self._found(), "deadline")

    def thought(self) -> str:
        """The thought behind the best answer so far."""
        found = self._found()
        return found.answer.thought if found is not None and found.answer is not None else ""

    def wait_for_news(self) -> bool:
        """Wait until there is a better answer or none can come; False once no more can."""
        woken = self._wait(self._seen, final=False)
        found = self._found()
        if self._kept is not None or found is None:
            return False
        self._seen = found.sequence
        return woken and not found.final and self._lost is None

    def lose(self, stopped: Stopped, why: str) -> None:
        """Nothing more will come; said before those who wait are woken."""
        self._lost = stopped, why

    def keep(self) -> None:
        """Take what is in the slot along, which then may be another request's."""
        self._kept = self._found() or Found(0, False, None)

    def _found(self) -> Found | None:
        found = read(self._slots, self.slot, self.serial) if self._kept is None else None
        return found or self._kept  # which was set before the slot could be another's

    def _answer(self, found: Found | None, stopped: Stopped, leaving: bool = False) -> Answer:
        best = found.answer if found is not None else None
        answer = best or self._blank
        reasons: list[str] = []
        if found is not None and found.failed is not None:
            error = found.failed.error()
            if isinstance(error, UsageError):
                raise error
            answer = msgspec.structs.replace(answer, stopped="error", reason=str(error))
        elif found is None or not found.final:
            answer, reasons = self._unfinished(answer, stopped, leaving)
        text = answer.text
        if not answer.valid:
            text, why = fall_back(self._fallback)
            reasons.append(why)
        delivered_ns = MONOTONIC.now()  # read last: the time of delivery, after everything that takes time
        return msgspec.structs.replace(
            answer,
            text=text,
            reason="; ".join(filter(None, (answer.reason, *reasons))),
            late=delivered_ns > self.deadline_ns,
            received_ns=self.received_ns,
            deadline_ns=self.deadline_ns,
            delivered_ns=delivered_ns,
            request_id=self.request_id,
        )

    def _unfinished(self, answer: Answer, stopped: Stopped, leaving: bool) -> tuple[Answer, list[str]]:
        """What to say of an answer behind which more was to come."""
        if self._lost is not None:
            stopped, why = self._lost
            return msgspec.structs.replace(answer, stopped=stopped), [why]
        stage = self._slots.stage(self.slot, self.serial)
        overrun = leaving and stopped == "deadline" and stage >= ADMITTED
        waited = "" if stage else "the request was still waiting for the isolated process"
        return msgspec.structs.replace(answer, stopped=stopped, overrun=overrun), [waited]


def blank_answer(request_id: str, bundle_id: str, received_ns: int, deadline_ns: int) -> Answer:
    """What is known of an answer before there is any."""
    return Answer(
        text="",
        stopped="deadline",
        source="fallback",
        effort="",
        confidence=0.0,
        calibrated=False,
        reason="",
        thought="",
        tokens=Tokens(),
        token_cap=0,
        faults=0,
        late=False,
        overrun=False,
        received_ns=received_ns,
        deadline_ns=deadline_ns,
        delivered_ns=received_ns,
        request_id=request_id,
        bundle_id=bundle_id,
    )


def rejected(
    slots: Slots, blank: Answer, fallback: Fallback, noted: Callable[[Answer], None] | None, reason: str
) -> IsolatedPending:
    """A request that is never put into a slot."""
    answer = msgspec.structs.replace(blank, stopped="rejected", reason=reason)
    return IsolatedPending(slots, NO_SLOT, 0, blank, 0, fallback, noted=noted, kept=Found(0, True, answer))
