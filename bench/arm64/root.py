"""An arm64 Debian in a directory, whose programs run here through QEMU's emulation of the processor.

``binfmt_misc`` hands every arm64 program to ``qemu-aarch64-static``, so ``chroot`` works as on a device. It takes root
and ``apt-get install qemu-user-static debootstrap``.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

SUITE, MIRROR = "bookworm", "http://deb.debian.org/debian"
PACKAGES = ("python3", "python3-dev", "python3-venv", "gcc", "libc6-dev", "openssh-client")
_BINFMT = Path("/proc/sys/fs/binfmt_misc")
_QEMU = "/usr/bin/qemu-aarch64-static"
# An ELF header for 64-bit, little endian, EM_AARCH64; 'F' opens the interpreter here, not in the chroot.
_MAGIC = r"\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00"
_MASK = r"\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff"
_RULE = f":anytime-aarch64:M::{_MAGIC}:{_MASK}:{_QEMU}:F"


class RootError(Exception):
    """The emulated root cannot be had here; the message says what to do."""


class Root:
    """The directory, and how to run things in it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def run(
        self, *command: str, check: bool = True, stdin: str = "", **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """Run a command in the root, with this environment and no other.

        Raises:
            RootError: it failed, and ``check``.
        """
        done = subprocess.run(
            ["chroot", str(self.path), *command],
            env=self._environment(environment),
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
        )
        if check and done.returncode != 0:
            raise RootError(f"{' '.join(command)} failed in {self.path}:\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}")
        return done

    def start(self, *command: str, **environment: str) -> subprocess.Popen[str]:
        """Start a command in the root."""
        return subprocess.Popen(
            ["chroot", str(self.path), *command], env=self._environment(environment), stderr=subprocess.PIPE, text=True
        )

    @staticmethod
    def _environment(more: Mapping[str, str]) -> dict[str, str]:
        return {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", "LC_ALL": "C.UTF-8", **more}


@contextmanager
def opened(path: Path) -> Iterator[Root]:
    """The root at ``path``, made first where it is not there; /proc and /dev are there while it is open.

    Raises:
        RootError: it cannot be made.
    """
    for program in ("debootstrap", _QEMU, "chroot"):
        if shutil.which(program) is None:
            raise RootError(f"{program} is not installed: apt-get install qemu-user-static debootstrap")
    if os.geteuid() != 0:
        raise RootError("an emulated root takes root: run it with sudo")
    with _emulating():
        _make(path)
        for kind in ("proc", "dev"):
            subprocess.run(["mount", "--bind", f"/{kind}", str(path / kind)], check=True)
        try:
            yield Root(path)
        finally:
            for kind in ("dev", "proc"):
                subprocess.run(["umount", "--lazy", str(path / kind)], check=False)


@contextmanager
def _emulating() -> Iterator[None]:
    if not (_BINFMT / "register").exists():
        subprocess.run(["mount", "-t", "binfmt_misc", "none", str(_BINFMT)], check=True)
    ours = _BINFMT / "anytime-aarch64"
    registered = not ours.exists() and not (_BINFMT / "qemu-aarch64").exists()
    if registered:
        (_BINFMT / "register").write_text(_RULE)
    try:
        yield
    finally:
        if registered:
            ours.write_text("-1")


def _make(path: Path) -> None:
    if (path / "made").exists():
        return
    if path.exists():
        shutil.rmtree(path)
    command = ["debootstrap", "--arch=arm64", "--variant=minbase", f"--include={','.join(PACKAGES)}"]
    done = subprocess.run([*command, SUITE, str(path), MIRROR], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RootError(f"debootstrap failed: {done.stdout[-2000:]} {done.stderr[-2000:]}")
    (path / "made").touch()
