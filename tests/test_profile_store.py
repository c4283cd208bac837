"""Storing and finding latency profiles."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from anytime.bundle import state_dir
from anytime.errors import ProfileError
from anytime.ext.latency import Latency
from anytime.scheduler.profile import LatencyProfile, find, profile_path, read, store
from tests.conftest import make_profile


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path / "state"


@pytest.fixture
def profile(latency: Latency) -> LatencyProfile:
    return make_profile(latency)


def other_key(profile: LatencyProfile) -> LatencyProfile:
    return msgspec.structs.replace(profile, key=msgspec.structs.replace(profile.key, threads=7))


def rewrite(path: Path, **changes: object) -> None:
    path.write_bytes(msgspec.json.encode({**msgspec.json.decode(path.read_bytes()), **changes}))


def test_what_is_stored_is_found(home: Path, profile: LatencyProfile) -> None:
    """A profile comes back equal, from below XDG_STATE_HOME, with its latency model."""
    path = store(profile)
    assert path.is_relative_to(home / "anytime")
    assert find(profile.key) == profile
    assert profile.latency().q == profile.fit.q


def test_storing_again_replaces(home: Path, profile: LatencyProfile) -> None:
    """A new measurement under the same key takes the old one's place."""
    store(profile)
    newer = msgspec.structs.replace(profile, created="2026-02-02T00:00:00+00:00")
    store(newer)
    assert find(profile.key) == newer
    assert len(list(home.rglob("*.json"))) == 1


def test_without_xdg_state_home_profiles_lie_below_local_state(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The default is ``~/.local/state/anytime``."""
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert state_dir() == tmp_path / ".local" / "state" / "anytime"


def test_nothing_stored_is_nothing_found(home: Path, profile: LatencyProfile) -> None:
    """No profile is no error."""
    assert find(profile.key) is None


def test_a_profile_is_not_found_under_another_key(home: Path, profile: LatencyProfile) -> None:
    """Other threads, other profile."""
    store(profile)
    assert find(other_key(profile).key) is None


def test_another_key_is_refused_with_the_remedies(home: Path, profile: LatencyProfile) -> None:
    """The message names what differs, the command that measures here and the option that goes on regardless."""
    path = store(profile)
    with pytest.raises(ProfileError, match="threads: measured 1, here 7") as refused:
        read(path, other_key(profile).key)
    assert "anytime profile" in str(refused.value)
    assert "--estimate" in str(refused.value)


def test_another_key_is_accepted_as_an_estimate(home: Path, profile: LatencyProfile) -> None:
    """Who asks for an estimate gets the profile as it was measured."""
    assert read(store(profile), other_key(profile).key, estimate=True) == profile


@pytest.mark.parametrize(
    "damage", [b"", b"{", b"[]", b"\xff\xfe", b'{"schema_version": "\xff"}', b"[" * 100_000, b'{"schema_version": 1}']
)
def test_a_damaged_file_is_refused_with_the_remedy(home: Path, profile: LatencyProfile, damage: bytes) -> None:
    """Whatever lies where the profile should be, the answer is a ProfileError that says to measure again."""
    store(profile).write_bytes(damage)
    with pytest.raises(ProfileError, match=r"is damaged.*run 'anytime profile' again"):
        find(profile.key)


def test_a_truncated_file_is_refused(home: Path, profile: LatencyProfile) -> None:
    """Half a profile is no profile."""
    path = store(profile)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(ProfileError, match="is damaged"):
        find(profile.key)


@pytest.mark.parametrize("change", [{"q": -1.0}, {"step_margin": 0.5}, {"p": 0.0, "q": 0.0}])
def test_impossible_coefficients_are_damage(home: Path, profile: LatencyProfile, change: dict[str, float]) -> None:
    """A fit that no measurement gives is refused where it is read, not where it is used."""
    path = store(profile)
    rewrite(path, fit={**msgspec.to_builtins(profile.fit), **change})
    with pytest.raises(ProfileError, match="is damaged"):
        find(profile.key)


@pytest.mark.parametrize("change", [{}, {"fit": "in a form yet to come"}])
def test_a_newer_schema_is_refused_as_such(home: Path, profile: LatencyProfile, change: dict[str, str]) -> None:
    """A newer version's file is called newer, not damaged, even when its fields have changed."""
    path = store(profile)
    rewrite(path, schema_version=99, **change)
    with pytest.raises(ProfileError, match=r"made by a newer anytime \(schema 99\)"):
        find(profile.key)


def test_a_missing_file_given_by_name_is_refused(home: Path, profile: LatencyProfile) -> None:
    """``--profile FILE`` with no such file names the file."""
    with pytest.raises(ProfileError, match=r"nowhere\.json cannot be read"):
        read(home / "nowhere.json", profile.key)


def test_a_directory_that_cannot_be_written_names_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, profile: LatencyProfile
) -> None:
    """Where nothing can be stored the error says which variable to set, and finding finds nothing."""
    (tmp_path / "file").write_text("not a directory", encoding="utf-8")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file" / "state"))
    with pytest.raises(ProfileError, match="set XDG_STATE_HOME"):
        store(profile)
    assert find(profile.key) is None


