"""install.sh whole or not at all, whenever it ends, and beside another one."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.installing.device import Deploy, Done, answer, installed, listing, run

MOMENTS = {
    "mkdir -p": "one",
    "-m venv": "one",
    'pip" install': "one",
    "chmod -R": "one",
    "serve --calibrate": "one",
    "node --json": "one",
    "sync": "one",
    ': > "$new/answered"': "one",
    "switched=yes": "one",
    "ln -sfn": "one",
    "mv -T": "one",
    'cp "$base': "two",
    'find "$base': "two",
    'rm -rf "$version"': "two",
}


def interrupted(directory: Path, root: Path, moment: str, how: str) -> Done:
    """Run install.sh until the first command that has ``moment`` in it, and end it there by a signal."""
    trap = f"case $BASH_COMMAND in *{quoted(moment)}*) kill -{how} $$ ;; esac"
    script = f"set -T; trap {quoted(trap)} DEBUG; . {directory}/install.sh"
    command = ["bash", "-c", script, str(directory / "install.sh"), "--root", str(root)]
    env = {**os.environ, "ANYTIME_TRUSTED": ""}
    return subprocess.run(command, capture_output=True, text=True, env=env, check=False)


def quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_power_cut_leaves_a_version_that_answers(made: Deploy, root: Path, moment: str) -> None:
    """Killed at any step of an upgrade, ``current`` answers, and the next run finishes what was begun."""
    installed(made("one"), root)
    done = interrupted(made("two"), root, moment, "KILL")
    assert done.returncode == -9, done.stderr
    assert answer(root) == MOMENTS[moment]
    for version in (root / "opt/anytime/versions").iterdir():
        (version / "half").write_bytes(b"" if (version / "answered").exists() else b"written")
    installed(made("two"), root)
    assert answer(root) == "two"
    (version,) = (root / "opt/anytime/versions").iterdir()
    assert not (version / "half").exists() or (version / "half").read_bytes() == b""


@pytest.mark.parametrize("how", ["INT", "TERM"])
@pytest.mark.parametrize("moment", ['pip" install', "node --json", "mv -T", 'cp "$base'])
def test_an_interruption_changes_nothing(made: Deploy, root: Path, moment: str, how: str) -> None:
    """Ctrl-C and SIGTERM: the version before answers, and every file is as it was."""
    installed(made("one"), root)
    before = listing(root)
    done = interrupted(made("two"), root, moment, how)
    assert done.returncode in (130, 143)
    assert {name: data for name, data in listing(root).items() if "versions/" not in name} == {
        name: data for name, data in before.items() if "versions/" not in name
    }
    assert answer(root) == "one"


def test_the_first_installation_interrupted_leaves_nothing(made: Deploy, root: Path) -> None:
    """There is no version before, so there is none behind it."""
    assert interrupted(made("one"), root, 'cp "$base', "INT").returncode == 130
    assert answer(root) is None
    assert [name for name in listing(root) if "versions/" not in name] == []


def test_two_installations_at_once_are_refused(made: Deploy, root: Path) -> None:
    """The second one says so."""
    (root / "opt/anytime").mkdir(parents=True)
    lock = root / "opt/anytime/lock"
    with subprocess.Popen(["flock", lock, "sh", "-c", "echo held; read line"], stdin=-1, stdout=-1) as holder:
        assert holder.stdout is not None
        assert holder.stdin is not None
        assert holder.stdout.readline() == b"held\n"
        done = run(made("one") / "install.sh", root)
        holder.stdin.close()
    assert done.returncode == 1
    assert "another installation is under way" in done.stderr
