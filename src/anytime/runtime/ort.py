"""The ONNX Runtime engine on the CPU, the default that works everywhere.

A run that was terminated does not advance its sequence: whatever it wrote lies behind the sequence's length.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from anytime.bundle import Bundle, Graph
from anytime.errors import BundleError, EngineError, StepTerminated
from anytime.runtime.engine import EngineSpec, FloatArray, Health, Row, Seq
from anytime.runtime.ort_cache import GraphIO, GrowingCache, SharedCache, check_in_place, shared_cache

if TYPE_CHECKING:
    import onnxruntime

_PROVIDER = "CPUExecutionProvider"


def _import() -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise EngineError(f"onnxruntime cannot be imported ({error}): pip install 'anytime[cpu]'") from error
    return onnxruntime


class OrtEngine:
    """One model in one ONNX Runtime session on the CPU."""

    def __init__(self, bundle: Bundle, threads: int) -> None:
        self._ort = _import()
        manifest = bundle.manifest
        graph = _graph_for(bundle, self._ort.__version__)
        self._io = GraphIO(self._ort, self._open_session(bundle, graph, threads), manifest)
        self._free: list[SharedCache] = []
        self._shared = manifest.kv.layout == "shared"
        if self._shared:
            check_in_place(self._io)
        self._lock = threading.Lock()
        self._running: tuple[int, Any] | None = None
        self._terminated = -1
        self.spec = EngineSpec(
            name="onnxruntime",
            version=self._ort.__version__,
            provider=_PROVIDER,
            threads=threads,
            precision=graph.precision,
            vocab_size=manifest.vocab_size,
            max_rows=1,
            max_context=manifest.max_context,
        )

    def _open_session(self, bundle: Bundle, graph: Graph, threads: int) -> onnxruntime.InferenceSession:
        options = self._ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        # A spinning worker would take the core on which the caller waits for its deadline.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            session = self._ort.InferenceSession(str(bundle.file(graph.file)), options, providers=[_PROVIDER])
        except Exception as error:  # onnxruntime raises its own types for every kind of damage
            raise BundleError(f"ONNX Runtime cannot open {bundle.file(graph.file)}: {error}") from error
        if session.get_providers() != [_PROVIDER]:
            raise EngineError(f"asked for {_PROVIDER}, the session runs on {session.get_providers()}")
        return session

    def open(self) -> Seq:
        return Seq(0, shared_cache(self._io, self._free) if self._shared else GrowingCache(self._io))

    def fork(self, seq: Seq) -> Seq:
        return Seq(seq.length, seq.state.fork(seq.length))

    def truncate(self, seq: Seq, length: int) -> None:
        if not 0 <= length <= seq.length:
            raise ValueError(f"cannot truncate a sequence of {seq.length} tokens to {length}")
        if length < seq.length:
            seq.state.truncate(length)
            seq.length = length

    def close(self, seq: Seq) -> None:
        seq.state.close()
        seq.state, seq.length = None, 0

    def run(self, rows: Sequence[Row], generation: int) -> list[FloatArray]:
        if len(rows) != 1:
            raise ValueError(f"this engine runs one row at a time, got {len(rows)}")
        row = rows[0]
        length = row.seq.length + len(row.tokens)
        if not row.tokens or length > self.spec.max_context:
            raise ValueError(f"{len(row.tokens)} tokens behind {row.seq.length} do not fit {self.spec.max_context}")
        options = self._ort.RunOptions()  # one a run: its terminate flag, once set, stays set
        with self._lock:
            if generation == self._terminated:
                raise StepTerminated("the run was terminated before it began")
            self._running = (generation, options)
        try:
            logits = row.seq.state.run(row.tokens, row.seq.length, options)
        except Exception as error:
            if options.terminate:
                raise StepTerminated("the run was terminated") from error
            raise EngineError(f"ONNX Runtime failed: {error}") from error
        finally:
            with self._lock:
                self._running = None
        row.seq.length = length
        return [logits[-row.want :]]

    def terminate(self, generation: int) -> None:
        with self._lock:
            self._terminated = generation
            if self._running is not None and self._running[0] == generation:
                self._running[1].terminate = True

    def health(self) -> Health:
        return Health.READY if self._running is None else Health.BUSY


def _graph_for(bundle: Bundle, version: str) -> Graph:
    """The first variant that this ONNX Runtime can run."""
    have = _parts(version)
    for graph in bundle.manifest.graphs:
        name, _, needs = graph.runtime.partition(">=")
        if name == "onnxruntime" and have >= _parts(needs):
            return graph
    needs = ", ".join(graph.runtime for graph in bundle.manifest.graphs)
    raise BundleError(f"bundle {bundle.path} needs {needs}; this is onnxruntime {version}: upgrade it")


def _parts(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
