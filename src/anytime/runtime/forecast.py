"""What a calibrated bundle knows of its own answers: how likely right, what more thought would do, how long it takes.

Fitted by ``anytime calibrate`` on the user's questions. Logistic models over a few quantities of an answer and their
products; plain arithmetic of some ten microseconds, asked once a probe.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Sequence
from pathlib import Path

import msgspec

from anytime.errors import BundleError
from anytime.runtime.bank import Candidate

CALIBRATION = "calibration.json"
VERSION = 2
UNKNOWN = 0.5  # stands in for the likelihood of a first answer that is not there, or was refused
_LEAST, _MOST = 1e-6, 1.0 - 1e-6
_FRESH_KNOTS = (0.5, 0.8, 1.0, 1.15)  # of the expected length, where the curve may bend
_MOST_SHARE = 1.5  # beyond, a thought is as good as done
_CERTAIN = 2.5  # deviations from the mean length, beyond which hardly any thought ends
_AHEAD_KNOTS = (0.5, 0.8, 1.0, 1.2)  # of the thought still expected, where the curve of later answers may bend


class Reading(msgspec.Struct, frozen=True):
    """What is known when an answer is found. ``likelihood`` is the model's own, ``agreed`` as in ``Candidate``."""

    likelihood: float
    thought_tokens: int
    complete: bool
    agreed: int
    prompt_tokens: int
    kind: str
    effort: str = ""


def reading_of(candidate: Candidate, prompt_tokens: int, kind: str) -> Reading:
    """What is known of a candidate behind a prompt of so many tokens, in a format of this kind."""
    return Reading(
        candidate.likelihood,
        candidate.thought_tokens,
        candidate.complete,
        candidate.agreed,
        prompt_tokens,
        kind,
        candidate.effort,
    )


class Bin(msgspec.Struct, frozen=True):
    """Answers of like probability: what was predicted of them, and what came true."""

    predicted: float
    right: float
    count: int


