"""The service is started by install.sh, asked how it is, and stopped by uninstall.sh."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.installing.device import Deploy, answer, installed, run, systemd, versions


def test_the_service_is_started_and_asked_how_it_is(made: Deploy, root: Path, tmp_path: Path) -> None:
    """Unit read, enabled, restarted; installing the same again leaves a running service alone."""
    environment = systemd(root, tmp_path, "echo answering, bundle 0123")
    installed(made("one"), root, **environment)
    calls = (tmp_path / "calls").read_text().splitlines()
    assert calls[:3] == ["daemon-reload", "enable --quiet anytime", "restart anytime"]
    (tmp_path / "calls").unlink()
    installed(made("one"), root, **environment)
    assert (tmp_path / "calls").read_text().splitlines() == ["is-active --quiet anytime"]


@pytest.mark.parametrize("before", [None, "one"])
def test_a_service_that_only_has_fallbacks_is_rolled_back(
    made: Deploy, root: Path, tmp_path: Path, before: str | None
) -> None:
    """The version before is the current one again, with its unit, and is restarted; a first one is taken back."""
    if before is not None:
        installed(made(before), root, **systemd(root, tmp_path, "echo answering"))
    done = run(made("two") / "install.sh", root, **systemd(root, tmp_path, "echo only fallbacks: too slow"))
    assert done.returncode == 1
    assert "did not start (journalctl -u anytime)" in done.stderr
    assert answer(root) == before
    calls = (tmp_path / "calls").read_text().splitlines()
    assert calls[-1] == ("restart anytime" if before else "disable --quiet --now anytime")
    assert (root / "etc/systemd/system/anytime.service").exists() == (before is not None)


def test_uninstalling_stops_the_service(made: Deploy, root: Path, tmp_path: Path) -> None:
    """And disables it, before its files go."""
    environment = systemd(root, tmp_path, "echo answering")
    installed(made("one"), root, **environment)
    done = run(made("one") / "uninstall.sh", root, **environment)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "calls").read_text().splitlines()[-2:] == ["disable --quiet --now anytime", "daemon-reload"]
    assert versions(root) == []


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
def test_systemd_finds_nothing_wrong_with_the_unit(made: Deploy, tmp_path: Path) -> None:
    """Every setting is known to it and has a value that there is."""
    text = (made("one") / "anytime.service").read_text().replace("/opt/anytime/current/venv/bin/anytime", "/bin/true")
    (tmp_path / "anytime.service").write_text(text)
    command = ["systemd-analyze", "verify", "--man=no", tmp_path / "anytime.service"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert "anytime.service" not in done.stderr, done.stderr
