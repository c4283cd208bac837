"""Signed bundles: where a key is configured, only what it signed is loaded, and not for ever."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from anytime import Reasoner, signature
from anytime.bundle import MANIFEST, Bundle
from anytime.calibrate.calibrated import write_calibrated
from anytime.errors import SignatureError, UsageError
from anytime.runtime.forecast import CALIBRATION, read_calibration
from anytime.signature import SIGNATURE, STATEMENT, sign, verify
from tests.conftest import write_bundle

LATER, BEFORE = "2999-12-31", "2020-01-01"
PACKAGE = Path(signature.__file__).parent


def make_key(path: Path) -> Path:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "robot", "-f", str(path)], check=True)
    return path


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_key(tmp_path_factory.mktemp("keys") / "operator")


@pytest.fixture(scope="module")
def trusted(key: Path) -> Path:
    return key.with_name("operator.pub")


@pytest.fixture(autouse=True)
def _no_key_of_this_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("ANYTIME_TRUSTED", raising=False)
    monkeypatch.setattr(signature, "TRUSTED", tmp_path / "none.pub")


def sign_bundle(bundle: Bundle, key: Path, expires: str = LATER) -> None:
    sign(bundle.file(MANIFEST), key, expires)


def test_a_signed_bundle_loads(bundle: Bundle, key: Path, trusted: Path) -> None:
    """With the key that is trusted; its id is that of the unsigned one; signing again replaces the signature."""
    sign_bundle(bundle, key, BEFORE)
    sign_bundle(bundle, key)
    assert Bundle.load(bundle.path, trusted).id == bundle.id


def test_without_a_key_nothing_needs_a_signature(bundle: Bundle, key: Path) -> None:
    """Where none is configured, an unsigned bundle and one with an old signature both load."""
    assert Bundle.load(bundle.path).id == bundle.id
    sign_bundle(bundle, key, BEFORE)
    assert Bundle.load(bundle.path).id == bundle.id


@pytest.mark.parametrize("how", ["environment", "file", "argument"])
def test_an_unsigned_bundle_is_refused_where_a_key_is_configured(
    bundle: Bundle, trusted: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """By the environment, by the machine's file, or by the caller; the remedy is in the message."""
    if how == "environment":
        monkeypatch.setenv("ANYTIME_TRUSTED", str(trusted))
    if how == "file":
        shutil.copyfile(trusted, signature.TRUSTED)
    with pytest.raises(SignatureError, match=r"is not signed.*anytime deploy --key"):
        Bundle.load(bundle.path, trusted if how == "argument" else None)
    if how != "argument":
        with pytest.raises(SignatureError, match="is not signed"):
            Reasoner.load(bundle.path)


def test_an_expired_signature_is_refused(bundle: Bundle, key: Path, trusted: Path) -> None:
    """From its day on; the message says which day, and to look at the machine's date."""
    sign_bundle(bundle, key, BEFORE)
    with pytest.raises(SignatureError, match=r"expired on 2020-01-01: have it signed again .*date"):
        Bundle.load(bundle.path, trusted)


def test_moving_the_day_of_expiry_breaks_the_signature(bundle: Bundle, key: Path, trusted: Path) -> None:
    """The day is part of what is signed."""
    sign_bundle(bundle, key, BEFORE)
    statement = bundle.file(MANIFEST + STATEMENT)
    statement.write_text(statement.read_text().replace(BEFORE, LATER))
    with pytest.raises(SignatureError, match="by none of the keys"):
        Bundle.load(bundle.path, trusted)


def test_another_s_signature_is_refused(bundle: Bundle, tmp_path: Path, trusted: Path) -> None:
    """It is not enough that somebody signed."""
    sign_bundle(bundle, make_key(tmp_path / "stranger"))
    with pytest.raises(SignatureError, match=r"by none of the keys in .*operator\.pub \(.*verify.*\): have it signed"):
        Bundle.load(bundle.path, trusted)


def test_a_signature_for_another_purpose_is_refused(bundle: Bundle, key: Path, trusted: Path) -> None:
    """What the same key signed as mail, say, opens nothing here (SSHSIG's namespace)."""
    sign_bundle(bundle, key)
    statement = bundle.file(MANIFEST + STATEMENT)
    bundle.file(MANIFEST + SIGNATURE).unlink()
    subprocess.run(["ssh-keygen", "-Y", "sign", "-q", "-f", key, "-n", "mail", statement], check=True)
    with pytest.raises(SignatureError, match="by none of the keys"):
        Bundle.load(bundle.path, trusted)


