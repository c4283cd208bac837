"""Which rows of a cache a sequence gets: side by side where there are such, because those run as one batch."""

from __future__ import annotations

from collections.abc import Sequence

from anytime.errors import EngineError


def choose(free: Sequence[int], n: int, rows: int, beside: int = -1) -> list[int]:
    """``n`` of the ``free`` ones of ``rows``, side by side where there are such, behind ``beside`` where possible.

    Raises:
        EngineError: there are not that many.
    """
    if n > len(free):
        raise EngineError(f"{n} more rows are wanted and {len(free)} of {rows} are free: close some")
    runs = [range(i, i + n) for i in free if all(k in free for k in range(i, i + n))]
    best = min(runs, key=lambda run: (run[0] != beside + 1, run[0]), default=None)
    return list(best) if best is not None else list(free[:n])
