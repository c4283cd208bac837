"""A question that is asked again every period, on a thread of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable

from anytime.runtime.answer import Answer
from anytime.scheduler.clock import NS_PER_S, Clock
from anytime.scheduler.releases import Releases


class Periodic:
    """Asks at every release what ``ask`` returns then, None for nothing, and hands each answer to ``told``.

    The next release waits for neither: one that is over before its turn comes is left out and counted in ``skipped``.
    What ``ask`` or ``told`` raises ends the task, and ``stop`` raises it again.
    """

    def __init__(
        self,
        clock: Clock,
        releases: Releases,
        ask: Callable[[], str | None],
        told: Callable[[Answer], object],
        answer: Callable[..., Answer],
    ) -> None:
        self.released = self.skipped = 0
        self._clock, self._releases, self._ask, self._told, self._answer = clock, releases, ask, told, answer
        self._stopped = threading.Event()
        self._failure: Exception | None = None
        self._thread = threading.Thread(target=self._run, name="anytime-periodic", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Release no more, and wait for the answer under way."""
        self._stopped.set()
        self._thread.join()
        if self._failure is not None:
            raise self._failure

    def _run(self) -> None:
        clock, k = self._clock, -1
        try:
            while True:
                following = self._releases.next(clock.now(), k)
                self.skipped += following - k - 1
                k = following
                if clock.wait_until(self._stopped, self._releases.released_ns(k)):
                    return
                self._release(k)
        except Exception as error:
            self._failure = error

    def _release(self, k: int) -> None:
        self.released += 1
        prompt = self._ask()
        if prompt is not None:
            due_ns = self._releases.released_ns(k) + self._releases.deadline_ns
            self._told(self._answer(prompt, deadline=due_ns / NS_PER_S))
