"""Finds the plan that was built of a bundle on this machine, and lets none be loaded that does not belong here."""

from __future__ import annotations

import hashlib
from pathlib import Path

import msgspec

from anytime.bundle import Bundle, Graph
from anytime.errors import EngineError
from anytime.plans import Sidecar, graph_sha256, plans_dir, tensorrt_graph, trusted_plan

_AMPERE = (8, 0)  # the first GPU that a hardware-compatible plan runs on


class Plan(msgspec.Struct, frozen=True):
    """A plan that belongs here: what it was built of, and where it lies."""

    graph: Graph
    sidecar: Sidecar
    file: Path
    remedy: str

    def read(self) -> bytes:
        """What the file holds, checked.

        Raises:
            EngineError: it is not what was built.
        """
        try:
            content = self.file.read_bytes()
        except OSError as error:
            raise EngineError(f"the plan {self.file} cannot be read ({error.strerror}): {self.remedy}") from error
        if hashlib.sha256(content).hexdigest() != self.sidecar.plan_sha256:
            raise EngineError(
                f"the plan {self.file} is damaged or was altered: it does not match its checksum; it runs native code, "
                f"so it is not loaded: delete it and {self.remedy}"
            )
        return content


def find_plan(bundle: Bundle, tensorrt: str, compute_capability: str) -> Plan:
    """The newest plan of the bundle for this version of TensorRT and this GPU.

    No signature of the bundle covers it. Where a key is trusted, a plan must have been written by this user or root.

    Raises:
        BundleError: the bundle has no graph for this TensorRT.
        SignatureError: a key is trusted, and somebody else can have written the plan.
        EngineError: there is no plan that belongs here; the message says what is wrong with the newest one.
    """
    graph = tensorrt_graph(bundle, tensorrt)
    folder, remedy = plans_dir(bundle), f"build one here with 'anytime export {bundle.path} --engine tensorrt'"
    found = sorted(folder.glob("*.json"), key=lambda file: file.stat().st_mtime_ns, reverse=True)
    if not found:
        raise EngineError(f"there is no plan of bundle {bundle.path} under {folder}: {remedy}")
    reasons = []
    for file in found:
        sidecar = _read(file)
        if sidecar is None:
            reasons.append(f"{file}: it cannot be read")
            continue
        reason = _unfit(sidecar, bundle, graph, tensorrt, compute_capability)
        if not reason:
            return Plan(graph, sidecar, trusted_plan(file.with_suffix(".plan")), remedy)
        reasons.append(f"{file}: {reason}")
    raise EngineError(f"no plan of bundle {bundle.path} fits this machine ({reasons[0]}): {remedy}")


def _read(file: Path) -> Sidecar | None:
    try:
        return msgspec.json.decode(file.read_bytes(), type=Sidecar)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return None


def _unfit(sidecar: Sidecar, bundle: Bundle, graph: Graph, tensorrt: str, compute_capability: str) -> str:
    """Why a plan cannot be used here; empty when it can."""
    if sidecar.bundle != bundle.id:
        return f"it is of bundle {sidecar.bundle[:16]}, this is {bundle.id[:16]}"
    if sidecar.graph_sha256 != graph_sha256(bundle.manifest, graph):
        return f"it is of another graph than {graph.file}, which this TensorRT {tensorrt} can run"
    later = sidecar.options.version_compatible and _numbers(sidecar.tensorrt) <= _numbers(tensorrt)
    if sidecar.tensorrt != tensorrt and not later:
        return f"it was built by TensorRT {sidecar.tensorrt}, this is {tensorrt}"
    other = sidecar.options.hardware_compatible and _numbers(compute_capability) >= _AMPERE
    if sidecar.compute_capability != compute_capability and not other:
        return f"it was built for compute capability {sidecar.compute_capability}, this GPU has {compute_capability}"
    return ""


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdigit())
