"""Fitting a calibration to recordings: what an answer found on the way is worth, and what more thought would bring."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from anytime.calibrate.record import Recording
from anytime.calibrate.replay import Replayer
from anytime.errors import CalibrationError
from anytime.runtime.bank import Candidate
from anytime.runtime.forecast import (
    Bin,
    Calibration,
    Curve,
    Reading,
    expected_length,
    fresh_terms,
    later_terms,
    now_terms,
    reading_of,
)
from anytime.runtime.policies.policy import THINK, Following, Plan, Verdict, View

BINS = 10
LEAST_QUESTIONS = 50
_FOLDS = 5  # for measuring the error of a fit on questions that it has not seen
_DRAWN = 3  # passes of a question that are fitted beside the greedy one
_CUTS, _LONGEST_CUT = 12, 1.6  # of each thought, up to so many times the expected length
_PAIRS = 3  # of each answer with later ones of its line
_ENDLESS_NS = 3_600 * 10**9

Lengths = dict[str, tuple[float, float, float, float]]
Array = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Sample:
    """An answer found on the way, what was known of it, and whether it was right."""

    question: int
    reading: Reading
    right: bool


def fit(recordings: Sequence[Recording], replayer: Replayer, name: str) -> Calibration:
    """A calibration, with its error on questions that a fit has not seen.

    Raises:
        CalibrationError: there are too few questions, or the answers are all right or all wrong.
    """
    if len(recordings) < LEAST_QUESTIONS:
        raise CalibrationError(
            f"{len(recordings)} questions with answers are too few to calibrate: give {LEAST_QUESTIONS} or more"
        )
    curves: dict[str, Curve] = {}
    predicted: list[float] = []
    right: list[bool] = []
    for effort in recordings[0].efforts:
        lines = samples_of(recordings, replayer, _DRAWN, effort)
        lengths = fit_lengths(recordings, effort)
        longest = max(one.thought_tokens for recording in recordings for one in recording.efforts[effort].passes)
        terms = [[now_terms(s.reading, _expected(s.reading, lengths, longest)) for s in line] for line in lines]
        now = logistic([row for rows in terms for row in rows], [s.right for line in lines for s in line])
        later = _later(lines, lengths, longest)
        fresh = _fresh(recordings, effort, lengths, longest)
        curves[effort] = Curve(now=now, later=later, fresh=fresh, length=lengths, longest=longest)
        for said, true in _cross_validated(lines, terms):
            predicted.append(said)
            right.append(true)
    bins = reliability(predicted, right)
    return Calibration(
        questions=name,
        count=len(recordings),
        efforts=curves,
        reliability=bins,
        expected_error=calibration_error(bins),
    )


def _cross_validated(
    lines: Sequence[Sequence[Sample]], terms: Sequence[Sequence[Sequence[float]]]
) -> Iterator[tuple[float, bool]]:
    """What is said of each answer by a fit to other questions than its own, and whether it is right."""
    for fold in range(_FOLDS):
        mine = [line[0].question % _FOLDS == fold for line in lines]
        others = [i for i, held in enumerate(mine) if not held]
        weights = np.array(
            logistic([row for i in others for row in terms[i]], [s.right for i in others for s in lines[i]])
        )
        for i, held in enumerate(mine):
            if held:
                for row, sample in zip(terms[i], lines[i], strict=True):
                    yield float(1.0 / (1.0 + np.exp(-(np.array(row) @ weights)))), sample.right


def _expected(reading: Reading, lengths: Lengths, longest: int) -> float:
    return expected_length(lengths, reading.prompt_tokens, reading.kind, longest)


def samples_of(recordings: Sequence[Recording], replayer: Replayer, drawn: int, effort: str) -> list[list[Sample]]:
    """Each line of thought as the loop would have probed it: the greedy one of a question, and so many drawn ones.

    The first answer is the instant one, which the loop always has by the bundle's own effort.
    """
    lines = []
    for i, recording in enumerate(recordings):
        thoughts = recording.efforts[effort]
        for one in thoughts.passes[: 1 + drawn]:
            alone = {**recording.efforts, effort: msgspec.structs.replace(thoughts, passes=(one,))}
            keeping = _Keeping(effort)
            replayer.replay(msgspec.structs.replace(recording, efforts=alone), keeping, _ENDLESS_NS)
            lines.append([_sample(i, recording, candidate, effort) for candidate in keeping.kept])
    return [line for line in lines if line]


class _Keeping(Following):
    """Thinks to the end and keeps every answer."""

    def __init__(self, effort: str) -> None:
        self._effort = effort
        self.kept: list[Candidate] = []

    def begin(self, view: View) -> Plan:
        return Plan(effort=self._effort)

    def judge(self, view: View) -> Verdict:
        return THINK

    def choose(self, found: Sequence[Candidate]) -> Candidate:
        self.kept = list(found)
        return found[-1]


def _sample(question: int, recording: Recording, candidate: Candidate, effort: str) -> Sample:
    reading = reading_of(candidate, recording.plain.prompt_tokens, recording.kind)
    return Sample(question, msgspec.structs.replace(reading, effort=effort), candidate.text in recording.right)


def fit_lengths(recordings: Sequence[Recording], effort: str) -> Lengths:
    """See ``Curve.length``: least squares over all passes of a kind."""
    lengths: Lengths = {}
    for kind in sorted({recording.kind for recording in recordings}):
        mine = [recording for recording in recordings if recording.kind == kind]
        passes = [(recording, one) for recording in mine for one in recording.efforts[effort].passes]
        n = np.array([recording.plain.prompt_tokens / 100 for recording, _ in passes])
        tokens = np.array([one.thought_tokens for _, one in passes], dtype=np.float64)
        terms = np.stack([np.ones_like(n), n, n * n], axis=1)
        found, *_ = np.linalg.lstsq(terms, tokens, rcond=None)
        spread = float(np.std(tokens - terms @ found))
        a, b, c = (float(value) for value in found)
        lengths[kind] = (a, b, c, spread)
    return lengths


def _later(lines: Sequence[Sequence[Sample]], lengths: Lengths, longest: int) -> tuple[float, ...]:
    """The weights of ``Calibration.later``, from pairs of answers on one line."""
    rng = random.Random(0)
    pairs = [
        (line[i].reading, line[j])
        for line in lines
        for i in range(len(line))
        for j in rng.sample(range(i + 1, len(line)), min(_PAIRS, len(line) - 1 - i))
    ]
    terms = [
        later_terms(early, late.reading.thought_tokens - early.thought_tokens, _expected(early, lengths, longest))
        for early, late in pairs
    ]
    return logistic(terms, [late.right for _, late in pairs])


def _fresh(recordings: Sequence[Recording], effort: str, lengths: Lengths, longest: int) -> tuple[float, ...]:
    """The weights of ``Curve.fresh``, from thoughts cut off after numbers of tokens drawn at random."""
    rng = random.Random(0)
    terms, right = [], []
    for recording in recordings:
        instant = recording.plain.passes[0].probes[0].likelihood
        expected = expected_length(lengths, recording.plain.prompt_tokens, recording.kind, longest)
        for one in recording.efforts[effort].passes[: 1 + _DRAWN]:
            for _ in range(_CUTS):
                tokens = round(expected * rng.uniform(0.0, _LONGEST_CUT))
                terms.append(fresh_terms(instant, recording.kind, tokens, expected))
                right.append(one.answer(tokens).text in recording.right)
    return logistic(terms, right)


def logistic(terms: Sequence[Sequence[float]], right: Sequence[bool], shrink: float = 1.0) -> tuple[float, ...]:
    """Weights of a logistic regression; the first term is constant, the others are the smaller, the less ``shrink``."""
    if len(set(right)) < 2:
        raise CalibrationError("the answers of these questions are all right, or all wrong: add others")
    try:
        from sklearn.linear_model import LogisticRegression
    except ImportError as error:
        raise CalibrationError("calibrating needs scikit-learn: pip install 'anytime[calibrate]'") from error
    x: Array = np.array(terms, dtype=np.float64)
    scale = np.maximum(x.std(axis=0), 1e-9)
    scale[0] = 1.0
    mean = np.where(np.arange(x.shape[1]) == 0, 0.0, x.mean(axis=0))
    model: Any = LogisticRegression(C=shrink, fit_intercept=False, max_iter=2000)
    model.fit((x - mean) / scale, np.array(right))
    weights: Array = model.coef_[0] / scale
    weights[0] -= float(weights @ mean)
    return tuple(float(weight) for weight in weights)


def reliability(predicted: Sequence[float], right: Sequence[bool]) -> tuple[Bin, ...]:
    """Bins of equal numbers of answers, by predicted probability."""
    order = np.argsort(np.array(predicted), kind="stable")
    p, r = np.array(predicted)[order], np.array(right, dtype=np.float64)[order]
    parts = [part for part in np.array_split(np.arange(len(p)), BINS) if len(part)]
    return tuple(Bin(float(p[part].mean()), float(r[part].mean()), len(part)) for part in parts)


def calibration_error(bins: Sequence[Bin]) -> float:
    """Expected calibration error: the mean distance of predicted and true, weighted by numbers (Naeini et al. 2015)."""
    total = sum(one.count for one in bins)
    return sum(one.count * abs(one.predicted - one.right) for one in bins) / total if total else 0.0
