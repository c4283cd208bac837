"""install.sh and uninstall.sh: whole or not at all, whatever is missing and whenever it ends."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import pytest

from anytime.deploy import Plan, deploy
from anytime.deploy.directory import seal
from anytime.signature import sign
from tests.deploying import HERE, PYTHON, present_wheels, pretended_wheels, write_pip
from tests.test_signature import make_key

TARGET = {"x86_64": "generic-x86", "aarch64": "generic-arm64"}[HERE]
Deploy: TypeAlias = Callable[[str], Path]
Done: TypeAlias = "subprocess.CompletedProcess[str]"


@pytest.fixture(scope="module")
def pip_wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pip(tmp_path_factory.mktemp("pip"))


@pytest.fixture(scope="module")
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


def run(script: Path, root: Path, *args: str, shell: tuple[str, ...] = ("sh",), **environment: str) -> Done:
    env = {**os.environ, "ANYTIME_TRUSTED": "", **environment}
    command = [*shell, str(script), "--root", str(root), *args]
    return subprocess.run(command, capture_output=True, text=True, env=env, check=False)


def installed(directory: Path, root: Path, **environment: str) -> Done:
    done = run(directory / "install.sh", root, **environment)
    assert done.returncode == 0, done.stderr
    return done


def answer(root: Path) -> str | None:
    """What the current version answers now; None where there is none."""
    current = root / "opt/anytime/current"
    if not current.exists():
        return None
    command = [current / "venv/bin/anytime", "node", "--json"]
    with (current / "question.json").open() as question:
        done = subprocess.run(command, stdin=question, capture_output=True, text=True, check=True)
    return str(json.loads(done.stdout)["answer"])


def versions(root: Path) -> list[str]:
    folder = root / "opt/anytime/versions"
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def listing(root: Path) -> dict[str, str]:
    """Every file below root but the lock, with its contents."""
    return {
        str(path.relative_to(root)): os.readlink(path) if path.is_symlink() else path.read_bytes().hex()
        for path in sorted(root.rglob("*"))
        if (path.is_symlink() or path.is_file()) and path.name != "lock" and "__pycache__" not in path.parts
    }


def shim(folder: Path, name: str, script: str) -> str:
    """A command that stands before the real one of that name; the PATH to find it with."""
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)
    return f"{folder}:{os.environ['PATH']}"


def systemd(root: Path, tmp_path: Path, status: str) -> dict[str, str]:
    """The environment of a machine on which systemd runs, and the service says that of itself; calls are noted."""
    (root / "run/systemd/system").mkdir(parents=True, exist_ok=True)
    script = f'echo "$@" >>{tmp_path}/calls\ncase $1 in show) {status} ;; esac'
    return {"PATH": shim(tmp_path / "shims", "systemctl", script)}


# -- the way it goes


def test_the_runtime_itself_is_installed_answers_and_is_removed(tmp_path: Path, root: Path, pip_wheel: Path) -> None:
    """The reference: checked, installed, measured, asked; ``current`` answers by itself; then it is uninstalled."""
    params = tmp_path / "robot.yaml"
    params.write_text("/**: {ros__parameters: {budget_s: 5.0, warm_up: 3, fallback: SLOWER}}")
    plan = Plan(
        bundle=None, target=TARGET, python=PYTHON, params=params, wheels=present_wheels(tmp_path / "wheels", pip_wheel)
    )
    out = deploy(plan, tmp_path / "out").path
    done = run(out / "install.sh", root, "--quick")
    assert done.returncode == 0, done.stderr
    assert "a first answer takes" in done.stdout
    decision = json.loads(next(line for line in done.stdout.splitlines() if line.startswith("{")))
    assert decision["source"] in ("thought", "probe", "instant")
    assert answer(root) in ("LANE_LEFT", "IDLE", "LANE_RIGHT", "FASTER", "SLOWER")
    current = root / "opt/anytime/current"
    assert list((current / "state").rglob("*.json"))
    assert oct((current / "state").stat().st_mode & 0o005) == "0o5"
    assert (root / "etc/anytime/anytime.yaml").read_text() == params.read_text()
    done = run(current / "uninstall.sh", root, "--purge")
    assert done.returncode == 0, done.stderr
    assert listing(root) == {}


def test_installing_again_changes_nothing(made: Deploy, root: Path) -> None:
    """The same directory twice: the same files, byte for byte."""
    installed(made("one"), root)
    before = listing(root)
    installed(made("one"), root)
    assert listing(root) == before
    assert answer(root) == "one"


def test_an_upgrade_replaces_the_version(made: Deploy, root: Path) -> None:
    """The new one answers, the old one is gone, and the configuration is as it was."""
    installed(made("one"), root)
    (root / "etc/anytime/anytime.yaml").write_text("/**: {ros__parameters: {budget_s: 1.0}}\n")
    done = installed(made("two"), root)
    assert answer(root) == "two"
    assert len(versions(root)) == 1
    assert "kept" in done.stdout
    assert "budget_s: 1.0" in (root / "etc/anytime/anytime.yaml").read_text()


def test_the_directory_may_be_gone_afterwards(made: Deploy, root: Path, tmp_path: Path) -> None:
    """Nothing that is installed points back to it."""
    copy = Path(shutil.copytree(made("one"), tmp_path / "stick with blanks"))
    installed(copy, root)
    shutil.rmtree(copy)
    assert answer(root) == "one"


def test_uninstalling_twice_is_no_error_and_keeps_the_configuration(made: Deploy, root: Path) -> None:
    """Without --purge the parameters stay."""
    installed(made("one"), root)
    for _ in range(2):
        done = run(made("one") / "uninstall.sh", root)
        assert done.returncode == 0, done.stderr
    assert set(listing(root)) == {"etc/anytime/anytime.yaml"}


# -- what is wrong with the directory


def test_every_missing_file_is_named_and_changes_nothing(made: Deploy, root: Path, tmp_path: Path) -> None:
    """A half-copied directory, whichever half."""
    whole = made("one")
    files = sorted(path.relative_to(whole) for path in whole.rglob("*") if path.is_file())
    for name in [name for name in files if name.name != "install.sh"]:
        copy = Path(shutil.copytree(whole, tmp_path / "copy"))
        (copy / name).unlink()
        done = run(copy / "install.sh", root)
        assert done.returncode == 1, name
        assert str(name) in done.stderr
        assert "copy the directory again" in done.stderr
        assert list(root.iterdir()) == []
        shutil.rmtree(copy)


@pytest.mark.parametrize("name", ["bundle/model.onnx", "deploy.env", "SHA256SUMS"])
@pytest.mark.parametrize("damage", ["cut", "changed"])
def test_a_damaged_file_is_named_and_changes_nothing(
    made: Deploy, root: Path, tmp_path: Path, name: str, damage: str
) -> None:
    """Cut off, or altered; the list of checksums itself, too."""
    copy = Path(shutil.copytree(made("one"), tmp_path / "copy"))
    contents = (copy / name).read_bytes()
    changed = bytes([contents[0] ^ 1]) + contents[1:]
    (copy / name).write_bytes(contents[: len(contents) // 2] if damage == "cut" else changed)
    done = run(copy / "install.sh", root)
    assert done.returncode == 1
    assert "copy the directory again" in done.stderr
    assert name in done.stderr or (name, damage) == ("SHA256SUMS", "changed")  # then a file does not fit it
    assert list(root.iterdir()) == []


@pytest.mark.parametrize("kind", ["file", "link"])
def test_what_is_not_listed_is_refused(made: Deploy, root: Path, tmp_path: Path, kind: str) -> None:
    """One more wheel could be installed in place of the right one; a link could lead anywhere."""
    copy = Path(shutil.copytree(made("one"), tmp_path / "copy"))
    if kind == "file":
        (copy / "wheels/anytime-9.9-py3-none-any.whl").write_bytes(b"x")
    else:
        (copy / "bundle/more").symlink_to("/etc/passwd")
    done = run(copy / "install.sh", root)
    assert done.returncode == 1
    assert ("is not in SHA256SUMS" if kind == "file" else "no plain file: ./bundle/more") in done.stderr
    assert list(root.iterdir()) == []


def test_wheels_that_do_not_suffice_are_said_to_be_missing(
    made: Deploy, root: Path, tmp_path: Path, pip_wheel: Path
) -> None:
    """A directory that was put together by hand: whole, but without a wheel that it needs."""
    copy = Path(shutil.copytree(made("one"), tmp_path / "copy"))
    for wheel in (copy / "wheels").iterdir():
        wheel.unlink()
    shutil.copyfile(pip_wheel, copy / "wheels" / pip_wheel.name)
    (copy / "SHA256SUMS").unlink()
    seal(copy)
    done = run(copy / "install.sh", root)
    assert done.returncode == 1
    assert re.search("the wheels here do not fit this device: .*--wheels", done.stderr)
    assert versions(root) == []


def test_with_tensorrt_the_plan_is_built_on_the_device(made: Deploy, root: Path, tmp_path: Path) -> None:
    """By the command of the runtime, which sees the system's packages; where that fails, nothing is changed."""
    copy = Path(shutil.copytree(made("one"), tmp_path / "copy"))
    settings = copy / "deploy.env"
    settings.write_text(settings.read_text().replace("ENGINE='onnxruntime'", "ENGINE='tensorrt'"))
    (copy / "SHA256SUMS").unlink()
    seal(copy)
    done = run(copy / "install.sh", root, PRETEND_EXPORT="fail")
    assert done.returncode == 1
    assert "has no plan on this device" in done.stderr
    assert versions(root) == []
    done = installed(copy, root)
    assert "building this machine's plan" in done.stdout
    assert "system-site-packages = true" in (root / "opt/anytime/current/venv/pyvenv.cfg").read_text()


