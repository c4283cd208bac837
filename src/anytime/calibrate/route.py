"""Training a router: which of several bundles is right on which questions, learned from the words of the question."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from anytime.calibrate.fit import LEAST_QUESTIONS, logistic
from anytime.calibrate.record import Recorder
from anytime.errors import CalibrationError
from anytime.runtime.loading import Loaded
from anytime.runtime.questions import Question
from anytime.runtime.router import Router, features

_FOLDS = 5
_SHRINK = 0.1  # inverse strength of the penalty on weights: many words occur in few questions


def right_of(loaded: Loaded, questions: Iterable[Question]) -> list[bool]:
    """Whether a whole greedy thought of a bundle ends with the right answer."""
    recorder = Recorder(loaded.engine, loaded.codec, samples=0)
    recordings = map(recorder.record, questions)
    return [recording.plain.passes[0].probes[-1].text in recording.right for recording in recordings]


def train(questions: Sequence[Question], bundles: Sequence[str], right: Sequence[Sequence[bool]]) -> Router:
    """A router between ``bundles`` (ids), of which ``right`` says for each how it answered the questions.

    Raises:
        CalibrationError: there are too few questions.
    """
    if len(questions) < LEAST_QUESTIONS:
        raise CalibrationError(
            f"{len(questions)} questions with answers are too few to train a router: give {LEAST_QUESTIONS} or more"
        )
    terms = [features(question.question) for question in questions]
    return Router(tuple(bundles), tuple(_weights(terms, of_one) for of_one in right))


def _weights(terms: Sequence[Sequence[float]], right: Sequence[bool]) -> tuple[float, ...]:
    """A bundle that is always right, or always wrong, is so whatever the question."""
    if len(set(right)) == 1:
        certain = float(np.log((sum(right) + 0.5) / (len(right) - sum(right) + 0.5)))
        return (certain, *[0.0] * (len(terms[0]) - 1))
    return logistic(terms, right, _SHRINK)


def routed(
    questions: Sequence[Question], bundles: Sequence[str], right: Sequence[Sequence[bool]], sure: float
) -> tuple[float, list[float]]:
    """Accuracy by router alone, and the share of questions to each bundle; on questions that training had not seen."""
    hits, sent = 0, [0] * len(bundles)
    for fold in range(_FOLDS):
        seen = [i for i in range(len(questions)) if i % _FOLDS != fold]
        router = Router(
            tuple(bundles),
            tuple(_weights([features(questions[i].question) for i in seen], [one[i] for i in seen]) for one in right),
        )
        for i in range(fold, len(questions), _FOLDS):
            place = router.first(questions[i].question, range(len(bundles)), sure)
            sent[place] += 1
            hits += right[place][i]
    return hits / len(questions), [n / len(questions) for n in sent]
