"""Wheels made by hand, so that a directory can be deployed and installed without any network, and in a second."""

from __future__ import annotations

import importlib.util
import platform
import sys
import zipfile
from importlib.metadata import distribution
from pathlib import Path

import anytime

PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
TAG = f"cp{PYTHON.replace('.', '')}"
HERE = platform.machine()

# An `anytime` command that knows its version's label, and does as it is told by the environment.
PRETENDED = """
import json, os, sys

LABEL = {label!r}


def main():
    asked = sys.argv[1]
    if os.environ.get("PRETEND_" + asked.upper(), "") in ("fail", "fail " + LABEL):
        sys.exit("error: pretended")
    if asked == "node" and sys.stdin.read().strip():
        source = os.environ.get("PRETEND_SOURCE", "probe")
        print(json.dumps({{"answer": LABEL, "source": source}}, separators=(",", ":")))
"""

# A `pip install` of the one wheel above, ten times as fast as pip.
PRETENDED_PIP = """
import pathlib, sys, sysconfig, zipfile

wheels = pathlib.Path(sys.argv[sys.argv.index("--find-links") + 1])
(wheel,) = wheels.glob("anytime-*.whl")
zipfile.ZipFile(wheel).extractall(sysconfig.get_path("purelib"))
script = pathlib.Path(sys.executable).with_name("anytime")
script.write_text(f"#!{sys.executable}\\nfrom pretended import main\\nmain()\\n")
script.chmod(0o755)
"""


def write_wheel(
    folder: Path,
    name: str,
    version: str = "1.0",
    tag: str = "py3-none-any",
    requires: tuple[str, ...] = (),
    files: dict[str, str] | None = None,
    command: str = "",
) -> Path:
    """A wheel with these files; ``command`` is the ``module:function`` of a console script of its name."""
    folder.mkdir(parents=True, exist_ok=True)
    info = f"{name}-{version}.dist-info"
    metadata = [f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"]
    metadata += [f"Provides-Extra: {extra}\n" for extra in ("cpu", "grammar", "node")]
    metadata += [f"Requires-Dist: {text}\n" for text in requires]
    inside = {
        **(files or {}),
        f"{info}/METADATA": "".join(metadata),
        f"{info}/WHEEL": f"Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: {tag}\n",
    }
    if command:
        inside[f"{info}/entry_points.txt"] = f"[console_scripts]\n{name} = {command}\n"
    inside[f"{info}/RECORD"] = "".join(f"{path},,\n" for path in inside) + f"{info}/RECORD,,\n"
    wheel = folder / f"{name}-{version}-{tag}.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for path, text in inside.items():
            archive.writestr(path, text)
    return wheel


def write_pip(folder: Path) -> Path:
    """The pip of this Python as a wheel, which pip itself can be run from."""
    installed = distribution("pip")  # not imported: setuptools then leaves distutils to the standard library
    home = Path(str(installed.locate_file("pip")))
    wheel = write_wheel(folder, "pip", installed.version)
    with zipfile.ZipFile(wheel, "a", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for path in home.rglob("*"):
            if path.is_file() and path.suffix != ".pyc":
                archive.write(path, str(Path("pip") / path.relative_to(home)))
    return wheel


def pretended_wheels(folder: Path, label: str, tag: str = f"{TAG}-{TAG}-linux_{HERE}") -> Path:
    """Wheels of an anytime that only pretends, as its pip does; every answer of it is ``label``."""
    files = {"pretended.py": PRETENDED.format(label=label)}
    write_wheel(folder, "anytime", anytime.__version__, tag, files=files, command="pretended:main")
    write_wheel(folder, "pip", files={"pip/__main__.py": PRETENDED_PIP})
    return folder


def present_wheels(folder: Path, pip: Path) -> Path:
    """Wheels of the anytime under test: where they are installed, its sources and all it needs are found."""
    homes = [Path(anytime.__file__).parents[1]]
    for needed in ("numpy", "msgspec", "tokenizers", "typer", "yaml", "onnxruntime"):
        spec = importlib.util.find_spec(needed)
        assert spec is not None, needed
        assert spec.origin is not None, needed
        homes.append(Path(spec.origin).parents[1])
    lines = "".join(f"{home}\n" for home in dict.fromkeys(homes))
    tag = f"{TAG}-{TAG}-linux_{HERE}"
    command = "anytime.cli.main:main"
    write_wheel(folder, "anytime", anytime.__version__, tag, files={"here.pth": lines}, command=command)
    (folder / pip.name).symlink_to(pip)
    return folder
