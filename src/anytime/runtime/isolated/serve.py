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

import msgspec

from anytime.ext.slots import ADMITTED, FINISHED, TAKEN, Slots, die_with_parent
from anytime.runtime.isolated.messages import (
    Ask,
    Failed,
    Ready,
    Start,
    failed,
    publish,
    publish_failure,
    unpack_format,
)
from anytime.runtime.isolated.pending import blank_answer
from anytime.runtime.isolated.settings import pin, settle
from anytime.runtime.loading import find_profile, open_bundle
from anytime.runtime.pending import Pending
from anytime.runtime.reasoner import Reasoner
from anytime.scheduler.clock import NS_PER_S


class Server:
    """Serves the slots with a Reasoner, which queues what it cannot think about at once."""

    def __init__(self, reasoner: Reasoner, slots: Slots) -> None:
        self._reasoner, self._slots = reasoner, slots
        self._asked: dict[int, tuple[int, Pending]] = {}  # by slot: serial, and what became of it
        self._threads = ThreadPoolExecutor(slots.count, thread_name_prefix="anytime-slot")  # one waits at each slot

    def run(self) -> None:
        """Serve for ever; the process ends with its parent."""
        while True:
            for slot in range(self._slots.count):
                self._look(slot)
            self._slots.wait_for_requests()

    def _look(self, slot: int) -> None:
        request = self._slots.request(slot)
        if request is not None:
            serial, deadline_ns, raw = request
            self._slots.mark(slot, serial, TAKEN)
            self._threads.submit(self._serve, slot, serial, deadline_ns, raw)
        else:
            self._call_off(slot)

    def _call_off(self, slot: int) -> None:
        serial, pending = self._asked.get(slot, (0, None))
        if pending is not None and self._slots.is_cancelled(slot, serial):
            pending.cancel()

    def _serve(self, slot: int, serial: int, deadline_ns: int, raw: bytes) -> None:
        try:
            self._answer(slot, serial, deadline_ns, msgspec.msgpack.decode(raw, type=Ask))
        except BaseException as error:  # said to the caller; this process is there for the next request
            publish_failure(self._slots, slot, serial, error)
        finally:
            self._asked.pop(slot, None)
            self._slots.mark(slot, serial, FINISHED)
            if not self._asked:
                gc.collect()  # of what the requests left; it is quick, for what was loaded is frozen

    def _answer(self, slot: int, serial: int, deadline_ns: int, ask: Ask) -> None:
        answer = unpack_format(ask.answer)
        if ask.prompt is None:
            self._reasoner.prepare(answer)
            prepared = msgspec.structs.replace(blank_answer("", "", 0, 0), stopped="complete")
            publish(self._slots, slot, serial, prepared, final=True)
            return
        ready_ns = (
            deadline_ns - self._reasoner.profile.delivery_ns
        )  # one process further the caller needs as much again
        pending = self._reasoner.submit(
            ask.prompt, deadline=ready_ns / NS_PER_S, answer=answer, sampling=ask.sampling, **ask.keywords
        )
        self._asked[slot] = serial, pending
        self._slots.mark(slot, serial, ADMITTED)
        self._call_off(slot)  # where that was asked for meanwhile
        while pending.wait_for_news():
            publish(self._slots, slot, serial, pending.best(), final=False)
        publish(self._slots, slot, serial, pending.leave(), final=True)
        pending.job.done.wait()  # until the engine has come back, this request is not finished


def load_bundle(start: Start) -> tuple[Reasoner, Ready]:
    """Open the bundle of a start, and settle down.

    Raises:
        AnytimeError: as ``Reasoner.load`` does.
    """
    affinity = pin(start.isolation)
    loaded = open_bundle(start.bundle, start.threads)
    file = Path(start.profile_file) if start.profile_file is not None else None
    profile = start.profile or find_profile(loaded, file, start.estimate)
    reasoner = Reasoner(
        loaded.engine, loaded.codec, profile, loaded.bundle, speculate=start.speculate, overload=start.overload
    )
    for packed in start.formats:
        reasoner.prepare(unpack_format(packed))
    realtime = {"affinity": affinity, **settle(start.isolation)}
    return reasoner, Ready(loaded.engine.spec, None if start.profile else profile, realtime)


def main(load: Callable[[Start], tuple[Reasoner, Ready]] = load_bundle) -> None:
    """Become a worker: load what the start says, say so, serve the slots."""
    start_file, words_file = map(int, sys.argv[1:])
    with open(start_file, "rb") as file:
        start = msgspec.msgpack.decode(file.read(), type=Start)
    die_with_parent()
    if os.getppid() != start.parent:  # it had ended before
        return
    slots = Slots(start.memory, start.bells)
    words: Ready | Failed
    try:
        reasoner, words = load(start)
    except Exception as error:
        words = failed(error)
    with open(words_file, "wb") as file:
        file.write(msgspec.msgpack.encode(words))
    # A standby waits here; at the end of file it is not needed.
    if isinstance(words, Ready) and sys.stdin.buffer.read(1):
        Server(reasoner, slots).run()


if __name__ == "__main__":
    main()
