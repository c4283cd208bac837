"""Two engines that are asked the same, one of them known to answer right."""

from __future__ import annotations

import random

import numpy as np

from anytime.runtime.engine import Burst, Engine, Row, Seq


class Pair:
    """Does the same with two engines, and holds the one to the other."""

    def __init__(self, engine: Engine, reference: Engine) -> None:
        self.engines = (engine, reference)
        self.seqs: list[tuple[Seq, Seq]] = []
        self._vocabulary, self._context = reference.spec.vocab_size, reference.spec.max_context

    def step(self, choose: random.Random) -> None:
        deeds = [self.open] if not self.seqs else [self.open, self.run, self.run, self.extend, self.together, self.fork]
        deeds += [self.truncate, self.close, self.snapshot, self.probes] if self.seqs else []
        choose.choice(deeds)(choose)
        for a, b in self.seqs:
            assert a.length == b.length
        assert self.engines[0].free_rows == self.engines[1].free_rows

    def open(self, choose: random.Random) -> None:
        if self.engines[0].free_rows:
            self.seqs.append((self.engines[0].open(), self.engines[1].open()))

    def run(self, choose: random.Random) -> None:
        pair = choose.choice(self.seqs)
        count = min(choose.choice([1, 2, 3, 7, 16, 17, 40, 100]), self._context - pair[0].length)
        if not count:
            return
        tokens, want = (
            [choose.randrange(self._vocabulary) for _ in range(count)],
            choose.choice([1, min(3, count), count]),
        )
        found = [engine.run([Row(seq, tokens, want)], 1)[0] for engine, seq in zip(self.engines, pair, strict=True)]
        np.testing.assert_array_equal(*found)

    def some(self, choose: random.Random, room: int) -> list[tuple[Seq, Seq]]:
        fitting = [pair for pair in self.seqs if pair[0].length + room <= self._context]
        chosen = choose.sample(fitting, choose.randint(1, len(fitting))) if fitting else []
        return chosen if chosen and self.engines[0].span([seq for seq, _ in chosen]) is not None else []

    def together(self, choose: random.Random) -> None:
        if chosen := self.some(choose, 1):
            tokens = [choose.randrange(self._vocabulary) for _ in chosen]
            found = [
                engine.run([Row(pair[i], [token]) for pair, token in zip(chosen, tokens, strict=True)], 1)
                for i, engine in enumerate(self.engines)
            ]
            np.testing.assert_array_equal(*found)

    def probes(self, choose: random.Random) -> None:
        if chosen := self.some(choose, 5):
            tokens = [[choose.randrange(self._vocabulary) for _ in range(choose.randint(2, 5))] for _ in chosen]
            found = [
                engine.run([Row(pair[i], run, 2) for pair, run in zip(chosen, tokens, strict=True)], 1)
                for i, engine in enumerate(self.engines)
            ]
            np.testing.assert_array_equal(*found)

    def extend(self, choose: random.Random) -> None:
        if chosen := self.some(choose, 9):
            ends = [choose.sample(range(self._vocabulary), 4) for _ in chosen]
            found = [
                engine.extend([Burst(pair[i], 5, end) for pair, end in zip(chosen, ends, strict=True)], 9, 1)
                for i, engine in enumerate(self.engines)
            ]
            assert found[0] == found[1]

    def fork(self, choose: random.Random) -> None:
        pair, n = choose.choice(self.seqs), choose.randint(1, 2)
        if self.engines[0].free_rows >= n:
            self.seqs += zip(*(e.fork(seq, n) for e, seq in zip(self.engines, pair, strict=True)), strict=True)

    def truncate(self, choose: random.Random) -> None:
        pair = choose.choice(self.seqs)
        length = choose.randint(0, pair[0].length)
        for engine, seq in zip(self.engines, pair, strict=True):
            engine.truncate(seq, length)

    def close(self, choose: random.Random) -> None:
        pair = self.seqs.pop(choose.randrange(len(self.seqs)))
        for engine, seq in zip(self.engines, pair, strict=True):
            engine.close(seq)

    def snapshot(self, choose: random.Random) -> None:
        if self.engines[0].free_rows:
            pair = choose.choice(self.seqs)
            kept = [engine.snapshot(seq) for engine, seq in zip(self.engines, pair, strict=True)]
            restored = [engine.restore(snapshot) for engine, snapshot in zip(self.engines, kept, strict=True)]
            self.seqs.append((restored[0], restored[1]))
