"""Plans: what TensorRT builds of a bundle's graph on one machine, and the note beside each that says what it is.

A plan fits one version of TensorRT and one kind of GPU, and runs native code when it is loaded. So it is no part of a
bundle but lies in the state directory, ``<bundle>/plans/<key>.plan``, with what must be checked before it is loaded in
``<key>.json``. No signature covers it: where a key is trusted, who wrote it decides.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import msgspec

from anytime.bundle import Bundle, Graph, Manifest, state_dir
from anytime.errors import BundleError
from anytime.ownership import check_owned
from anytime.signature import trusted_keys

LEAST_ROWS, MOST_ROWS = 3, 16  # of a plan: measuring a latency profile takes 3; every row and width has a graph
IN_PLACE, APPENDED = "tensorrt>=10.15", "tensorrt>=10.3"  # what each graph needs, the better one first in a manifest


class PlanOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a plan is built.

    It has two optimization profiles: 0 for decode steps of 1 to ``rows`` rows of a token each, 1 for runs of one row
    with 1 to ``chunk`` tokens. A ``version_compatible`` plan also runs on later versions of TensorRT (and brings native
    code for that), a ``hardware_compatible`` one on other GPUs from Ampere on; both may be slower.
    """

    rows: int = 4
    chunk: int = 512
    version_compatible: bool = False
    hardware_compatible: bool = False


class Sidecar(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a plan was built from, by and for; ``compute_capability`` is the GPU's, like "8.7"."""

    tensorrt: str
    compute_capability: str
    graph_sha256: str
    bundle: str
    options: PlanOptions
    plan_sha256: str

    def key(self) -> str:
        """The name of the plan's file: the hash of all that decides what is in it."""
        parts = (self.graph_sha256, self.options, self.tensorrt, self.compute_capability)
        return hashlib.sha256(msgspec.json.encode(parts)).hexdigest()


def plans_dir(bundle: Bundle) -> Path:
    return state_dir() / bundle.id[:16] / "plans"


def trusted_plan(plan: Path) -> Path:
    """The plan in this file, links followed; where a key is trusted, only one that ``check_native`` lets pass.

    Raises:
        SignatureError: somebody else can.
    """
    check_native(plan.with_suffix(".json"), plan)
    return plan.resolve()


def check_native(*places: Path) -> None:
    """Native code that was made on this machine: where a key is trusted, nobody but this user and root may alter it.

    Raises:
        SignatureError: somebody else can.
    """
    if trusted_keys() is not None:
        for place in places:
            check_owned(place)


def graph_sha256(manifest: Manifest, graph: Graph) -> str:
    """The hash of a graph with its weights, from the checksums of its files."""
    own = manifest.files[graph.file].sha256
    if graph.weights is None:
        return own
    return hashlib.sha256(f"{own} {manifest.files[graph.weights].sha256}".encode()).hexdigest()


def tensorrt_graph(bundle: Bundle, version: str) -> Graph:
    """The first of the bundle's graphs that this version of TensorRT can build.

    Raises:
        BundleError: there is none.
    """
    graphs = [graph for graph in bundle.manifest.graphs if graph.runtime.startswith("tensorrt>=")]
    if not graphs:
        raise BundleError(
            f"bundle {bundle.path} has no graph for TensorRT: export its checkpoint again with --engine tensorrt"
        )
    for graph in graphs:
        if _parts(version) >= _parts(graph.runtime.partition(">=")[2]):
            return graph
    raise BundleError(f"bundle {bundle.path} needs {graphs[-1].runtime}; this is TensorRT {version}: upgrade it")


def _parts(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".")[:2])
