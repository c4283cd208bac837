"""Deployed directories, and where they are installed."""

from __future__ import annotations

from pathlib import Path

import pytest

from anytime.deploy import Plan, deploy
from tests.deploying import PYTHON, pretended_wheels, write_pip
from tests.installing.device import TARGET, Deploy


@pytest.fixture(scope="session")
def pip_wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pip(tmp_path_factory.mktemp("pip"))


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Deploy:
    """Deployed directories of a pretended anytime, one a label; tests that change one copy it first."""
    home = tmp_path_factory.mktemp("deployed")

    def labelled(label: str) -> Path:
        out = home / label
        if not out.exists():
            wheels = pretended_wheels(home / f"wheels-{label}", label)
            deploy(Plan(bundle=None, target=TARGET, wheels=wheels, python=PYTHON), out)
        return out

    return labelled


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Where the device's files are."""
    path = tmp_path / "root"
    path.mkdir()
    return path
