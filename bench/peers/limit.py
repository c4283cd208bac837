"""The physical limit of a decode step: how long the machine takes to read as many bytes as the weights have.

A child process of its own: the buffer is as large as the weights, and a smaller one stays in the cache as a small
model's weights do. ``OPENBLAS_NUM_THREADS`` has to be 1 there, because the threads are ours.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from bench.peers.protocol import answer

_ATTEMPTS = 5
_LEAST_BYTES = 1 << 26  # read by an attempt, so that starting it does not count
_WORD = 8

Words = npt.NDArray[Any]
# Which of them reads fastest depends on the processor, and on whether the bytes come from cache or from memory.
_READS: tuple[Callable[[Words], object], ...] = (
    lambda words: words.max(),
    lambda words: words.view(np.int64).max(),
    lambda words: np.dot(words, words),
)


class Limit:
    def read(self, size: int, threads: int) -> int:
        """Nanoseconds to read ``size`` bytes once with so many threads, at best."""
        words = np.ones(max(threads, size // _WORD), np.float64)
        parts = np.array_split(words, threads)
        repeats = max(1, _LEAST_BYTES // size)
        return min(_together(parts, read, repeats) for read in _READS for _ in range(_ATTEMPTS))


def _together(parts: list[Words], read: Callable[[Words], object], repeats: int) -> int:
    """Every thread reads its part, again and again; the time that one round of all of them takes."""
    spans: list[tuple[int, int]] = []
    ready = threading.Barrier(len(parts))

    def run(part: Words) -> None:
        ready.wait()
        begin = time.perf_counter_ns()
        for _ in range(repeats):
            read(part)
        spans.append((begin, time.perf_counter_ns()))

    workers = [threading.Thread(target=run, args=(part,)) for part in parts]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return (max(end for _, end in spans) - min(begin for begin, _ in spans)) // repeats


if __name__ == "__main__":
    answer(Limit())
