"""From a scene or a word problem to text: question, thought and answer, with the occasional slip put right."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Literal

from recipes.reference import drive, sums
from recipes.reference.drive import Scene

Effort = Literal["low", "medium", "high"]
EFFORTS: tuple[Effort, ...] = ("low", "medium", "high")

SLIP_SHARE = 0.1
_CORRECTION = " no, "


@dataclass(slots=True)
class Sample:
    """A question with its worked solution. ``wrong`` are the character spans of the thought that are slips."""

    domain: str
    question: str
    thought: str
    answer: str
    effort: Effort
    difficulty: int
    wrong: list[tuple[int, int]] = field(default_factory=list)


def drive_sample(scene: Scene, effort: Effort, rng: random.Random | None = None) -> Sample:
    """A driving question; with ``rng``, one full thought in ten gets a slip."""
    action, steps = drive.decide(scene)
    thought, wrong = _join([getattr(step, effort) for step in steps], rng if effort == "high" else None)
    return Sample("drive", scene.text(), thought, action, effort, len(scene.vehicles), wrong)


def sums_sample(steps: int, effort: Effort, source: random.Random, rng: random.Random | None = None) -> Sample:
    """A word problem of ``steps`` steps drawn from ``source``; with ``rng``, one full thought in ten gets a slip."""
    question, answer, working = sums.problem(steps, source)
    thought, wrong = _join([getattr(move, effort) for move in working], rng if effort == "high" else None)
    return Sample("sums", question, thought, answer, effort, steps, wrong)


def packed_sample(steps: list[int], effort: Effort, source: random.Random) -> Sample:
    """Several word problems in one prompt, numbered; the thought takes them in turn, the answers are a list."""
    parts = [sums_sample(n, effort, source) for n in steps]
    numbered = [list(enumerate(texts, 1)) for texts in ([p.question for p in parts], [p.thought for p in parts])]
    question, thought = ("\n".join(f"{i}. {text}" for i, text in texts) for texts in numbered)
    return Sample("packed", question, thought, ", ".join(p.answer for p in parts), effort, sum(steps))


def _join(lines: list[str], rng: random.Random | None) -> tuple[str, list[tuple[int, int]]]:
    lines, wrong = [line for line in lines if line], []
    if rng is not None and rng.random() < SLIP_SHARE:
        candidates = [i for i, line in enumerate(lines) if " = " in line]
        if candidates:
            i = rng.choice(candidates)
            lines[i], span = _slip(lines[i], rng)
            start = sum(len(line) + 1 for line in lines[:i])
            wrong = [(start + span[0], start + span[1])]
    return "\n".join(lines), wrong


def _slip(line: str, rng: random.Random) -> tuple[str, tuple[int, int]]:
    """Get one result of the line wrong, notice, and write it again: ``9 - 4 = 6 no, 5, …``."""
    equals = [i for i in range(len(line)) if line.startswith(" = ", i)]
    start = rng.choice(equals) + 3
    end = start
    while end < len(line) and line[end] not in ", ":
        end += 1
    value = int(line[start:end])
    mistaken = str(value + rng.choice((-10, -2, -1, 1, 2, 10)))
    return line[:start] + mistaken + _CORRECTION + line[start:], (start, start + len(mistaken))
