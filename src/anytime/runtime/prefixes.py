"""The prefix cache: what earlier requests, or the bundle itself, have already prefilled is not prefilled again."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from anytime.runtime.engine import Engine, Seq, Snapshot

_WORTH = 8  # tokens in common from which on a sequence is taken up again
_SHARE = 4  # one row in so many may be parked


class Prefix(msgspec.Struct, frozen=True):
    """Tokens with the engine's snapshot of them."""

    tokens: tuple[int, ...]
    snapshot: Snapshot


class _Parked(msgspec.Struct, eq=False):
    tokens: Sequence[int]
    seq: Seq


class Prefixes:
    """Sequences parked in the engine's own rows, the latest last; the oldest makes room for a new one.

    A request takes up the one that shares most with its prompt. What a bundle ships is kept for good and forked.
    """

    def __init__(self, engine: Engine, shipped: Prefix | None = None) -> None:
        self._engine = engine
        self._most = max(1, engine.spec.max_rows // _SHARE)
        self._parked: list[_Parked] = []
        self._shipped = _Parked(shipped.tokens, engine.restore(shipped.snapshot)) if shipped is not None else None

    def take(self, prompt: Sequence[int]) -> Seq:
        """A sequence that holds as much of the prompt as is known, but never its last token, which must be run."""
        wanted = prompt[:-1]
        best = max(self._parked, key=lambda parked: common(parked.tokens, wanted), default=None)
        length = common(best.tokens, wanted) if best is not None else 0
        if self._shipped is not None and (known := common(self._shipped.tokens, wanted)) > max(length, _WORTH - 1):
            self.make_room()
            (seq,) = self._engine.fork(self._shipped.seq)
            self._engine.truncate(seq, known)
        elif best is not None and length >= _WORTH:
            self._parked.remove(best)
            seq = best.seq
            self._engine.truncate(seq, length)
        else:
            self.make_room()
            seq = self._engine.open()
        return seq

    def known(self, prompt: Sequence[int]) -> int:
        """Tokens of the prompt that need not be run as things stand. Any thread may ask."""
        held = [parked.tokens for parked in (*self._parked, self._shipped) if parked is not None]
        length = max((common(tokens, prompt[:-1]) for tokens in held), default=0)
        return length if length >= _WORTH else 0

    def park(self, seq: Seq, prompt: Sequence[int]) -> None:
        """Keep what a sequence holds of its prompt for the next request."""
        known = min(seq.length, len(prompt))
        self._engine.truncate(seq, known)
        if known >= _WORTH:
            self.make_room()
            self._parked.append(_Parked(prompt[:known], seq))
        else:
            self._engine.close(seq)

    @property
    def parked(self) -> int:
        """Rows that are given back when a request needs them."""
        return len(self._parked)

    def clear(self) -> None:
        """Give the parked rows back to the engine, for a request that needs them."""
        while self._parked:
            self._engine.close(self._parked.pop().seq)

    def make_room(self) -> None:
        """See that a row is free, where one that is parked can be given back."""
        while self._parked and (len(self._parked) >= self._most or not self._engine.free_rows):
            self._engine.close(self._parked.pop(0).seq)


def common(a: Sequence[int], b: Sequence[int]) -> int:
    """How many tokens the two begin with in common."""
    length = 0
    for x, y in zip(a, b, strict=False):
        if x != y:
            break
        length += 1
    return length
