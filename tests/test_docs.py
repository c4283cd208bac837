"""The documentation, held to the code."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
COMMANDS = (
    "run",
    "profile",
    "admit",
    "calibrate",
    "route",
    "export",
    "targets",
    "deploy",
    "node",
    "serve",
    "replay",
    "report",
)
LINK = re.compile(r"\]\((?!https?://|#)([^)#]+)")


def help_text(command: str) -> str:
    """``anytime COMMAND --help`` as an 80-column terminal shows it."""
    code = "from anytime.cli.main import main; main()"
    env = {**os.environ, "COLUMNS": "80", "TERMINAL_WIDTH": "80", "NO_COLOR": "1"}
    run = subprocess.run(
        [sys.executable, "-c", code, command, "--help"], capture_output=True, text=True, env=env, check=True
    )
    return "\n".join(line.rstrip() for line in run.stdout.strip().splitlines()).replace("Usage: -c ", "Usage: anytime ")


@pytest.mark.parametrize("command", COMMANDS)
def test_cli_reference_is_the_help_text(command: str) -> None:
    """docs/cli.md holds every command's ``--help``, word for word."""
    documented = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
    assert help_text(command) in documented, f"docs/cli.md is out of date; paste:\n{help_text(command)}"


def test_readme_python_examples_run(tmp_path: Path) -> None:
    """Every Python block of the README runs as it stands."""
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    assert blocks
    env = {**os.environ, "XDG_STATE_HOME": str(tmp_path)}
    for block in blocks:
        run = subprocess.run([sys.executable, "-c", block], capture_output=True, text=True, env=env, check=False)
        assert run.returncode == 0, run.stderr


def test_the_node_s_python_example_runs(tmp_path: Path) -> None:
    """It prints a decision."""
    (block,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "node.md").read_text(encoding="utf-8"), re.DOTALL)
    env = {**os.environ, "XDG_STATE_HOME": str(tmp_path)}
    run = subprocess.run([sys.executable, "-c", block], capture_output=True, text=True, env=env, check=False)
    assert run.returncode == 0, run.stderr
    assert "Decision(" in run.stdout


@pytest.mark.parametrize("page", ["README.md", *(str(p.relative_to(ROOT)) for p in (ROOT / "docs").rglob("*.md"))])
def test_links_lead_somewhere(page: str) -> None:
    """Every relative link of the documentation names a file that exists."""
    text = (ROOT / page).read_text(encoding="utf-8")
    missing = [target for target in LINK.findall(text) if not ((ROOT / page).parent / target).exists()]
    assert not missing, missing


def test_every_failure_is_put_in_by_a_test_that_is_there() -> None:
    """Each row of the safety page's table names a test function of the file that it links to."""
    page = (ROOT / "docs" / "safety.md").read_text(encoding="utf-8")
    table = page[page.index("| failure |") : page.index("## The decision log")]
    rows = table.strip().splitlines()[2:]
    assert len(rows) >= 15
    for row in rows:
        found = re.findall(r"\]\(\.\./([^)#]+)#(\w+)\)", row)
        assert found, row
        for file, function in found:
            assert re.search(rf"def {function}\(", (ROOT / file).read_text(encoding="utf-8")), (file, function)


def test_version_is_one() -> None:
    """The package, its metadata and the changelog agree on the version."""
    from importlib.metadata import version

    import anytime

    assert anytime.__version__ == version("anytime")
    assert f"## {anytime.__version__}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
