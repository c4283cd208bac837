# cython: language_level=3, boundscheck=False, wraparound=False
"""The attention operator for ONNX Runtime, in a library of its own: ``attention_op.c``.

``__file__`` is what ONNX Runtime's ``RegisterCustomOpsLibrary`` is given, whether by our engine or by a session in
Python. Its arithmetic can be called on its own, at each width of vectors that this processor has. Plain Python
reference: ``tests/test_attention.py``.
"""


cdef extern from "attend.h":
    ctypedef void attend_function(float **queries, const long *froms, const long *ends, int rows, const float *keys,
                                  const float *values, long channels, float scale) noexcept
    attend_function *attend_of(int lanes)
    enum:
        ROWS
        MOST_CHANNELS
        MULTIPLE


def widths():
    return tuple(lanes for lanes in (16, 8, 4) if attend_of(lanes) != NULL)


def attend(float[:, ::1] queries, long[::1] froms, long[::1] ends, const float[:, ::1] keys, const float[:, ::1] values,
           float scale, int lanes):
    cdef attend_function *kernel = attend_of(lanes)
    cdef Py_ssize_t rows = queries.shape[0], channels = queries.shape[1], context = keys.shape[0], row
    cdef float *places[ROWS]
    if kernel == NULL:
        raise ValueError(f"lanes is {lanes}: this processor has vectors of {', '.join(map(str, widths()))} floats")
    if not 0 < rows <= ROWS or channels > MOST_CHANNELS or channels % MULTIPLE != 0 or channels == 0:
        raise ValueError(f"queries are {rows} x {channels}: give 1 to {ROWS} of a multiple of {MULTIPLE} channels, at "
                         f"most {MOST_CHANNELS}")
    if keys.shape[1] != channels or values.shape[1] != channels or values.shape[0] != context:
        raise ValueError(f"keys are {context} x {keys.shape[1]}, values {values.shape[0]} x {values.shape[1]}: give as "
                         f"many of each, of {channels} channels")
    if froms.shape[0] != rows or ends.shape[0] != rows:
        raise ValueError(f"there are {froms.shape[0]} froms and {ends.shape[0]} ends of {rows} queries: give one each")
    for row in range(rows):
        if not 0 <= froms[row] < ends[row] <= context:
            raise ValueError(f"query {row} looks at [{froms[row]}, {ends[row]}): give a range within {context} positions")
        places[row] = &queries[row, 0]
    kernel(places, &froms[0], &ends[0], <int>rows, &keys[0, 0], &values[0, 0], channels, scale)