def test_a_failed_write_leaves_the_old_profile_and_nothing_else(
    home: Path, profile: LatencyProfile, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A profile is stored whole or not at all: the old one stays, and no part of the new one."""
    path = store(profile)

    def interrupted(source: str, target: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        store(msgspec.structs.replace(profile, quick=True))
    assert [file for file in home.rglob("*") if file.is_file()] == [path]
    assert find(profile.key) == profile


def test_the_path_names_the_bundle(home: Path, profile: LatencyProfile) -> None:
    """Profiles of one bundle lie together, one file a key."""
    mine, other = profile_path(profile.key), profile_path(other_key(profile).key)
    assert mine.parent == other.parent == home / "anytime" / profile.key.bundle[:16]
    assert mine != other


@given(st.floats(0, 1e8), st.floats(1, 1e7), st.integers(1, 3000), st.integers(1, 9))
def test_chunks_are_all_of_the_prompt(gamma: float, beta: float, tokens: int, last: int) -> None:
    """Chunks add up, none but the last is longer than the chunk, and the last has what is wanted of it."""
    profile = make_profile(Latency(1.0, beta, gamma, 1.0, 1.0))
    assume(tokens >= last)
    sizes = profile.chunks(tokens, last)
    assert sum(sizes) == tokens
    assert all(0 < size <= profile.chunk for size in sizes[:-1])
    assert last <= sizes[-1] <= max(profile.chunk, last)
    assert profile.chunk in (16, 32, 64, 128, 256, 512)


def test_a_chunk_is_long_enough_to_pay_for_its_run() -> None:
    """The constant cost of a run is at most a tenth of a chunk, where 512 tokens are enough for that."""
    for gamma, chunk in ((0.0, 16), (20_000.0 * 16 / 9, 16), (20_000.0 * 17 / 9, 32), (1e12, 512)):
        assert make_profile(Latency(0.0, 20_000.0, gamma, 0.0, 1.0)).chunk == chunk


def test_more_rows_than_measured_are_refused() -> None:
    """A width between two measured ones costs what the next larger one does; beyond, nothing is made up."""
    profile = make_profile(Latency(0.0, 20_000.0, 1.0, 0.0, 1000.0))
    assert (profile.rows_ns(1, 50), profile.rows_ns(2, 50), profile.rows_ns(3, 50)) == (1000, 1500, 2500)
    assert profile.latency(3).run_ns(2, 50) == 5000  # two tokens of three lines are two steps of all of them
    with pytest.raises(ValueError, match="9 rows in one step were not measured, at most 8"):
        profile.rows_ns(9, 50)
