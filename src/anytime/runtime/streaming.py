"""Each better answer of a request as it is found, for loops and for asyncio."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING

from anytime.runtime.answer import Answer
from anytime.runtime.intake import MOST_REQUESTS
from anytime.runtime.pending import Pending

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor


def follow(pending: Pending) -> Iterator[Answer]:
    """The answers of a request under way; whoever stops listening stops the thinking."""
    try:
        while pending.wait_for_news():
            yield pending.best()
        yield pending.leave()
    finally:
        pending.cancel()


class Waiters:
    """Threads on which requests of an event loop are waited for: one for each, so that no wait waits for another."""

    def __init__(self) -> None:
        self._threads: ThreadPoolExecutor | None = None

    async def follow(self, pending: Pending) -> AsyncIterator[Answer]:
        """``follow`` without blocking the event loop."""
        import asyncio  # takes as long to import as everything else here
        from concurrent.futures import ThreadPoolExecutor

        if self._threads is None:
            self._threads = ThreadPoolExecutor(MOST_REQUESTS, thread_name_prefix="anytime-wait")
        loop = asyncio.get_running_loop()
        try:
            while await loop.run_in_executor(self._threads, pending.wait_for_news):
                yield pending.best()
            yield pending.leave()
        finally:
            pending.cancel()

    def close(self) -> None:
        """Let the threads end once nothing is waited for."""
        if self._threads is not None:
            self._threads.shutdown(wait=False)