def test_one_bundle_s_signature_does_not_fit_another(bundle: Bundle, tmp_path: Path, key: Path, trusted: Path) -> None:
    """A signature carried over is seen, and so is a manifest that was changed behind it."""
    sign_bundle(bundle, key)
    other = write_bundle(tmp_path / "other", name="other")
    for ending in (STATEMENT, SIGNATURE):
        shutil.copyfile(bundle.file(MANIFEST + ending), other.file(MANIFEST + ending))
    with pytest.raises(SignatureError, match="is not what was signed"):
        Bundle.load(other.path, trusted)


@pytest.mark.parametrize("trusts", ["both", "with a comment"])
def test_several_keys_may_be_trusted(bundle: Bundle, tmp_path: Path, key: Path, trusted: Path, trusts: str) -> None:
    """One a line; any of them will do. So one key can follow another."""
    sign_bundle(bundle, key)
    second = make_key(tmp_path / "second").with_name("second.pub").read_text()
    keys = tmp_path / "keys.pub"
    keys.write_text((second if trusts == "both" else "# the operator's\n\n") + trusted.read_text())
    assert Bundle.load(bundle.path, keys).id == bundle.id


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        ("", "is no signed statement"),
        ("anytime signature 2\n", "is no signed statement"),
        (f"anytime signature 1\nsha256 {'0' * 64}\nexpires 2027-02-30\n", "is no signed statement"),
        (f'anytime signature 1\nsha256 {"0" * 64}\nexpires 2027"\nevil\n', "is no signed statement"),
        ("\u00ff" * 50, "is no signed statement"),
    ],
)
def test_a_damaged_statement_is_refused(bundle: Bundle, key: Path, trusted: Path, damage: str, why: str) -> None:
    """Whatever lies there, nothing of it reaches OpenSSH."""
    sign_bundle(bundle, key)
    bundle.file(MANIFEST + STATEMENT).write_text(damage, encoding="utf-8")
    with pytest.raises(SignatureError, match=why):
        Bundle.load(bundle.path, trusted)


@pytest.mark.parametrize("damage", [None, b"", b"-----BEGIN SSH SIGNATURE-----\n"])
def test_a_damaged_signature_is_refused(bundle: Bundle, key: Path, trusted: Path, damage: bytes | None) -> None:
    """Missing, empty, or cut off."""
    sign_bundle(bundle, key)
    path = bundle.file(MANIFEST + SIGNATURE)
    path.unlink() if damage is None else path.write_bytes(damage)
    with pytest.raises(SignatureError, match="by none of the keys"):
        Bundle.load(bundle.path, trusted)


@pytest.mark.parametrize(
    ("contents", "why"), [(None, "cannot be read"), ("", "has no public key"), ("# none\n", "has no public key")]
)
def test_a_key_that_is_configured_and_not_there_lets_nothing_pass(
    bundle: Bundle, key: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, contents: str | None, why: str
) -> None:
    """A slip in the configuration refuses everything, rather than checking nothing."""
    sign_bundle(bundle, key)
    if contents is not None:
        (tmp_path / "keys").write_text(contents)
    monkeypatch.setenv("ANYTIME_TRUSTED", str(tmp_path / "keys"))
    with pytest.raises(SignatureError, match=why):
        Bundle.load(bundle.path)


