"""The child's side: requests on standard input, replies on standard output, one JSON object a line.

Every peer's environment imports this file, so that it needs nothing but the standard library. The child's clock
starts when a request has been read: the pipe costs no contender anything.
"""

from __future__ import annotations

import json
import os
import random
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

NS_PER_MS = 1_000_000
_FIRST_WORD = 5  # the ids below belong to special tokens


class Model(Protocol):
    """A loaded model with one sequence, decoded greedily."""

    def start(self, tokens: list[int]) -> int:
        """Forget everything, run the tokens, and take the likeliest next one."""
        ...

    def step(self, token: int) -> int:
        """Run the token taken last, and take the likeliest next one."""
        ...


Load = Callable[[str, int, int], Model]  # path, threads, and the longest sequence in tokens


class Operations:
    """What a contender can be asked; times are in nanoseconds."""

    def __init__(self, load: Load) -> None:
        self._load = load

    def load(self, path: str, threads: int, context: int, vocab: int) -> int:
        """Load the model and run it once, so that whatever it does lazily is done: the first token."""
        self._context = context
        words = range(_FIRST_WORD, vocab)
        self._prompt = random.Random(context).choices(words, k=context)  # the same for every contender
        self._model = self._load(path, threads, context)
        return self._model.start(self._prompt[:64])

    def prefill(self, tokens: int) -> int:
        """From an empty sequence to the first token."""
        prompt = self._prompt[:tokens]
        begin = time.perf_counter_ns()
        self._model.start(prompt)
        return time.perf_counter_ns() - begin

    def steps(self, context: int, count: int) -> list[int]:
        """From each token to the next one, behind a prompt of ``context`` tokens."""
        token = self._model.start(self._prompt[:context])
        times = []
        for _ in range(count):
            begin = time.perf_counter_ns()
            token = self._model.step(token)
            times.append(time.perf_counter_ns() - begin)
        return times

    def budget(self, ms: float, prompt: int) -> int:
        """Tokens taken in time, from an empty sequence; where the context is full, it begins again with the prompt."""
        tokens, taken, token = self._prompt[:prompt], 0, 0
        deadline = time.perf_counter_ns() + round(ms * NS_PER_MS)
        length = self._context
        while True:
            full = length + 1 >= self._context
            token = self._model.start(tokens) if full else self._model.step(token)
            length = prompt + 1 if full else length + 1
            if time.perf_counter_ns() > deadline:
                return taken
            taken += 1

    def greedy(self, tokens: list[int], count: int) -> list[int]:
        """So many tokens behind the given ones, to hold contenders against each other."""
        taken = [self._model.start(tokens)]
        while len(taken) < count:
            taken.append(self._model.step(taken[-1]))
        return taken

    def memory(self) -> int:
        """The most memory the process has held so far, in bytes."""
        status = Path("/proc/self/status").read_text(encoding="ascii")
        return int(status.partition("VmHWM:")[2].split()[0]) * 1024


def serve(load: Load) -> None:
    """Answer requests until standard input ends."""
    answer(Operations(load))


def answer(operations: object) -> None:
    """Answer each ``{"op": NAME, ...}`` with ``{"value": ...}`` of that method, or ``{"error": ...}``."""
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # nothing that a library prints may pass for a reply
    for line in sys.stdin:
        request: dict[str, Any] = json.loads(line)
        try:
            reply = {"value": getattr(operations, request.pop("op"))(**request)}
        except Exception as error:  # whatever the libraries raise is why the contender is not measured
            reply = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(reply), file=replies, flush=True)
