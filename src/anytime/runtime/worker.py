"""The engine's thread: takes jobs in the order in which they came and decodes them."""

from __future__ import annotations

import threading
from collections import deque

from anytime.errors import AnytimeError, UsageError
from anytime.runtime.decode import decode
from anytime.runtime.engine import Health
from anytime.runtime.job import Job, Machine
from anytime.scheduler.clock import NS_PER_S

MAX_WAITING = 16
LOST_AFTER_S = 10  # behind its deadline, a step that was told to end and has not is taken for lost


class Worker:
    """Owns the engine while it lives. The queue is bounded; what does not fit is rejected at once."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._waiting: deque[Job] = deque()
        self._changed = threading.Condition()
        self._current: Job | None = None
        self._stopping = False
        self._thread = threading.Thread(target=self._work, name="anytime-engine", daemon=True)
        self._thread.start()

    def submit(self, job: Job) -> None:
        """Queue a job, or reject it when it cannot be served."""
        now = self._machine.clock.now()
        if job.ready_ns <= now:
            left_ms = (job.ready_ns + self._machine.profile.delivery_ns - now) / 1e6
            _reject(job, f"the deadline is {left_ms:.1f} ms away, less than it takes to deliver an answer")
        elif self.health() is Health.LOST:
            _reject(job, "the engine does not come back from an earlier step: load a new Reasoner")
        else:
            with self._changed:
                if len(self._waiting) >= MAX_WAITING:  # whoever was called off waits no more
                    self._waiting = deque(waiting for waiting in self._waiting if not waiting.cancelled)
                if self._stopping:
                    _reject(job, "the Reasoner is closed")
                elif len(self._waiting) >= MAX_WAITING:
                    _reject(job, f"{MAX_WAITING} requests are waiting already")
                else:
                    self._waiting.append(job)
                    self._changed.notify()

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._stopping)
                if self._stopping:
                    return
                job = self._current = self._waiting.popleft()
            if not job.cancelled:
                self._serve(job)
            self._current = None
            job.done.set()
            job.news.set()

    def _serve(self, job: Job) -> None:
        job.started = True
        try:
            decode(job, self._machine)
        except UsageError as error:
            job.failure = error
        except AnytimeError as error:
            job.stopped, job.reason = "error", str(error)
        except Exception as error:  # a request may fail; the thread that serves the next one must not
            job.stopped, job.reason = "error", f"unexpected {error!r}"

    def health(self) -> Health:
        job = self._current
        if job is None:
            return Health.READY
        overdue_ns = self._machine.clock.now() - job.ready_ns
        return Health.LOST if overdue_ns > LOST_AFTER_S * NS_PER_S else Health.BUSY

    def stop(self) -> None:
        with self._changed:
            self._stopping = True
            if (job := self._current) is not None:
                job.cancelled = True
                self._machine.engine.terminate(job.generation)
            for job in self._waiting:
                _reject(job, "the Reasoner was closed")
            self._waiting.clear()
            self._changed.notify()
        self._thread.join(timeout=1.0)


def _reject(job: Job, reason: str) -> None:
    job.stopped, job.reason = "rejected", reason
    job.done.set()
    job.news.set()
