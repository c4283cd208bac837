"""Attention over a cache: ``__file__`` is the library that ONNX Runtime loads, the functions are its arithmetic."""

import numpy as np
import numpy.typing as npt

_Floats = npt.NDArray[np.float32]
_Places = npt.NDArray[np.int64]

def widths() -> tuple[int, ...]:
    """How many floats a vector can have here, widest first: the operator takes the first."""

def attend(
    queries: _Floats, froms: _Places, ends: _Places, keys: _Floats, values: _Floats, scale: float, lanes: int
) -> None:
    """Queries become their attention over a range of positions, in vectors of ``lanes`` floats.

    Args:
        queries: [rows, channels], at most 32 rows of a multiple of 16 channels; overwritten.
        froms, ends: [rows], the positions that each looks at, the end not included.
        keys, values: [positions, channels].
        scale: of a query's products with keys.
        lanes: one of ``widths()``.

    Raises:
        ValueError: a shape, a range or a width that is not so.
    """
