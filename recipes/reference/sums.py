"""The *sums* domain: word problems of 1 to 12 dependent arithmetic steps, all values between 0 and 99."""

from __future__ import annotations

import random
from dataclasses import dataclass

MAX_STEPS = 12
LARGEST = 99

_NAMES = ("Ana", "Ben", "Cleo", "Dan", "Eva", "Finn")
_THINGS = ("apples", "boxes", "cards", "bolts", "cells", "tiles")
_PHRASES = {
    "+": ("gets {n} more", "buys {n}", "finds {n}"),
    "-": ("gives away {n}", "loses {n}", "sells {n}"),
    "*": ("multiplies them by {n}",),
    "/": ("keeps one of {n} equal parts",),
}


def _apply(op: str, value: int, n: int) -> int:
    return {"+": value + n, "-": value - n, "*": value * n, "/": value // n}[op]


def _moves(value: int, rng: random.Random) -> tuple[str, int]:
    """An operation that keeps the value whole and within 0..99."""
    options = []
    if value < LARGEST:
        options.append(("+", rng.randint(1, min(40, LARGEST - value))))
    if value > 1:
        options.append(("-", rng.randint(1, min(40, value))))
    if 1 < value <= LARGEST // 2:
        options.append(("*", rng.randint(2, min(4, LARGEST // value))))
    divisors = [n for n in (2, 3, 4) if value > 1 and value % n == 0]
    if divisors:
        options.append(("/", rng.choice(divisors)))
    return rng.choice(options)


@dataclass(frozen=True, slots=True)
class Move:
    """One step: what the story says, the sum it stands for, and both as a line of thought at each effort."""

    phrase: str
    before: int
    op: str
    n: int
    after: int

    @property
    def high(self) -> str:
        return f"{self.phrase}: {self.before} {self.op} {self.n} = {self.after}"

    @property
    def medium(self) -> str:
        return f"{self.before} {self.op} {self.n} = {self.after}"

    @property
    def low(self) -> str:
        return f"{self.op} {self.n} = {self.after}"


def problem(steps: int, rng: random.Random) -> tuple[str, str, list[Move]]:
    """A question of ``steps`` dependent steps, its answer, and the working."""
    name, thing = rng.choice(_NAMES), rng.choice(_THINGS)
    value = rng.randint(2, 60)
    sentences = [f"{name} has {value} {thing}."]
    working: list[Move] = []
    for _ in range(steps):
        op, n = _moves(value, rng)
        after = _apply(op, value, n)
        phrase = rng.choice(_PHRASES[op]).format(n=n)
        working.append(Move(phrase, value, op, n, after))
        sentences.append(f"{name} {phrase}.")
        value = after
    sentences.append(f"How many {thing}?")
    return " ".join(sentences), str(value), working
