# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Choosing a token from logits, without the GIL. The plain Python reference is ``anytime.runtime.sampling``."""

from libc.math cimport exp
from libc.stdint cimport int64_t

cdef extern from "largest.h" nogil:
    float largest_of(const float *, long) noexcept

cdef enum:
    _BLOCK = 4096


cdef long argmax(const float *logits, long vocab) noexcept nogil:
    """The first of the largest: the block it is in, then its place there."""
    cdef long start = 0, best = 0
    cdef float most = logits[0], here
    while start < vocab:
        here = largest_of(logits + start, min(_BLOCK, vocab - start))
        if here > most:
            most, best = here, start
        start += _BLOCK
    while best < vocab - 1 and logits[best] != most:
        best += 1
    return best if logits[best] == most else 0


def greedy(const float[::1] logits):
    """The likeliest token, the first of them where several are."""
    cdef long best
    with nogil:
        best = argmax(&logits[0], logits.shape[0])
    return best


def pick(const float[::1] logits, const int64_t[::1] allowed):
    """The likeliest allowed token (all are where ``allowed`` is None), and its probability among those allowed."""
    cdef long i, token, best = 0, count
    cdef double total = 0.0
    cdef float most
    if allowed is None:
        with nogil:
            best = argmax(&logits[0], logits.shape[0])
            most = logits[best]
            for i in range(logits.shape[0]):
                total += exp(<double>logits[i] - most)
        return best, 1.0 / total
    count = allowed.shape[0]
    with nogil:
        best = allowed[0]
        for i in range(1, count):
            token = allowed[i]
            if logits[token] > logits[best]:
                best = token
        most = logits[best]
        for i in range(count):
            total += exp(<double>logits[allowed[i]] - most)
    return best, 1.0 / total
