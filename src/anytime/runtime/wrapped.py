"""An engine around another: all that is not done otherwise is handed on."""

from __future__ import annotations

from collections.abc import Sequence

from anytime.runtime.engine import Engine, EngineSpec, Health, Seq, Snapshot


class Wrapped:
    """Everything of an ``Engine`` but ``run`` and ``extend``."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    @property
    def spec(self) -> EngineSpec:
        return self._engine.spec

    @property
    def free_rows(self) -> int:
        return self._engine.free_rows

    def open(self) -> Seq:
        return self._engine.open()

    def fork(self, seq: Seq, n: int = 1) -> list[Seq]:
        return self._engine.fork(seq, n)

    def truncate(self, seq: Seq, length: int) -> None:
        self._engine.truncate(seq, length)

    def snapshot(self, seq: Seq) -> Snapshot:
        return self._engine.snapshot(seq)

    def restore(self, snapshot: Snapshot) -> Seq:
        return self._engine.restore(snapshot)

    def close(self, seq: Seq) -> None:
        self._engine.close(seq)

    def span(self, seqs: Sequence[Seq]) -> int | None:
        return self._engine.span(seqs)

    def terminate(self, generation: int) -> None:
        self._engine.terminate(generation)

    def health(self) -> Health:
        return self._engine.health()
