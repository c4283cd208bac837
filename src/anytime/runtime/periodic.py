"""A question that is asked again every period, on a thread of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from anytime.runtime.answer import Answer
from anytime.scheduler.clock import NS_PER_S
from anytime.scheduler.releases import Releases

if TYPE_CHECKING:
    from anytime.runtime.reasoner import Reasoner, Request


class Periodic:
    """Asks at every release what ``ask`` returns then, None for nothing, and hands each answer to ``told``.

    The next release waits for neither: one that is over before its turn comes is left out and counted in ``skipped``.
    What ``ask`` or ``told`` raises ends the task, and ``stop`` raises it again.
    """

    def __init__(
        self,
        reasoner: Reasoner,
        releases: Releases,
        ask: Callable[[], str | None],
        told: Callable[[Answer], object],
        request: Request,
    ) -> None:
        self.released = self.skipped = 0
        self._reasoner, self._releases, self._ask, self._told = reasoner, releases, ask, told
        self._request = request
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
        clock, k = self._reasoner.clock, -1
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
            request = self._request.copy()
            request["deadline"] = due_ns / NS_PER_S
            self._told(self._reasoner.answer(prompt, **request))