# -- signatures


@pytest.mark.parametrize(
    ("signed_by", "expires", "trust", "why"),
    [
        (None, None, True, "is not signed, and this machine installs only what is: sign it"),
        ("stranger", "2999-12-31", True, "by none of the keys in .*trusted.pub .*verify.*: sign it"),
        ("operator", "2020-01-01", True, "expired on 2020-01-01: have it signed again"),
        ("operator", "2999-12-31", True, None),
        ("operator", "2020-01-01", False, None),
    ],
)
def test_where_a_key_is_configured_only_what_it_signed_is_installed(
    made: Deploy, root: Path, tmp_path: Path, signed_by: str | None, expires: str | None, trust: bool, why: str | None
) -> None:
    """Unsigned, a stranger's, and expired are refused with the remedy, before anything is changed."""
    copy = Path(shutil.copytree(made("one"), tmp_path / "copy"))
    for name in ("operator", "stranger"):
        make_key(tmp_path / name)
    if signed_by is not None and expires is not None:
        sign(copy / "SHA256SUMS", tmp_path / signed_by, expires)
    if trust:
        (root / "etc/anytime").mkdir(parents=True)
        keys = "# who may deploy\n\n" + (tmp_path / "operator.pub").read_text()
        (root / "etc/anytime/trusted.pub").write_text(keys)
    before = listing(root)
    done = run(copy / "install.sh", root)
    if why is None:
        assert done.returncode == 0, done.stderr
        assert answer(root) == "one"
    else:
        assert done.returncode == 1
        assert re.search(why, done.stderr), done.stderr
        assert listing(root) == before


