"""The wheels of a requirement, for another Python on another processor: found in a directory, the rest downloaded.

Which wheels belong together is worked out from their own metadata with the markers of the device. pip resolves for
another platform, too, but evaluates the markers (``python_version < '3.11'``) of the machine it runs on.
"""

from __future__ import annotations

import subprocess
import sys
import zipfile
from collections import defaultdict
from collections.abc import Iterable
from email.parser import HeaderParser
from pathlib import Path

import msgspec
from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import SpecifierSet
from packaging.tags import Tag, compatible_tags, cpython_tags
from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename

from anytime.errors import DeployError

OURS = "anytime"  # never downloaded: only who gives its wheel knows that it is ours
_OLDEST_GLIBC, _GLIBC = 17, 35  # 2.35 is Ubuntu 22.04's, and so JetPack 6's


class Device(msgspec.Struct, frozen=True):
    """What a wheel must fit: the Python as ``3.10``, the architecture as ``uname -m`` has it."""

    python: str
    architecture: str

    def tags(self) -> frozenset[Tag]:
        """The tags of wheels that can be installed there."""
        major, minor = self.python.split(".")
        version = (int(major), int(minor))
        glibcs = range(_GLIBC, _OLDEST_GLIBC - 1, -1)
        platforms = [f"manylinux_2_{glibc}_{self.architecture}" for glibc in glibcs]
        platforms += [f"manylinux2014_{self.architecture}", f"linux_{self.architecture}"]
        interpreter = f"cp{major}{minor}"
        return frozenset(
            [*cpython_tags(version, [interpreter], platforms), *compatible_tags(version, interpreter, platforms)]
        )

    def markers(self) -> dict[str, str]:
        """The environment that markers of requirements are evaluated in."""
        return {
            "implementation_name": "cpython",
            "implementation_version": f"{self.python}.0",
            "os_name": "posix",
            "platform_machine": self.architecture,
            "platform_python_implementation": "CPython",
            "platform_release": "",
            "platform_system": "Linux",
            "platform_version": "",
            "python_full_version": f"{self.python}.0",
            "python_version": self.python,
            "sys_platform": "linux",
        }


def gather(requirements: Iterable[str], device: Device, given: Path | None, scratch: Path) -> list[Path]:
    """The wheels that these requirements take on that device, from ``given`` or downloaded to ``scratch``.

    Raises:
        DeployError: some are in neither; the message says which, and how to get them.
    """
    wanted = [Requirement(text) for text in requirements]
    places = [place for place in (given, scratch) if place is not None]
    missing: list[Requirement] = []
    while True:
        before = missing
        found, missing = resolve(wanted, device, [path for place in places for path in sorted(place.glob("*.whl"))])
        if not missing:
            return found
        if missing == before:
            raise DeployError(_explained(missing, device, given, "the index has none for it"))
        ours = [requirement for requirement in missing if requirement.name == OURS]
        trouble = "" if ours else _download(missing, device, scratch)
        if ours or trouble:
            raise DeployError(_explained(ours or missing, device, given, trouble))


def resolve(
    wanted: Iterable[Requirement], device: Device, wheels: Iterable[Path]
) -> tuple[list[Path], list[Requirement]]:
    """The newest of these wheels for every requirement and what they require in turn, and what none is there for."""
    offered, tags = _by_name(wheels), device.tags()
    asked = _with({}, wanted)
    while True:  # what is asked of each only grows, so this ends
        chosen = {name: _newest(offered[name], one.specifier, tags) for name, one in asked.items()}
        further = [
            requirement
            for name, wheel in chosen.items()
            if wheel is not None
            for requirement in _required(wheel, asked[name].extras, device)
        ]
        before, asked = asked, _with(asked, further)
        if asked == before:
            missing = [one for name, one in sorted(asked.items()) if chosen[name] is None]
            return sorted(wheel for wheel in chosen.values() if wheel is not None), missing