def test_without_openssh_nothing_passes(
    bundle: Bundle, key: Path, trusted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message names the package to install."""
    sign_bundle(bundle, key)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SignatureError, match="install openssh-client"):
        Bundle.load(bundle.path, trusted)


@pytest.mark.parametrize("day", ["tomorrow", "2027-2-3", "2027-02-30", "20270203", "2027-02-03T00:00", ""])
def test_signing_until_no_day_is_refused(bundle: Bundle, key: Path, day: str) -> None:
    """It is wrong use, and leaves nothing."""
    before = set(bundle.path.iterdir())
    with pytest.raises(UsageError, match="give a day like 2027-06-30"):
        sign_bundle(bundle, key, day)
    assert set(bundle.path.iterdir()) == before


def test_signing_with_no_key_is_refused(bundle: Bundle, tmp_path: Path) -> None:
    """The message has OpenSSH's reason and what to give."""
    with pytest.raises(SignatureError, match=r"No such file.*ssh-keygen -t ed25519"):
        sign_bundle(bundle, tmp_path / "nowhere")


def test_the_reference_is_trusted_as_the_package_is(trusted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It comes with the code that would check it."""
    monkeypatch.setenv("ANYTIME_TRUSTED", str(trusted))
    assert Bundle.reference().id


def test_a_new_bundle_does_not_inherit_a_signature(tmp_path: Path, key: Path, trusted: Path) -> None:
    """Calibrating a signed bundle makes another one, which has to be signed itself; no file of the old one is in it."""
    whole = Path(shutil.copytree(Bundle.reference().path, tmp_path / "whole"))
    sign(whole / MANIFEST, key, LATER)
    bundle = Bundle.load(whole, trusted)
    made = write_calibrated(bundle, read_calibration(bundle.file(CALIBRATION)), tmp_path / "new")
    assert {path.name for path in made.path.iterdir()} == {MANIFEST, *bundle.manifest.files}
    with pytest.raises(SignatureError, match="is not signed"):
        Bundle.load(made.path, trusted)


def test_any_file_can_be_signed(tmp_path: Path, key: Path, trusted: Path) -> None:
    """A list of checksums, say."""
    file = tmp_path / "SHA256SUMS"
    file.write_text("0  x\n")
    sign(file, key, LATER)
    verify(file, trusted)
    file.write_text("1  x\n")
    with pytest.raises(SignatureError, match="is not what was signed"):
        verify(file, trusted)


# -- paths and pickles


@pytest.mark.parametrize("outside", ["../outside", "/etc/hostname"])
def test_a_link_out_of_the_bundle_is_refused(bundle: Bundle, outside: str) -> None:
    """Even one to the same bytes: what is loaded lies in the bundle."""
    (bundle.path.parent / "outside").write_bytes(bundle.file("model.onnx").read_bytes())
    bundle.file("model.onnx").unlink()
    bundle.file("model.onnx").symlink_to(outside)
    with pytest.raises(Exception, match=r"has a link that leaves it \(model\.onnx -> "):
        Bundle.load(bundle.path)


def test_a_linked_directory_that_leaves_the_bundle_is_refused(tmp_path: Path) -> None:
    """Not only the last part of a path may be a link."""
    from anytime.bundle import TOKENIZER, seal, staging
    from tests.conftest import manifest

    plain = write_bundle(tmp_path / "plain")
    with staging(tmp_path / "made") as scratch:
        (scratch / "sub").mkdir()
        (scratch / "sub" / "table").write_bytes(b"x")
        for name in ("model.onnx", TOKENIZER):
            shutil.copyfile(plain.file(name), scratch / name)
        seal(scratch, manifest())
    shutil.move(tmp_path / "made" / "sub", tmp_path / "elsewhere")
    (tmp_path / "made" / "sub").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(Exception, match=r"has a link that leaves it \(sub/table -> "):
        Bundle.load(tmp_path / "made")


def test_a_link_to_the_bundle_or_inside_it_is_none_that_leaves(bundle: Bundle, tmp_path: Path) -> None:
    """``current -> versions/1`` is how bundles are deployed."""
    os.rename(bundle.file("model.onnx"), bundle.file("weights"))
    bundle.file("model.onnx").symlink_to("weights")
    (tmp_path / "current").symlink_to(bundle.path)
    assert Bundle.load(tmp_path / "current").id == bundle.id


def calls_of(path: Path) -> list[ast.Call]:
    return [node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Call)]


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_nothing_is_unpickled(path: Path) -> None:
    """No module that loads code from data is imported, and numpy is told not to."""
    imported = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            imported |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add((node.module or "").split(".")[0])
    assert not imported & {
        "pickle",
        "cPickle",
        "_pickle",
        "marshal",
        "shelve",
        "dill",
        "cloudpickle",
        "joblib",
        "copyreg",
    }
    for call in calls_of(path):
        name = ast.unparse(call.func)
        assert name not in {"eval", "exec", "torch.load"}, f"{path.name}:{call.lineno}"
        given = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
        if name in {"np.load", "numpy.load"}:
            assert given.get("allow_pickle") == "False", f"{path.name}:{call.lineno}"
