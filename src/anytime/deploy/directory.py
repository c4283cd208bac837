"""The directory that is carried to a device: bundle, wheels, systemd unit, installer, and the checksums of them all."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path

import msgspec

import anytime
from anytime.bundle import BESIDE_FILES, MANIFEST, Bundle, sha256_of, staging
from anytime.deploy.wheels import Device, gather
from anytime.errors import DeployError, UsageError
from anytime.node.parameters import Parameters, parameters_of, read_parameters
from anytime.node.scene import crowded
from anytime.signature import sign
from anytime.targets import Target, target_named

CHECKSUMS = "SHA256SUMS"
PARAMETERS = "anytime.yaml"
_SHIPPED = Path(__file__).parent / "device"
# What is installed beside the package itself: the engine's extra, answer formats, and reading the parameters.
_EXTRAS = {
    "onnxruntime": ("cpu", "grammar", "node"),
    "tensorrt": ("cpu", "grammar", "node", "tensorrt"),
    "cuda": ("cuda", "grammar", "node"),
    "tensorrt-rtx": ("grammar", "node", "tensorrt-rtx"),
}
_PYTHONS = ("3.10", "3.11", "3.12", "3.13")
_INSTALLER = "pip"  # few devices have it, and none can fetch it


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be deployed: ``bundle`` None is the reference; ``python`` None the target's.

    ``params``: a parameter file for the node, by default one that has it isolated, on TensorRT where that can be.
    ``wheels``: a directory to take wheels from before any are downloaded. ``key`` and ``expires`` (YYYY-MM-DD): sign
    with this private key, until then.
    """

    bundle: Path | None
    target: str
    python: str | None = None
    params: Path | None = None
    wheels: Path | None = None
    key: Path | None = None
    expires: str | None = None


class Deployed(msgspec.Struct, frozen=True):
    """A finished directory."""

    path: Path
    device: Device
    bundle_id: str
    wheels: int
    bytes: int


def deploy(plan: Plan, out: str | os.PathLike[str]) -> Deployed:
    """Write the directory, whole or not at all.

    Raises:
        DeployError: wheels are missing, or the parameters ask for an engine that cannot be there.
        BundleError: the bundle does not verify, or ``out`` exists already.
        ParameterError: the parameter file cannot be used.
        UsageError: no such target, a Python that anytime does not run on, or a key without a day of expiry.
        SignatureError: it cannot be signed.
    """
    target = target_named(plan.target)
    oldest, *_ = target.python or (_here(),)
    device = Device(_python(plan.python or oldest), target.architecture)
    if (plan.key is None) != (plan.expires is None):
        raise UsageError("--key and --expires belong together: a signature has a day from which on it is worth nothing")
    if plan.wheels is not None and not plan.wheels.is_dir():
        raise DeployError(f"there is no directory {plan.wheels}: give one with wheels")
    bundle = Bundle.load(plan.bundle) if plan.bundle is not None else Bundle.reference()
    shipped = plan.params or _SHIPPED / PARAMETERS
    parameters = parameters_of(read_parameters(shipped, "/anytime"))
    engine = parameters.engine if plan.params is not None else _engine(target, bundle)
    if engine != "onnxruntime" and _engine(target, bundle) == "onnxruntime":
        raise DeployError(
            f"{shipped} asks for the engine {engine}, which takes a device with a GPU of NVIDIA's and a bundle with a "
            f"graph for it: {target.name!r} is {target.title}, and {bundle.path} has "
            f"{', '.join(graph.runtime for graph in bundle.manifest.graphs)}"
        )
    requirement = f"anytime[{','.join(_EXTRAS[engine])}]=={anytime.__version__}"
    with tempfile.TemporaryDirectory(prefix="anytime-wheels-") as downloads:
        wheels = gather([requirement, _INSTALLER], device, plan.wheels, Path(downloads))
        with staging(out) as scratch:
            _copy_bundle(bundle, scratch / "bundle")
            (scratch / "wheels").mkdir()
            for wheel in wheels:
                shutil.copyfile(wheel, scratch / "wheels" / wheel.name)
            for name in ("install.sh", "uninstall.sh", "anytime.service"):
                shutil.copyfile(_SHIPPED / name, scratch / name)
            for name in ("install.sh", "uninstall.sh"):
                (scratch / name).chmod(0o755)
            shutil.copyfile(shipped, scratch / PARAMETERS)
            if plan.params is None:
                with (scratch / PARAMETERS).open("a", encoding="utf-8") as out_parameters:
                    out_parameters.write(f"    engine: {engine}\n")
            (scratch / "question.json").write_bytes(_question(parameters) + b"\n")
            (scratch / "deploy.env").write_text(_environment(target, device, engine, requirement), encoding="utf-8")
            if plan.key is not None and plan.expires is not None:
                sign(scratch / "bundle" / MANIFEST, plan.key, plan.expires)
            seal(scratch)
            if plan.key is not None and plan.expires is not None:
                sign(scratch / CHECKSUMS, plan.key, plan.expires)
            size = sum(path.stat().st_size for path in scratch.rglob("*") if path.is_file())
    return Deployed(Path(out), device, bundle.id, len(wheels), size)


def seal(directory: Path) -> None:
    """Write the checksum of every file, and at the end how many there are, so that a list that was cut off shows."""
    files = sorted(path for path in directory.rglob("*") if path.is_file())
    lines = [f"{sha256_of(path)}  {path.relative_to(directory)}\n" for path in files]
    (directory / CHECKSUMS).write_text("".join(lines) + f"# {len(lines)} files\n", encoding="utf-8")


def _here() -> str:
    return f"{sys.version_info.major}.{sys.version_info.minor}"


def _python(version: str) -> str:
    if version not in _PYTHONS:
        raise UsageError(f"--python {version!r} is none that anytime runs on: give one from 3.10 to 3.13, like 3.10")
    return version


def _copy_bundle(bundle: Bundle, out: Path) -> None:
    """What its manifest lists, and its signature; nothing else that may lie there."""
    for name in (*BESIDE_FILES, *bundle.manifest.files):
        if name in bundle.manifest.files or bundle.file(name).is_file():
            (out / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(bundle.file(name), out / name)


def _question(parameters: Parameters) -> bytes:
    """What the device is asked before a version is used: the node's own warm-up question."""
    if parameters.warm_up_question:
        return msgspec.json.encode({"text": parameters.warm_up_question})
    return msgspec.json.encode({"text": crowded(), "choices": parameters.actions})


def _engine(target: Target, bundle: Bundle) -> str:
    """TensorRT where the device has it and the bundle a graph for it, else ONNX Runtime."""
    graphs = any(graph.runtime.startswith("tensorrt") for graph in bundle.manifest.graphs)
    return "tensorrt" if target.engine == "tensorrt" and graphs else "onnxruntime"


def _environment(target: Target, device: Device, engine: str, requirement: str) -> str:
    values = {
        "TARGET": target.name,
        "ARCHITECTURE": device.architecture,
        "PYTHON": device.python,
        "ENGINE": engine,
        "VERSION": anytime.__version__,
        "REQUIREMENT": requirement,
    }
    return "".join(f"{name}='{value}'\n" for name, value in values.items())
