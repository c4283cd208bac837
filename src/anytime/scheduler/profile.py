"""The latency profile: what was measured of one bundle on one machine, and the model of time fitted to it."""

from __future__ import annotations

import hashlib
import math
from pathlib import Path

import msgspec

from anytime.bundle import state_dir, write_whole
from anytime.errors import ProfileError
from anytime.ext.latency import Latency
from anytime.scheduler.tail import Tail
from anytime.targets import Clocks

SCHEMA_VERSION = 2
_LEAST_CHUNK, _MOST_CHUNK = 16, 512
_CHUNK_SHARE = 10  # one part in so many of a chunk's time may be the constant cost of a run
DELTA = 0.01  # how often a planned segment may overrun; the caller is on time regardless


class ProfileKey(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Everything a latency depends on. A profile is used only under the key it was measured with."""

    bundle: str
    engine: str
    version: str
    provider: str
    threads: int
    precision: str
    max_rows: int
    max_context: int
    processor: str
    gpu: str
    power_mode: str

    def id(self) -> str:
        return hashlib.sha256(msgspec.json.encode(self)).hexdigest()[:16]


class Fit(msgspec.Struct, frozen=True):
    """Coefficients (ns, tokens) and margins; see ``anytime.ext.latency``, ``anytime.scheduler.fit`` and ``.tail``.

    ``segments`` are upper bounds of measured over predicted time for runs of consecutive decode steps, by length.
    ``widths`` are p and q of a step of so many rows at once; ``fork`` is what a copy costs for each token of context,
    and the constant cost of one.
    """

    alpha: float
    beta: float
    gamma: float
    p: float
    q: float
    run_margin: float
    run_tail: str
    step_margin: float
    step_tail: str
    segments: tuple[tuple[int, float], ...]
    widths: tuple[tuple[int, float, float], ...]
    fork: tuple[float, float]


class Cell(msgspec.Struct, frozen=True):
    """Times of ``tokens`` run behind ``context`` others, in the order measured, ns.

    Single tokens are a decode pass: each step stands a token behind the one before.
    """

    tokens: int
    context: int
    times_ns: tuple[int, ...]

    def predicted_ns(self, latency: Latency) -> list[int]:
        """What each of the times is predicted to be."""
        ahead = 1 if self.tokens == 1 else 0
        return [latency.run_ns(self.tokens, self.context + i * ahead) for i in range(len(self.times_ns))]

    def ratios(self, latency: Latency) -> list[float]:
        """Measured over predicted times."""
        return [time / predicted for time, predicted in zip(self.times_ns, self.predicted_ns(latency), strict=True)]


class Branch(msgspec.Struct, frozen=True):
    """Times of forking a sequence of ``context`` tokens, and of a step of ``rows`` such sequences at once, ns."""

    rows: int
    context: int
    forks_ns: tuple[int, ...]
    steps_ns: tuple[int, ...]


class Regime(msgspec.Struct, frozen=True):
    """Decode steps under one kind of circumstances: their times, and how they compare with the warm prediction.

    Of ``warm`` no ``cells`` are kept, because they are the profile's ``steps``; ``first`` has its prompt's run too.
    ``clocks`` is read right behind the last step.
    """

    name: str
    clocks: Clocks
    cells: tuple[Cell, ...]
    tail: Tail


class LatencyProfile(msgspec.Struct, frozen=True, kw_only=True):
    """A measured profile. ``delivery_ns`` is kept back for waking the caller and handing the answer over.

    Coefficients and margins are those of a warm engine. ``regimes`` say how far other circumstances are from it; a
    profile of an older version has none.
    """

    schema_version: int = SCHEMA_VERSION
    key: ProfileKey
    created: str
    quick: bool
    environment: dict[str, str]
    warnings: tuple[str, ...]
    delivery_ns: int
    fit: Fit
    runs: tuple[Cell, ...]
    steps: tuple[Cell, ...]
    branches: tuple[Branch, ...]
    regimes: tuple[Regime, ...] = ()

    def regime(self, name: str) -> Regime | None:
        """The regime of this name, where it was measured."""
        return next((regime for regime in self.regimes if regime.name == name), None)

    def planned(self) -> LatencyProfile:
        """What plans are made with: all but the single times that it was fitted to, which are much longer."""
        regimes = tuple(msgspec.structs.replace(regime, cells=()) for regime in self.regimes)
        return msgspec.structs.replace(self, runs=(), steps=(), branches=(), regimes=regimes)

    def latency(self, width: int = 1) -> Latency:
        """Costs of one sequence, or of ``width`` side by side, where a run of n tokens is n steps of all of them."""
        f = self.fit
        if width == 1:
            return Latency(f.alpha, f.beta, f.gamma, f.p, f.q, f.run_margin, f.step_margin)
        p, q = self._width(width)
        return Latency(p, q, 0.0, p, q, f.step_margin, f.step_margin)

    def rows_ns(self, rows: int, context: int) -> int:
        """Predicted time of one step of several rows at once; of the next larger number measured."""
        p, q = self._width(rows)
        return math.ceil(p * context + q)

    def _width(self, rows: int) -> tuple[float, float]:
        for width, p, q in self.fit.widths:
            if rows <= width:
                return p, q
        raise ValueError(f"{rows} rows in one step were not measured, at most {self.fit.widths[-1][0]}")

    def fork_ns(self, context: int) -> int:
        """Predicted time of one more sequence that begins as one of ``context`` tokens stands."""
        a_token, constant = self.fit.fork
        return math.ceil(a_token * context + constant)

    @property
    def chunk(self) -> int:
        """Tokens of a prefill chunk: the fewest for which the constant cost of a run is a small share."""
        chunk = _LEAST_CHUNK
        while chunk < _MOST_CHUNK and self.fit.gamma * (_CHUNK_SHARE - 1) > self.fit.beta * chunk:
            chunk *= 2
        return chunk

    def chunks(self, tokens: int, last: int) -> list[int]:
        """Sizes of the runs of a prefill, none over ``chunk`` but for the last one, which has at least ``last``."""
        sizes = []
        while tokens > max(self.chunk, last):
            sizes.append(min(self.chunk, tokens - last))
            tokens -= sizes[-1]
        return [*sizes, tokens]

    @property
    def longest_run_ns(self) -> int:
        """Upper bound of any one run of the engine: a chunk behind all the context there can be."""
        tokens = min(self.chunk, self.key.max_context)
        return self.latency().upper_ns(tokens, self.key.max_context - tokens)

    def segment_margin(self, steps: int) -> float:
        """Upper bound of measured over predicted time for a thought of ``steps`` steps."""
        lengths = [1, *(length for length, _ in self.fit.segments)]
        margins = [self.fit.step_margin, *(margin for _, margin in self.fit.segments)]
        reached = sum(length <= max(1, steps) for length in lengths)
        return max(margins[reached - 1 :])  # never less than for a longer thought, in which stalls average out


def profile_path(key: ProfileKey) -> Path:
    return state_dir() / key.bundle[:16] / f"{key.id()}.json"


def store(profile: LatencyProfile) -> Path:
    """Write a profile where ``find`` will look, whole or not at all.

    Raises:
        ProfileError: the state directory cannot be written to.
    """
    path = profile_path(profile.key)
    try:
        write_whole(path, msgspec.json.encode(profile))
    except OSError as error:
        raise ProfileError(
            f"the profile cannot be stored under {path.parent} ({error.strerror}): "
            "set XDG_STATE_HOME to a directory you may write to"
        ) from error
    return path


def find(key: ProfileKey) -> LatencyProfile | None:
    """The stored profile of this key, if there is one.

    Raises:
        ProfileError: there is one, but it cannot be used.
    """
    path = profile_path(key)
    return read(path, key) if path.exists() else None


class _Version(msgspec.Struct):
    schema_version: int


def read(path: Path, key: ProfileKey, estimate: bool = False) -> LatencyProfile:
    """Read a profile and hold its key to the one at hand; ``estimate`` accepts another key.

    Raises:
        ProfileError: unreadable, made by a newer version, or measured under another key.
    """
    try:
        raw = path.read_bytes()
        version = msgspec.json.decode(raw, type=_Version).schema_version
        if version > SCHEMA_VERSION:
            raise ProfileError(
                f"the profile {path} was made by a newer anytime (schema {version}): run 'anytime profile'"
            )
        profile = msgspec.json.decode(raw, type=LatencyProfile)
        profile.latency()
    except OSError as error:
        raise ProfileError(f"the profile {path} cannot be read ({error.strerror}): run 'anytime profile'") from error
    except (ValueError, RecursionError) as error:  # not JSON, not a profile, not UTF-8, impossible coefficients
        raise ProfileError(f"the profile {path} is damaged ({error}): run 'anytime profile' again") from error
    if profile.key != key and not estimate:
        raise ProfileError(
            f"the profile {path} was measured under another key ({difference(profile.key, key)}): "
            "run 'anytime profile' here, or go on regardless with --estimate"
        )
    return profile


def difference(measured: ProfileKey, here: ProfileKey) -> str:
    """What two keys differ in, for people."""
    rows = ((name, getattr(measured, name), getattr(here, name)) for name in measured.__struct_fields__)
    return "; ".join(f"{name}: measured {a!r}, here {b!r}" for name, a, b in rows if a != b)