class Curve(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of the thoughts of one effort.

    ``now`` weighs the terms of ``now_terms``, ``later`` those of ``later_terms``, ``fresh`` those of ``fresh_terms``;
    ``length`` has, for each kind of answer, coefficients over 1, n, n² of a prompt of n tokens / 100 for the mean
    length of a whole thought, and the standard deviation around it.
    """

    now: tuple[float, ...]
    later: tuple[float, ...]
    fresh: tuple[float, ...]
    length: dict[str, tuple[float, float, float, float]]
    longest: int  # thought tokens of the longest one seen


class Calibration(msgspec.Struct, frozen=True, kw_only=True):
    """The contents of ``calibration.json``: a curve for each effort, "" where the bundle knows none.

    ``control`` has the weights of the meta-reasoner's actions. ``reliability`` was cross-validated, on questions that a
    fit had not seen.
    """

    version: int = VERSION
    questions: str
    count: int
    efforts: dict[str, Curve]
    control: dict[str, tuple[float, ...]] = {}
    reliability: tuple[Bin, ...]
    expected_error: float


def read_calibration(file: Path) -> Calibration:
    """A bundle's calibration.

    Raises:
        BundleError: it is damaged, or another version's.
    """
    try:
        calibration = msgspec.json.decode(file.read_bytes(), type=Calibration)
    except (OSError, msgspec.DecodeError) as error:
        raise BundleError(f"{file} cannot be read ({error}): calibrate the bundle again") from error
    if calibration.version != VERSION:
        raise BundleError(
            f"{file} has version {calibration.version}, this anytime reads {VERSION}: calibrate the bundle again"
        )
    return calibration


class Forecast:
    """Probabilities from a calibration."""

    def __init__(self, calibration: Calibration) -> None:
        self.calibration = calibration

    def probability(self, reading: Reading) -> float:
        """That the answer is right."""
        expected = self.length(reading.prompt_tokens, reading.kind, reading.effort)
        return _logistic(self.calibration.efforts[reading.effort].now, now_terms(reading, expected))

    def rated(self, candidate: Candidate, prompt_tokens: int, kind: str) -> Candidate:
        """The candidate with the probability that it is right for its confidence."""
        confidence = self.probability(reading_of(candidate, prompt_tokens, kind))
        return msgspec.structs.replace(candidate, confidence=confidence)

    def later(self, reading: Reading, ahead: int) -> float:
        """That the answer will be right ``ahead`` thought tokens from here."""
        return self.outlook(reading, [ahead])[0]

    def outlook(self, reading: Reading, lengths: Sequence[int]) -> list[float]:
        """``later`` for several lengths: ``later_terms`` times the weights, what they have in common added up once."""
        expected = self.length(reading.prompt_tokens, reading.kind, reading.effort)
        known, weights = _known(reading, expected), self.calibration.efforts[reading.effort].later
        products = _products(known)
        common = math.fsum(w * t for w, t in zip(weights, products, strict=False))
        first, bends = len(products), len(_AHEAD_KNOTS) + 2
        slopes = [
            weights[first + b] + sum(k * weights[first + bends + i * bends + b] for i, k in enumerate(known))
            for b in range(bends)
        ]
        return [
            _sigmoid(common + sum(s * b for s, b in zip(slopes, _bends(reading, ahead, expected), strict=True)))
            for ahead in lengths
        ]

    def fresh(self, instant: float, prompt_tokens: int, kind: str, effort: str, tokens: int) -> float:
        """That a thought of this effort, closed after ``tokens`` where it is not done, ends right.

        ``instant`` is the likelihood of the answer without any thought.
        """
        expected = self.length(prompt_tokens, kind, effort)
        return _logistic(self.calibration.efforts[effort].fresh, fresh_terms(instant, kind, tokens, expected))

    def promises(
        self, instant: float, prompt_tokens: int, kind: str, effort: str, done: int, ahead: Sequence[int]
    ) -> list[float]:
        """That a thought which is not over after ``done`` tokens ends right, closed so many later where it must be.

        As ``fresh``, but knowing how long it has lasted: what a whole thought promises and what one that is cut short
        does, weighed by the probability that it is over by then, its length taken for normally distributed.
        """
        mean, spread = self.length(prompt_tokens, kind, effort), max(1.0, self.spread(kind, effort))
        early = max(0, math.floor(mean - _CERTAIN * spread))  # hardly any is over by then
        at = min(_CERTAIN, (done - mean) / spread)
        not_over = _above(at)

        @functools.cache
        def fresh(tokens: int) -> float:
            return self.fresh(instant, prompt_tokens, kind, effort, tokens)

        whole = fresh(math.ceil(_MOST_SHARE * mean))
        found = []
        for tokens in ahead:
            cut, over = fresh(min(done + tokens, early)), 1.0 - _above(at + tokens / spread) / not_over
            found.append(over * whole + (1.0 - over) * cut)
        return found

    def rest(self, prompt_tokens: int, kind: str, effort: str, done: int) -> float:
        """Tokens that a thought which is not over after ``done`` is expected to have yet.

        The mean of a normal distribution truncated there (Johnson, Kotz and Balakrishnan, Continuous Univariate
        Distributions 1, 13.10.1), less what is done.
        """
        mean, spread = self.length(prompt_tokens, kind, effort), max(1.0, self.spread(kind, effort))
        at = min(_CERTAIN, (done - mean) / spread)
        return spread * (math.exp(-at * at / 2.0) / math.sqrt(2.0 * math.pi) / _above(at) - at)

    def length(self, prompt_tokens: int, kind: str, effort: str) -> float:
        """Tokens that a whole thought is expected to have."""
        curve = self.calibration.efforts[effort]
        return expected_length(curve.length, prompt_tokens, kind, curve.longest)

    def spread(self, kind: str, effort: str) -> float:
        """Standard deviation of a whole thought's length around ``length``, in tokens."""
        curve = self.calibration.efforts[effort]
        return curve.length[kind][3] if kind in curve.length else float(curve.longest)


def expected_length(
    coefficients: dict[str, tuple[float, float, float, float]], prompt_tokens: int, kind: str, longest: int
) -> float:
    """See ``Calibration.length``; within 1 and the longest thought seen, which stands in for an unknown kind."""
    if kind not in coefficients:
        return float(longest)
    n = prompt_tokens / 100
    a, b, c, _ = coefficients[kind]
    return min(float(longest), max(1.0, a + b * n + c * n * n))


def now_terms(reading: Reading, expected: float) -> list[float]:
    """1, what is known of the answer, and the products of each two."""
    return _products(_known(reading, expected))


def later_terms(reading: Reading, ahead: int, expected: float) -> list[float]:
    """The same for a time to come: bends along the share of the thought that is left, and products with the rest."""
    known, bends = _known(reading, expected), _bends(reading, ahead, expected)
    return [*_products(known), *bends, *(k * b for k in known for b in bends)]


def fresh_terms(instant: float, kind: str, tokens: int, expected: float) -> list[float]:
    """What is known before a thought begins, and the share of its expected length that there is time for.

    The share's bends are multiplied with the kind of answer and the length only: with the first answer's likelihood
    too, forecasts of questions that the fit had not seen were no better.
    """
    share = min(_MOST_SHARE, tokens / expected)
    bends = [share, *(max(0.0, share - knot) for knot in _FRESH_KNOTS)]
    p = min(_MOST, max(_LEAST, instant))
    choices, length = float(kind == "choices"), math.log(expected) / 6.0
    known = [1.0, math.log(p / (1.0 - p)) / 6.0, length, choices]
    return [*known, *(k * b for k in (1.0, choices, length) for b in bends)]


def _bends(reading: Reading, ahead: int, expected: float) -> list[float]:
    share = min(1.5, ahead / max(1.0, expected - reading.thought_tokens))
    return [share, *(max(0.0, share - knot) for knot in _AHEAD_KNOTS), math.log1p(ahead) / 6.0]


def _known(reading: Reading, expected: float) -> list[float]:
    p = min(_MOST, max(_LEAST, reading.likelihood))
    return [
        math.log(p / (1.0 - p)) / 6.0,
        float(reading.complete),
        min(1.5, reading.thought_tokens / max(1.0, expected)),
        float(reading.thought_tokens > 0),
        math.log1p(reading.agreed) / 2.0,
        reading.prompt_tokens / 100.0,
        float(reading.kind == "choices"),
        -math.log(1.0 - p) / 10.0,
    ]


def _products(known: Sequence[float]) -> list[float]:
    return [1.0, *known, *(a * b for a, b in itertools.combinations_with_replacement(known, 2))]


def _logistic(weights: Sequence[float], terms: Sequence[float]) -> float:
    return _sigmoid(math.fsum(w * t for w, t in zip(weights, terms, strict=True)))


def _sigmoid(z: float) -> float:
    return 1.0 / (1.0 + math.exp(-max(-30.0, min(30.0, z))))


def _above(z: float) -> float:
    """The probability that a standard normal variable is larger."""
    return math.erfc(z / math.sqrt(2.0)) / 2.0
