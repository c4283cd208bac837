"""The ONNX Runtime engine: graphs as Optimum exports them, the default that works everywhere.

The graph concatenates its key/value cache, so a sequence is a tuple of immutable tensors: forking shares them, and a
run that was terminated leaves nothing behind.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from anytime.bundle import Bundle, Graph
from anytime.errors import BundleError, EngineError, StepTerminated
from anytime.runtime.engine import EngineSpec, FloatArray, Health, Row, Seq

if TYPE_CHECKING:
    import onnxruntime

_PROVIDER = "CPUExecutionProvider"


def _import() -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise EngineError("onnxruntime is not installed: pip install 'anytime[cpu]'") from error
    return onnxruntime


class OrtEngine:
    """One model in one ONNX Runtime session on the CPU."""

    def __init__(self, bundle: Bundle, threads: int) -> None:
        self._ort = _import()
        manifest = bundle.manifest
        graph = _graph_for(bundle, self._ort.__version__)
        self._session = self._open_session(bundle, graph, threads)
        self._kv = [f"past_key_values.{i}.{part}" for i in range(manifest.kv.layers) for part in ("key", "value")]
        presents = [name.replace("past_key_values", "present") for name in self._kv]
        self._outputs = ["logits", *presents]
        self._inputs = {node.name for node in self._session.get_inputs()}
        empty = np.zeros((1, manifest.kv.heads, 0, manifest.kv.head_dim), dtype=manifest.kv.dtype)
        self._empty = tuple(self._value(empty) for _ in self._kv)
        self._ones = np.ones((1, manifest.max_context), dtype=np.int64)
        self._positions = np.arange(manifest.max_context, dtype=np.int64)[None]
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

    def _value(self, array: Any) -> Any:
        return self._ort.OrtValue.ortvalue_from_numpy(array)

    def open(self) -> Seq:
        return Seq(0, self._empty)

    def fork(self, seq: Seq) -> Seq:
        return Seq(seq.length, seq.state)

    def truncate(self, seq: Seq, length: int) -> None:
        if not 0 <= length <= seq.length:
            raise ValueError(f"cannot truncate a sequence of {seq.length} tokens to {length}")
        if length < seq.length:
            seq.state = tuple(self._value(np.ascontiguousarray(v.numpy()[:, :, :length])) for v in seq.state)
            seq.length = length

    def close(self, seq: Seq) -> None:
        seq.state, seq.length = self._empty, 0

    def run(self, rows: Sequence[Row], generation: int) -> list[FloatArray]:
        if len(rows) != 1:
            raise ValueError(f"this engine runs one row at a time, got {len(rows)}")
        row = rows[0]
        length = row.seq.length + len(row.tokens)
        if not row.tokens or length > self.spec.max_context:
            raise ValueError(f"{len(row.tokens)} tokens behind {row.seq.length} do not fit {self.spec.max_context}")
        feeds = self._feeds(row, length)
        options = self._ort.RunOptions()  # one a run: its terminate flag, once set, stays set
        with self._lock:
            if generation == self._terminated:
                raise StepTerminated("the run was terminated before it began")
            self._running = (generation, options)
        try:
            logits, *state = self._session.run_with_ort_values(self._outputs, feeds, options)
        except Exception as error:
            if options.terminate:
                raise StepTerminated("the run was terminated") from error
            raise EngineError(f"ONNX Runtime failed: {error}") from error
        finally:
            with self._lock:
                self._running = None
        row.seq.state, row.seq.length = tuple(state), length
        return [logits.numpy()[0, -row.want :]]

    def _feeds(self, row: Row, length: int) -> dict[str, Any]:
        feeds = dict(zip(self._kv, row.seq.state, strict=True))
        feeds["input_ids"] = self._value(np.array([row.tokens], dtype=np.int64))
        if "attention_mask" in self._inputs:
            feeds["attention_mask"] = self._value(self._ones[:, :length])
        if "position_ids" in self._inputs:
            feeds["position_ids"] = self._value(self._positions[:, row.seq.length : length])
        return feeds

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