def _with(asked: dict[str, Requirement], further: Iterable[Requirement]) -> dict[str, Requirement]:
    """What is asked of each name, with further requirements."""
    found = dict(asked)
    for one in further:
        name = canonicalize_name(one.name)
        both = Requirement(name)
        both.extras, both.specifier = set(one.extras), one.specifier
        if name in found:
            both.extras |= found[name].extras
            both.specifier &= found[name].specifier
        found[name] = both
    return found


def _required(wheel: Path, extras: set[str], device: Device) -> list[Requirement]:
    """What a wheel with these extras requires on that device."""
    markers = device.markers()
    found = [Requirement(text) for text in required_by(wheel)]
    return [
        one
        for one in found
        if one.marker is None or any(one.marker.evaluate({**markers, "extra": extra}) for extra in ("", *extras))
    ]


def required_by(wheel: Path) -> list[str]:
    """What a wheel says it requires.

    Raises:
        DeployError: it is no wheel.
    """
    try:
        with zipfile.ZipFile(wheel) as archive:
            inside = archive.namelist()  # other wheels may be vendored deeper in it
            (metadata,) = [name for name in inside if name.endswith(".dist-info/METADATA") and name.count("/") == 1]
            headers = HeaderParser().parsestr(archive.read(metadata).decode())
        texts = [str(text) for text in headers.get_all("Requires-Dist", [])]
        for text in texts:
            Requirement(text)
    except (OSError, ValueError, zipfile.BadZipFile, InvalidRequirement) as error:
        raise DeployError(f"{wheel} is no wheel that can be read ({error}): remove it, or get it again") from error
    return texts


def _by_name(wheels: Iterable[Path]) -> dict[str, list[Path]]:
    found: dict[str, list[Path]] = defaultdict(list)
    for wheel in wheels:
        try:
            found[parse_wheel_filename(wheel.name)[0]].append(wheel)
        except InvalidWheelFilename as error:
            raise DeployError(f"{wheel} has no wheel's name ({error}): remove it, or give it its own name") from error
    return found


def _newest(wheels: list[Path], specifier: SpecifierSet, tags: frozenset[Tag]) -> Path | None:
    fitting = []
    for wheel in wheels:
        _, version, build, its = parse_wheel_filename(wheel.name)
        if its & tags and specifier.contains(version, prereleases=True):
            fitting.append((version, build, wheel))
    return max(fitting)[2] if fitting else None


def _download(missing: list[Requirement], device: Device, scratch: Path) -> str:
    """Have pip download them, without what they require; what went wrong."""
    platforms = sorted({tag.platform for tag in device.tags() if tag.platform != "any"})
    interpreter = "cp" + device.python.replace(".", "")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    command += [
        "--only-binary=:all:",
        "--dest",
        str(scratch),
        "--implementation=cp",
        f"--python-version={device.python}",
    ]
    command += [f"--abi={abi}" for abi in (interpreter, "abi3", "none")]
    command += [f"--platform={platform}" for platform in platforms]
    done = subprocess.run([*command, *map(str, missing)], capture_output=True, text=True, check=False)
    lines = [line.removeprefix("ERROR: ") for line in done.stderr.splitlines() if line.startswith("ERROR: ")]
    return "" if done.returncode == 0 else (lines or done.stderr.splitlines() or ["pip failed"])[-1].strip()


def _explained(missing: list[Requirement], device: Device, given: Path | None, trouble: str) -> str:
    names = ", ".join(str(requirement) for requirement in missing)
    where = f"{given} has no wheel of" if given is not None else "there is no wheel of"
    remedy = (
        f"put them into a directory for --wheels (on such a device: python{device.python} -m pip wheel NAME)"
        if not any(requirement.name == OURS for requirement in missing)
        else f"build it on such a device with python{device.python} -m pip wheel --no-deps ., in anytime's sources, "
        "and give its directory as --wheels"
    )
    why = f" ({trouble})" if trouble else ""
    return f"{where} {names} for Python {device.python} on {device.architecture}{why}: {remedy}"
