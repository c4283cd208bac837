"""The latency profile: what was measured of one bundle on one machine, and the model of time fitted to it."""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path

import msgspec

from anytime.errors import ProfileError
from anytime.ext.latency import Latency

SCHEMA_VERSION = 1
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
    """Coefficients (ns, tokens) and margins; see ``anytime.ext.latency`` and ``anytime.scheduler.fit``.

    ``segments`` are upper bounds of measured over predicted time for runs of consecutive decode steps, by length.
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


class Cell(msgspec.Struct, frozen=True):
    """Times of ``tokens`` run behind ``context`` others, in the order measured, ns."""

    tokens: int
    context: int
    times_ns: tuple[int, ...]


class LatencyProfile(msgspec.Struct, frozen=True, kw_only=True):
    """A measured profile. ``delivery_ns`` is kept back for waking the caller and handing the answer over."""

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

    def latency(self) -> Latency:
        f = self.fit
        return Latency(f.alpha, f.beta, f.gamma, f.p, f.q, f.run_margin, f.step_margin)

    def segment_margin(self, steps: int) -> float:
        """Upper bound of measured over predicted time for a thought of ``steps`` steps."""
        fitting = [margin for length, margin in self.fit.segments if length <= max(1, steps)]
        return fitting[-1] if fitting else self.fit.step_margin


def state_dir() -> Path:
    """``$XDG_STATE_HOME/anytime``, by default ``~/.local/state/anytime``."""
    home = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    return Path(home) / "anytime"


def profile_path(key: ProfileKey) -> Path:
    return state_dir() / key.bundle[:16] / f"{key.id()}.json"


def store(profile: LatencyProfile) -> Path:
    """Write a profile where ``find`` will look, whole or not at all.

    Raises:
        ProfileError: the state directory cannot be written to.
    """
    path = profile_path(profile.key)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".part", delete=False) as part:
            try:
                part.write(msgspec.json.encode(profile))
                part.flush()
                os.replace(part.name, path)
            except BaseException:
                os.unlink(part.name)
                raise
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
            f"the profile {path} was measured under another key ({_difference(profile.key, key)}): "
            "run 'anytime profile' here, or go on regardless with --estimate"
        )
    return profile


def _difference(measured: ProfileKey, here: ProfileKey) -> str:
    rows = ((name, getattr(measured, name), getattr(here, name)) for name in measured.__struct_fields__)
    return "; ".join(f"{name}: measured {a!r}, here {b!r}" for name, a, b in rows if a != b)