@pytest.mark.parametrize("change", ["checksums", "statement"])
def test_what_was_changed_behind_the_signature_is_refused(
    made: Deploy, root: Path, tmp_path: Path, change: str
) -> None:
    """The files with their checksums made to fit, or a later day."""
    copy = Path(shutil.copytree(made("one"), tmp_path / "copy"))
    make_key(tmp_path / "operator")
    sign(copy / "SHA256SUMS", tmp_path / "operator", "2020-01-01" if change == "statement" else "2999-12-31")
    if change == "checksums":
        (copy / "anytime.yaml").write_text("# changed\n")
        sums = copy / "SHA256SUMS"
        mended = subprocess.run(["sha256sum", "anytime.yaml"], cwd=copy, capture_output=True, text=True, check=True)
        sums.write_text(re.sub(r".*  anytime\.yaml\n", mended.stdout, sums.read_text()))
    else:
        statement = copy / "SHA256SUMS.signed"
        statement.write_text(statement.read_text().replace("2020-01-01", "2999-12-31"))
    done = run(copy / "install.sh", root, ANYTIME_TRUSTED=str(tmp_path / "operator.pub"))
    assert done.returncode == 1
    assert ("is not what was signed" if change == "checksums" else "by none of the keys") in done.stderr
    assert list(root.iterdir()) == []


