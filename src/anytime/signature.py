"""Signatures of files whose contents are trusted with running code: made and checked by OpenSSH's ``ssh-keygen -Y``.

A signature of ``FILE`` is a statement ``FILE.signed``, which names its SHA-256 and the day from which on it is worth
nothing, and OpenSSH's signature of that statement, ``FILE.signed.sig`` (SSHSIG, namespace ``anytime``). OpenSSH is on
every device, keeps the package free of a cryptography library, and knows the date, so that nothing here reads a clock.
"""

from __future__ import annotations

import hashlib
import os
import re
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from anytime.errors import SignatureError, UsageError

if TYPE_CHECKING:
    from subprocess import CompletedProcess

TRUSTED = Path("/etc/anytime/trusted.pub")
TRUSTED_VARIABLE = "ANYTIME_TRUSTED"
STATEMENT, SIGNATURE = ".signed", ".signed.sig"
_NAMESPACE = "anytime"
_STATEMENT = re.compile(r"anytime signature 1\nsha256 ([0-9a-f]{64})\nexpires ([0-9-]{10})\n")
_NEVER = "9999-12-31"


class _Statement(msgspec.Struct, frozen=True):
    """What was signed, still to be believed."""

    raw: bytes
    sha256: str
    expires: str


def trusted_keys() -> Path | None:
    """The file of public keys this machine trusts, one a line as in ``id_ed25519.pub``; None where none is configured.

    The environment's ``ANYTIME_TRUSTED`` names it; else it is /etc/anytime/trusted.pub, where that is there.
    """
    named = os.environ.get(TRUSTED_VARIABLE)
    if named:
        return Path(named)
    return TRUSTED if TRUSTED.exists() else None


def sign(file: Path, key: Path, expires: str) -> None:
    """Sign ``file`` with a private key, or one that ssh-agent has, until the day ``expires`` (YYYY-MM-DD, UTC) begins.

    Raises:
        UsageError: that is no day.
        SignatureError: ssh-keygen is not there, or does not sign.
    """
    if not _is_day(expires):
        raise UsageError(f"a signature cannot expire on {expires!r}: give a day like 2027-06-30")
    sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
    statement = file.with_name(file.name + STATEMENT)
    statement.write_text(f"anytime signature 1\nsha256 {sha256}\nexpires {expires}\n", encoding="ascii")
    file.with_name(file.name + SIGNATURE).unlink(missing_ok=True)  # ssh-keygen asks before it overwrites one
    done = _ssh_keygen("sign", "-q", "-f", str(key), "-n", _NAMESPACE, str(statement))
    if done.returncode != 0:
        raise SignatureError(
            f"{file} could not be signed with {key} ({_said(done)}): give the private key of "
            "'ssh-keygen -t ed25519', or its public one and have the private one in ssh-agent"
        )


def verify(file: Path, keys: Path) -> None:
    """Hold ``file`` to its signature by one of these public keys.

    Raises:
        SignatureError: there is none, it is another file's or nobody's who is trusted, or it has expired.
    """
    statement = _read_statement(file)
    if hashlib.sha256(file.read_bytes()).hexdigest() != statement.sha256:
        raise SignatureError(f"{file} is not what was signed: copy it again, or have it signed again")
    trusted = _read_keys(keys)
    if _trouble(file, statement, trusted, statement.expires) is None:
        return
    trouble = _trouble(file, statement, trusted, _NEVER)
    if trouble is None:
        raise SignatureError(
            f"the signature of {file} expired on {statement.expires}: have it signed again "
            "(and see that this machine's date is right)"
        )
    raise SignatureError(
        f"the signature of {file} is by none of the keys in {keys} ({trouble}): "
        "have it signed with one of them, or trust its key"
    )


def _read_statement(file: Path) -> _Statement:
    path = file.with_name(file.name + STATEMENT)
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise SignatureError(
            f"{file} is not signed ({path.name}: {error.strerror}), and this machine loads only what is: have it "
            "signed ('anytime deploy --key'), or remove the configured key"
        ) from error
    found = _STATEMENT.fullmatch(raw.decode("ascii", "replace"))
    if found is None or not _is_day(found[2]):
        raise SignatureError(f"{path} is no signed statement: copy it again, or have {file.name} signed again")
    return _Statement(raw, found[1], found[2])


def _is_day(text: str) -> bool:
    try:
        return str(date.fromisoformat(text)) == text
    except ValueError:
        return False


def _read_keys(keys: Path) -> list[str]:
    try:
        lines = keys.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SignatureError(
            f"the trusted keys in {keys} cannot be read ({error}): give a file of public keys, one a line"
        ) from error
    found = [line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#")]
    if not found:
        raise SignatureError(f"{keys} has no public key: put one a line into it, as in id_ed25519.pub")
    return found


def _trouble(file: Path, statement: _Statement, trusted: list[str], until: str) -> str | None:
    """None if one of these keys signed the statement, and that day has not come; else what OpenSSH says."""
    import tempfile  # here and below, because most who load a bundle have no key to check it with

    options = f'valid-before="{until.replace("-", "")}",namespaces="{_NAMESPACE}"'
    with tempfile.NamedTemporaryFile("w", prefix="anytime-", suffix=".signers") as signers:
        signers.writelines(f"{_NAMESPACE} {options} {key}\n" for key in trusted)
        signers.flush()
        signature = str(file.with_name(file.name + SIGNATURE))
        done = _ssh_keygen(
            "verify", "-f", signers.name, "-I", _NAMESPACE, "-n", _NAMESPACE, "-s", signature, said=statement.raw
        )
    return None if done.returncode == 0 else _said(done)


def _ssh_keygen(*arguments: str, said: bytes = b"") -> CompletedProcess[bytes]:
    import subprocess

    command = ["ssh-keygen", "-Y", *arguments]
    try:
        return subprocess.run(
            command, input=said, env={**os.environ, "TZ": "UTC", "LC_ALL": "C"}, capture_output=True, check=False
        )
    except OSError as error:
        raise SignatureError(
            f"signatures take ssh-keygen of OpenSSH, which cannot be run ({error.strerror}): install openssh-client"
        ) from error


def _said(done: CompletedProcess[bytes]) -> str:
    return " ".join((done.stderr + done.stdout).decode(errors="replace").split()) or f"exit status {done.returncode}"
