"""The worker's process: a Reasoner that takes its requests from shared memory and publishes every better answer there.

Run by ``child`` as ``python -m anytime.runtime.isolated.serve START WORDS``, two file descriptors.
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import cast

import msgspec

from anytime.ext.process import die_with_parent
from anytime.ext.slots import ADMITTED, FINISHED, TAKEN, Slots
from anytime.runtime.engine import Health
from anytime.runtime.intake import Overload
from anytime.runtime.isolated.messages import (
    Ask,
    Failed,
    Prepare,
    Ready,
    Start,
    Steer,
    failed,
    publish,
    publish_failure,
    unpack_format,
    unpack_message,
)
from anytime.runtime.isolated.pending import blank_answer
from anytime.runtime.isolated.settings import pin, settle
from anytime.runtime.loading import find_profile, open_bundle
from anytime.runtime.pending import Pending
from anytime.runtime.reasoner import Reasoner
from anytime.scheduler.clock import NS_PER_S

_LOST = 70  # exit code: an internal error


class Server:
    """Serves the slots with a Reasoner, in which the requests share the engine."""

    def __init__(self, reasoner: Reasoner, slots: Slots) -> None:
        self._reasoner, self._slots = reasoner, slots
        self._asked: dict[int, tuple[int, Pending]] = {}  # by slot: serial, and what became of it
        self._threads = ThreadPoolExecutor(slots.count, thread_name_prefix="anytime-slot")  # one waits at each slot

    def run(self) -> None:
        """Serve for ever; the process ends with its parent."""
        while True:
            found = [(slot, self._slots.request(slot)) for slot in range(self._slots.count)]
            new = [(*request, slot) for slot, request in found if request is not None]
            for serial, deadline_ns, raw, slot in sorted(new):  # as they were asked: of a topic the newest counts
                self._take(slot, serial, deadline_ns, raw)
            for slot in list(self._asked):
                self._call_off(slot)
            self._slots.wait_for_requests()

    def _take(self, slot: int, serial: int, deadline_ns: int, raw: bytes) -> None:
        self._end_if_lost()
        self._slots.mark(slot, serial, TAKEN)
        try:
            message = unpack_message(raw)
            if isinstance(message, Ask):
                self._ask(slot, serial, self._ready_ns(deadline_ns), message)
            elif isinstance(message, Prepare):
                self._threads.submit(self._prepare, slot, serial, message)
            elif isinstance(message, Steer):
                self._reply(slot, serial, self._steer(message), "")
            else:
                self._reply(slot, serial, True, self._reasoner.drift() or "")
        except Exception as error:  # said to the caller; this process is there for the next request
            self._fail(slot, serial, error)

    def _ready_ns(self, deadline_ns: int) -> int:
        """One process further, the caller needs as much time again to be handed its answer."""
        return deadline_ns - self._reasoner.profile.delivery_ns

    def _ask(self, slot: int, serial: int, ready_ns: int, ask: Ask) -> None:
        pending = self._reasoner.submit(
            ask.prompt,
            deadline=ready_ns / NS_PER_S,
            answer=unpack_format(ask.answer),
            sampling=ask.sampling,
            **ask.keywords,
        )
        self._asked[slot] = serial, pending
        self._slots.mark(slot, serial, ADMITTED)
        self._threads.submit(self._follow, slot, serial, pending)

    def _follow(self, slot: int, serial: int, pending: Pending) -> None:
        """Publish what is found, to the end; on a thread of its own."""
        try:
            while pending.wait_for_news():
                publish(self._slots, slot, serial, pending.best(), final=False)
            publish(self._slots, slot, serial, pending.leave(), final=True)
            pending.job.done.wait()  # until the engine has come back, this request is not finished
        except Exception as error:
            publish_failure(self._slots, slot, serial, error)
        del self._asked[slot]
        self._slots.mark(slot, serial, FINISHED)
        self._end_if_lost()
        if not self._asked:
            gc.collect()  # of what the requests left; it is quick, for what was loaded is frozen

    def _call_off(self, slot: int) -> None:
        serial, pending = self._asked.get(slot, (0, None))  # it may be over by now
        if pending is not None and pending.final is None and self._slots.is_cancelled(slot, serial):
            pending.cancel()

    def _prepare(self, slot: int, serial: int, prepare: Prepare) -> None:
        try:
            self._reasoner.prepare(unpack_format(prepare.answer))
        except Exception as error:
            self._fail(slot, serial, error)
        else:
            self._reply(slot, serial, True, "")

    def _steer(self, steer: Steer) -> bool:
        """Whether what was wanted of a request under way could be done."""
        found = [pending for serial, pending in list(self._asked.values()) if serial == steer.serial]
        if not found:
            return False
        if steer.how == "hurry":
            found[0].answer_now()
            return True
        move = found[0].tighten if steer.how == "tighten" else found[0].extend
        return move(deadline=self._ready_ns(steer.deadline_ns) / NS_PER_S)

    def _end_if_lost(self) -> None:
        """An engine that is lost, with its GPU, say, is lost to this process; the next one serves what is not taken."""
        if self._reasoner.health() is Health.LOST:
            print("the engine of the isolated process was lost", file=sys.stderr, flush=True)
            os._exit(_LOST)

    def _reply(self, slot: int, serial: int, done: bool, reason: str) -> None:
        blank = blank_answer("", "", 0, 0)
        answer = msgspec.structs.replace(blank, stopped="complete" if done else "rejected", reason=reason)
        publish(self._slots, slot, serial, answer, final=True)
        self._slots.mark(slot, serial, FINISHED)

    def _fail(self, slot: int, serial: int, error: Exception) -> None:
        publish_failure(self._slots, slot, serial, error)
        self._slots.mark(slot, serial, FINISHED)


def load_bundle(start: Start) -> tuple[Reasoner, Ready]:
    """Open the bundle of a start, and settle down.

    Raises:
        AnytimeError: as ``Reasoner.load`` does.
    """
    affinity = pin(start.isolation)
    loaded = open_bundle(start.bundle, start.threads, start.engine)
    file = Path(start.profile_file) if start.profile_file is not None else None
    profile = start.profile or find_profile(loaded, file, start.estimate)
    reasoner = Reasoner(
        loaded.engine,
        loaded.codec,
        profile,
        loaded.bundle,
        speculate=start.speculate,
        overload=cast(Overload, start.overload),
    )
    reasoner.watch_clocks()
    for packed in start.formats:
        reasoner.prepare(unpack_format(packed))
    realtime = {"affinity": affinity, **settle(start.isolation)}
    return reasoner, Ready(loaded.engine.spec, None if start.profile else profile, realtime)


def main(load: Callable[[Start], tuple[Reasoner, Ready]] = load_bundle) -> None:
    """Become a worker: load what the start says, say so, serve the slots."""
    start_file, words_file = map(int, sys.argv[1:])
    words: Ready | Failed
    try:
        with open(start_file, "rb") as file:
            start = msgspec.msgpack.decode(file.read(), type=Start)
        die_with_parent()
        if os.getppid() != start.parent:  # it had ended before
            return
        slots = Slots(start.memory, start.bells)
        reasoner, words = load(start)
    except Exception as error:
        words = failed(error)
    with open(words_file, "wb") as file:
        file.write(msgspec.msgpack.encode(words))
    if isinstance(words, Ready) and sys.stdin.buffer.read(1):  # a standby waits here
        Server(reasoner, slots).run()


if __name__ == "__main__":
    main()
