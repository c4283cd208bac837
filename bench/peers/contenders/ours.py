"""anytime: the engine below the decode loop, through the interface that the loop uses."""

from __future__ import annotations

from anytime.ext.logits import greedy
from anytime.runtime.engine import Burst, Row
from anytime.runtime.loading import open_bundle
from bench.peers.protocol import serve

_GENERATION = 1  # nobody terminates a run here


class Ours:
    def __init__(self, path: str, threads: int, context: int) -> None:
        self._engine = open_bundle(path, threads).engine
        self._seq = self._engine.open()

    def start(self, tokens: list[int]) -> int:
        self._engine.truncate(self._seq, 0)
        return greedy(self._engine.run([Row(self._seq, tokens)], _GENERATION)[0][0])

    def step(self, token: int) -> int:
        return self._engine.extend([Burst(self._seq, token, ())], 1, _GENERATION)[0][0]


if __name__ == "__main__":
    serve(Ours)
