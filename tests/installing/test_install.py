"""install.sh and uninstall.sh: the way it goes, and what is wrong with the directory."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from anytime.deploy import Plan, deploy
from anytime.deploy.directory import seal
from tests.deploying import PYTHON, present_wheels
from tests.installing.device import TARGET, Deploy, answer, installed, listing, run, versions


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
