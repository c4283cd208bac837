"""Keeps one worker process alive: a thread that starts it, sees it end or hang, and starts another."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from collections.abc import Callable, Sequence

import msgspec

from anytime.errors import AnytimeError, EngineError
from anytime.ext.slots import TAKEN, Slots
from anytime.runtime.answer import Stopped
from anytime.runtime.engine import Health
from anytime.runtime.isolated.child import SERVE, Child, wait_readable
from anytime.runtime.isolated.messages import Ready, Start
from anytime.runtime.isolated.seats import under_way
from anytime.scheduler.clock import MONOTONIC, NS_PER_MS, NS_PER_S
from anytime.scheduler.profile import LatencyProfile

HANG_NS = 200 * NS_PER_MS  # behind its deadline, a worker that is not through with a request hangs
PREPARING_NS = 30 * NS_PER_S  # unless one is still being read: a grammar may take long to compile
_LOOK_S = 0.05  # between looks at requests under way
_LEAST_START_S, _START_FACTOR = 10.0, 10.0  # not ready in so much time, or so often what the first took, it hangs
_LONGEST_PAUSE_S = 5.0  # between starts that fail
Lose = Callable[[int, int, Stopped, str], None]


class Supervisor:
    """The worker's keeper.

    ``lose(slot, serial, stopped, why)`` is called on the keeper's thread for every request that was under way in a
    worker that is gone. Requests that no worker had taken yet wait for the next one.
    """

    def __init__(self, slots: Slots, start: Start, lose: Lose, command: Sequence[str] = SERVE) -> None:
        self.restarts = 0
        self.pid: int | None = None  # of a worker that is ready
        self.ready: Ready | None = None  # the latest first words
        self.failure: AnytimeError | None = None  # why the latest start has failed
        self._start, self._slots, self._lose, self._command = start, slots, lose, command
        self._wake, self._stop = (os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC) for _ in range(2))
        self._idle = self._stopping = False
        self._hung = ""  # how, when that was the end of the latest worker
        self._start_limit_s: float | None = None
        self._spare: Child | None = None  # loaded and waiting, where that is wanted
        self._known = threading.Event()  # how the first start went
        # The worker dies with the thread that started it, so that is not the caller's.
        self._thread = threading.Thread(target=self._keep, name="anytime-supervisor", daemon=True)
        self._thread.start()

    def wait(self) -> tuple[Ready, LatencyProfile]:
        """Wait until the first worker is ready.

        Raises:
            AnytimeError: what the worker raised, or that it ended.
        """
        self._known.wait()
        if self.ready is None or self.ready.profile is None:
            raise self.failure or EngineError("the isolated process said nothing of its profile")
        return self.ready, self.ready.profile

    def remember(self, packed_format: list[object]) -> None:
        """Have the workers to come compile this answer format before they are ready."""
        if packed_format not in self._start.formats:
            self._start = msgspec.structs.replace(self._start, formats=(*self._start.formats, packed_format))

    def notice(self) -> None:
        """There is a new request: look after it."""
        if self._idle:
            os.eventfd_write(self._wake, 1)

    def health(self) -> Health:
        """READY, BUSY with a request, or LOST while there is no worker."""
        if self.pid is None:
            return Health.LOST
        return Health.BUSY if any(under_way(self._slots)) else Health.READY

    def stop(self) -> None:
        """End the worker and the thread; what was under way is lost."""
        if not self._stopping:
            self._stopping = True
            os.eventfd_write(self._stop, 1)
            self._thread.join()
            os.close(self._wake)
            os.close(self._stop)

    def _keep(self) -> None:
        try:
            self._keep_alive()
        except Exception as error:  # whoever waits must hear of it
            self.failure = EngineError(f"unexpected {error!r} while looking after the isolated process")
        finally:
            if self._spare is not None:
                self._spare.end()
            self._hung = ""
            self._settle(str(self.failure))
            self._known.set()

    def _keep_alive(self) -> None:
        pause_s = 0.0
        while not self._stopping:
            why = self._one_life()
            self._settle(why)
            if self.ready is None:  # a first start that fails is not tried again
                break
            if not self._stopping:
                self.restarts += 1
                logging.getLogger("anytime").warning("%s: starting another", why)
                # One that was ready is missed, however short its life; one that cannot start will not at once, either.
                pause_s = 0.0 if self.failure is None else min(_LONGEST_PAUSE_S, 2 * pause_s or _LOOK_S)
                wait_readable((self._stop,), pause_s)

    def _one_life(self) -> str:
        """One worker, from its start to its end; why it ended."""
        began_ns, self._hung = MONOTONIC.now(), ""
        try:
            self._slots.mend()  # what the worker before may have damaged
            child, self._spare = self._spare or self._another(), None
        except AnytimeError as error:
            self.failure = error
            return str(error)
        try:
            words = child.first_words(self._stop, self._start_limit_s)
            if not isinstance(words, Ready):
                self.failure = words
                return str(words)
            self._greet(words, child.pid, MONOTONIC.now() - began_ns)
            child.go()
            if self._start.isolation.standby:
                with contextlib.suppress(AnytimeError):  # then the next one is started when it is needed
                    self._spare = self._another()
            self._hung = self._watch(child)
        finally:
            self.pid = None
            how = child.end()
        return f"the isolated process {self._hung or how}"

    def _another(self) -> Child:
        return Child(self._start, self._slots, self._command)

    def _greet(self, words: Ready, pid: int, took_ns: int) -> None:
        if self.ready is None:
            self._start = msgspec.structs.replace(self._start, profile=words.profile)
            self._start_limit_s = max(_LEAST_START_S, _START_FACTOR * took_ns / NS_PER_S)
        else:
            words = msgspec.structs.replace(words, profile=self.ready.profile)
        self.ready, self.pid, self.failure = words, pid, None
        self._known.set()

    def _watch(self, child: Child) -> str:
        """Until it ends, hangs (what to say then) or is to stop."""
        since_ns = MONOTONIC.now()
        assert self.ready is not None
        assert self.ready.profile is not None
        patience_ns = max(HANG_NS, self.ready.profile.longest_run_ns)  # a run may have to come to its end
        while True:
            self._idle = True  # before looking: who asks from here on rings
            busy = any(under_way(self._slots))
            self._idle = not busy
            readable = wait_readable((child.pidfd, self._stop, self._wake), _LOOK_S if busy else None)
            if child.pidfd in readable or self._stop in readable:
                return ""
            if self._wake in readable:
                os.eventfd_read(self._wake)
            if hangs(self._slots, since_ns, MONOTONIC.now(), patience_ns):
                return f"did not come back within {patience_ns // NS_PER_MS} ms of a deadline"

    def _settle(self, why: str) -> None:
        """What becomes of the requests under way, now that there is no worker.

        Any of those in a worker that died may be what it died of, so they are lost. Of one that hung it is known: the
        others, if nothing has been found for them, are for the next worker.
        """
        now_ns = MONOTONIC.now()
        for slot, serial, stage in under_way(self._slots):
            innocent = self._hung and now_ns < self._slots.deadline_ns(slot) and not self._slots.read(slot, serial)
            if self._stopping:
                self._lose(slot, serial, "cancelled" if stage else "rejected", "the Reasoner was closed")
            elif stage and innocent:
                self._slots.mark(slot, 0, 0)
            elif stage:
                self._lose(slot, serial, "error", why)


def hangs(slots: Slots, since_ns: int, now_ns: int, patience_ns: int) -> bool:
    """Whether a worker that is there since ``since_ns`` has left a request unfinished for longer than can be."""
    found = list(under_way(slots))
    if any(stage == TAKEN for _, _, stage in found):
        patience_ns = max(patience_ns, PREPARING_NS)
    return any(now_ns - max(slots.deadline_ns(slot), since_ns) > patience_ns for slot, _, _ in found)
