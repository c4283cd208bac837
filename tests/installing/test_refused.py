"""install.sh refuses what is not signed, another device, and a version that does not do."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from anytime.signature import sign
from tests.deploying import HERE, PYTHON
from tests.installing.device import TARGET, Deploy, answer, installed, listing, run, shim
from tests.test_signature import make_key


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
