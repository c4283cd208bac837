"""Slots in memory, and which of the caller's requests sits at which."""

from __future__ import annotations

import fcntl
import os
import weakref
from collections.abc import Iterator

from anytime.ext.slots import FINISHED, Slots, lay_out
from anytime.runtime.answer import Stopped
from anytime.runtime.isolated.pending import IsolatedPending

SLOTS = 32  # requests under way at once
REQUEST_BYTES, ANSWER_BYTES = 256 * 1024, 64 * 1024


class Seats:
    """One for every slot; a request that its caller has forgotten leaves its own empty."""

    def __init__(self, slots: Slots) -> None:
        self._slots = slots
        self._seats: list[weakref.ref[IsolatedPending] | None] = [None] * slots.count

    def free(self) -> int | None:
        """A slot whose request is done with; who asked takes along what it holds. One thread at a time."""
        for slot in range(self._slots.count):
            serial = self._slots.asked(slot)
            if not serial or self._slots.stage(slot, serial) == FINISHED or self._slots.is_lost(slot, serial):
                if (pending := self._sitting(slot)) is not None:
                    pending.keep()
                return slot
        return None

    def holds(self, request_id: str) -> bool:
        """Whether a request with this id is under way."""
        sitting = [(serial, self._sitting(slot)) for slot, serial, _ in under_way(self._slots)]
        held = [pending for serial, pending in sitting if pending is not None and pending.serial == serial]
        return any(pending.request_id == request_id and pending.final is None for pending in held)

    def take(self, slot: int, pending: IsolatedPending) -> None:
        self._seats[slot] = weakref.ref(pending)

    def lose(self, slot: int, serial: int, stopped: Stopped, why: str) -> None:
        """The worker that had this request is gone: say so, then wake who waits."""
        pending = self._sitting(slot)
        if pending is not None and pending.serial == serial:
            pending.lose(stopped, why)
        self._slots.lose(slot, serial)

    def _sitting(self, slot: int) -> IsolatedPending | None:
        seat = self._seats[slot]
        return seat() if seat is not None else None


def under_way(slots: Slots) -> Iterator[tuple[int, int, int]]:
    """Requests that have been asked and are not done with: slot, serial and stage."""
    for slot in range(slots.count):
        serial = slots.asked(slot)
        stage = slots.stage(slot, serial)
        if serial and stage != FINISHED and not slots.is_lost(slot, serial):
            yield slot, serial, stage


def make_slots(count: int = SLOTS, request_bytes: int = REQUEST_BYTES, answer_bytes: int = ANSWER_BYTES) -> Slots:
    """Empty slots, in memory that cannot be cut short under who reads it."""
    memory = os.memfd_create("anytime-slots", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    lay_out(memory, count, request_bytes, answer_bytes)
    fcntl.fcntl(memory, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW)
    return Slots(memory, [os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK) for _ in range(1 + count)])
