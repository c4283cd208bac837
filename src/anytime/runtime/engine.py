"""The engine protocol: what a backend does for the decode loop, on sequences that it owns."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import Any, Literal, Protocol, TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt

FloatArray: TypeAlias = npt.NDArray[np.float32]
EngineName: TypeAlias = Literal["onnxruntime", "tensorrt", "cuda", "tensorrt-rtx"]


class Health(Enum):
    READY = "ready"
    BUSY = "busy"
    LOST = "lost"


class EngineSpec(msgspec.Struct, frozen=True):
    """What an engine can do, and what identifies it in a latency profile."""

    name: str
    version: str
    provider: str
    threads: int
    precision: str
    vocab_size: int
    max_rows: int
    max_context: int
    gpu: str = "none"


class Seq(msgspec.Struct, eq=False):
    """A sequence in the engine: its length in tokens, and the engine's own state."""

    length: int
    state: Any


class Row(msgspec.Struct, frozen=True):
    """Tokens to append to a sequence, and for how many of the last ones logits are wanted."""

    seq: Seq
    tokens: Sequence[int]
    want: int = 1


class Burst(msgspec.Struct, frozen=True):
    """Greedy steps of a sequence in a row: the token to begin with, and those at which to end."""

    seq: Seq
    token: int
    ends: Sequence[int]


class Snapshot(msgspec.Struct, frozen=True):
    """Keys and values of a sequence outside the engine: [2 · layers, head, position, channel]."""

    length: int
    cache: FloatArray


class Engine(Protocol):
    """Runs tokens through the model. One thread calls it; ``terminate`` and ``health`` come from any."""

    @property
    def spec(self) -> EngineSpec: ...

    @property
    def free_rows(self) -> int:
        """Sequences that can still be opened."""
        ...

    def open(self) -> Seq:
        """An empty sequence.

        Raises:
            EngineError: all rows are in use.
        """
        ...

    def fork(self, seq: Seq, n: int = 1) -> list[Seq]:
        """``n`` more sequences that begin as this one stands, where possible in rows beside it.

        Raises:
            EngineError: there are not that many rows left.
        """
        ...

    def truncate(self, seq: Seq, length: int) -> None:
        """Forget everything behind the first ``length`` tokens."""
        ...

    def snapshot(self, seq: Seq) -> Snapshot:
        """A copy of the sequence as it stands, outside the engine."""
        ...

    def restore(self, snapshot: Snapshot) -> Seq:
        """A sequence that stands where the snapshot's stood.

        Raises:
            EngineError: all rows are in use, or the snapshot is another model's.
        """
        ...

    def close(self, seq: Seq) -> None:
        """Give the sequence's memory back."""
        ...

    def run(self, rows: Sequence[Row], generation: int) -> list[FloatArray]:
        """Append every row's tokens to its sequence; the logits of its last ``want`` tokens, [want, vocab].

        Rows of one token each are run together. The logits are valid until the engine's next run.

        Raises:
            StepTerminated: ``terminate(generation)`` came first; the sequences stand as before.
            EngineError: the backend failed.
        """
        ...

    def extend(self, bursts: Sequence[Burst], count: int, generation: int) -> list[list[int]]:
        """Up to ``count`` greedy steps of all bursts: run each one's token, take its likeliest next one, run that.

        Ends early behind a step in which one of them took a token of its ``ends``, or when it is terminated after a
        step. The tokens that each took, of all as many; each but the last has been run.

        Raises:
            StepTerminated: ``terminate(generation)`` came before the first step was done.
            EngineError: the backend failed.
        """
        ...

    def span(self, seqs: Sequence[Seq]) -> int | None:
        """Rows that a step of all these sequences computes, those that lie between them included; None if it cannot."""
        ...

    def terminate(self, generation: int) -> None:
        """End the run of this generation as soon as the backend can; ignored when it is not the current one."""
        ...

    def health(self) -> Health: ...