def test_a_key_file_that_is_not_there_refuses(made: Deploy, root: Path, tmp_path: Path) -> None:
    """A slip in the configuration does not switch the check off."""
    done = run(made("one") / "install.sh", root, ANYTIME_TRUSTED=str(tmp_path / "nowhere.pub"))
    assert done.returncode == 1
    assert "are not there" in done.stderr


# -- what is wrong with the device


def test_another_architecture_is_refused(made: Deploy, root: Path, tmp_path: Path) -> None:
    """Both are named, and what to do."""
    path = shim(tmp_path / "shims", "uname", "echo riscv64")
    done = run(made("one") / "install.sh", root, PATH=path)
    assert done.returncode == 1
    assert f"this is riscv64, the directory was made for {TARGET} ({HERE}): 'anytime deploy --target'" in done.stderr
    assert list(root.iterdir()) == []


def test_another_python_is_refused(made: Deploy, root: Path, tmp_path: Path) -> None:
    """The version that the device has is named, and how to deploy for it."""
    path = shim(tmp_path / "shims", "python3", "echo 3.99")
    shim(tmp_path / "shims", f"python{PYTHON}", "exit 127")
    done = run(made("one") / "install.sh", root, PATH=path)
    assert done.returncode == 1
    assert f"has no Python {PYTHON}" in done.stderr
    assert "python3 is 3.99" in done.stderr
    assert "anytime deploy --python" in done.stderr
    assert list(root.iterdir()) == []


@pytest.mark.parametrize("args", [("--rot", "/"), ("--root",), ("--root", "/nowhere")])
def test_wrong_arguments_are_refused(made: Deploy, args: tuple[str, ...]) -> None:
    """Unknown, without its value, or no directory."""
    for script in ("install.sh", "uninstall.sh"):
        done = subprocess.run(["sh", made("one") / script, *args], capture_output=True, text=True, check=False)
        assert done.returncode == 1
        assert done.stderr.startswith("error: --ro")


# -- a version that does not do

TROUBLES = {
    "too slow": {"PRETEND_SERVE": "fail"},
    "no answer": {"PRETEND_NODE": "fail"},
    "only the fallback": {"PRETEND_SOURCE": "fallback"},
}


@pytest.mark.parametrize("trouble", TROUBLES)
@pytest.mark.parametrize("before", [None, "one"])
def test_a_version_that_does_not_do_is_not_used(made: Deploy, root: Path, trouble: str, before: str | None) -> None:
    """Its first answers take too long, or it has none: nothing is left of it, and the one before still answers."""
    if before is not None:
        installed(made(before), root)
    left = listing(root)
    done = run(made("two") / "install.sh", root, **TROUBLES[trouble])
    assert done.returncode == 1
    assert "nothing was changed" in done.stderr
    assert listing(root) == left
    assert answer(root) == before


# The commands before which the installer is ended, in their order, and whose answer there is then.
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


# -- under systemd


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
