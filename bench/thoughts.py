"""A whole thought and the answers along it: what the model would say if it were stopped after any share of it."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TypeVar

from anytime.ext.logits import greedy, pick
from anytime.runtime.answers.compiling import compile_format
from anytime.runtime.answers.cursors import Compiled
from anytime.runtime.engine import Burst, Engine, FloatArray, Row, Seq
from anytime.runtime.loading import Loaded
from anytime.runtime.questions import Question

T = TypeVar("T")

_BURST = 64
FRACTIONS = (0.0, 0.1, 0.25, 0.5, 0.75, 1.0)


def some(questions: list[T], count: int) -> list[T]:
    """``count`` of the questions, drawn with a fixed seed and left in their order, or all where there are no more."""
    if count >= len(questions):
        return questions
    return [questions[i] for i in sorted(random.Random(0).sample(range(len(questions)), count))]


@dataclass(frozen=True, slots=True)
class Passage:
    """One question's greedy thought; ``answers`` and ``confidences`` stand beside ``FRACTIONS`` of it."""

    question: Question
    thought_tokens: int
    complete: bool
    answers: tuple[str | None, ...]
    confidences: tuple[float, ...]

    def right(self, i: int) -> bool:
        return self.answers[i] == self.question.answer


class Thinker:
    """Runs questions on a bundle's engine with no deadline at all."""

    def __init__(self, loaded: Loaded) -> None:
        self._engine: Engine = loaded.engine
        self._codec = loaded.codec

    def passage(self, question: Question, fractions: tuple[float, ...] = FRACTIONS) -> Passage:
        """Think to the end, greedily, then answer from every fraction of the thought. No thought for ``(0.0,)``."""
        answer_format = question.format()
        assert answer_format is not None, f"{question.id} has no answer format"
        compiled = compile_format(answer_format, self._codec)
        seq = self._engine.open()
        prompt = self._codec.encode(question.question)
        logits = self._run(seq, prompt)
        thought, complete = self._think(seq, logits) if max(fractions) > 0 else ([], False)
        answers = [self._answer(seq, len(prompt) + round(f * len(thought)), compiled) for f in fractions]
        self._engine.close(seq)
        texts, confidences = zip(*answers, strict=True)
        return Passage(question, len(thought), complete, texts, confidences)

    def _run(self, seq: Seq, tokens: list[int]) -> FloatArray:
        return self._engine.run([Row(seq, tokens)], 0)[0][-1]

    def _think(self, seq: Seq, logits: FloatArray) -> tuple[list[int], bool]:
        """The thought without its tag, and whether it ended by itself."""
        tag, stops = self._codec.close_tag_ids, self._codec.stop_ids
        ends = [*stops, tag[-1]]
        text = [greedy(logits)]
        while not (text[-1] in stops or text[-len(tag) :] == tag):
            room = self._engine.spec.max_context - 16 - seq.length
            if room <= 0:
                return text, False
            text += self._engine.extend([Burst(seq, text[-1], ends)], min(_BURST, room), 0)[0]
        return text[:-1] if text[-1] in stops else text[: len(text) - len(tag)], True

    def _answer(self, seq: Seq, length: int, compiled: Compiled) -> tuple[str | None, float]:
        (fork,) = self._engine.fork(seq)
        self._engine.truncate(fork, length)
        cursor, probabilities, tokens = compiled.start(), [], list(self._codec.close_ids)
        while not cursor.done:
            token, probability = pick(self._run(fork, tokens), cursor.allowed())
            cursor.push(token)
            probabilities.append(probability)
            tokens = [token]
        self._engine.close(fork)
        return cursor.text, cursor.confidence(probabilities)
