# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""How far the engine is from its predictions just now: a factor, a margin, and counts of what went over.

Times are nanoseconds. The plain Python reference is ``anytime.scheduler.reference.Drift``.
"""

from libc.math cimport INFINITY

STEP = 0
RUN = 1

cdef enum:
    _KINDS = 2
    _WINDOW = 15  # actions whose median ratio is the pace: eight slow ones in it are noticed, one is not
    _KEPT = 10_000  # the counts are halved when they reach so many actions, so that old ones fade

cdef double _HOLD = 0.5 ** (1.0 / 200.0)  # what is above the pace halves in 200 actions
cdef double _AWAY = 1.15


cdef class Drift:
    """Watches measured against predicted times of engine actions.

    ``factor`` (>= 1) is what predictions must be multiplied by now: up at once with ``ratio``, the median of the last 15
    actions' measured over predicted time, and down to it by half in 200 actions. ``margin`` bounds what remains above
    that, by the rule of adaptive conformal inference (Gibbs and Candès 2021) in the form that tracks the quantile itself
    (Angelopoulos et al. 2023): up by ``eta · (1 − delta)`` where an action overran ``predicted · margin · factor``, else
    down by ``eta · delta``, within ``least`` and ``most``. Unless it has to stay at ``most``, no more than a share of
    ``delta`` overruns in the long run, whatever the times do.

    Of the ``actions`` counted, ``overruns`` took longer than that, ``misses`` longer than ``planned_margin``, the one
    begun with, would have had it. ``away`` counts the last actions in a row with a ratio over 1.15 or below 1 / 1.15.
    """

    cdef readonly double factor, margin, planned_margin, delta, eta, least, most, ratio
    cdef readonly double actions, overruns, misses
    cdef readonly long away
    cdef double _recent[_WINDOW]
    cdef double _ordered[_WINDOW]
    cdef double _predicted_ns[_KINDS]
    cdef double _measured_ns[_KINDS]
    cdef int _next

    def __init__(self, double margin, double delta, double eta, double least, double most):
        if not 1 <= least <= margin <= most < INFINITY:
            raise ValueError(f"the margin {margin} must lie between {least} and {most}, from 1 on and finite")
        if not (0 < delta < 1 and 0 < eta < INFINITY):
            raise ValueError(f"delta {delta} must lie between 0 and 1, eta {eta} above 0 and be finite")
        self.margin = self.planned_margin = margin
        self.delta, self.eta, self.least, self.most = delta, eta, least, most
        self.factor = self.ratio = 1.0
        self.actions = self.overruns = self.misses = 0.0
        self.away = self._next = 0
        cdef int i
        for i in range(_WINDOW):
            self._recent[i] = self._ordered[i] = 1.0
        for i in range(_KINDS):
            self._predicted_ns[i] = self._measured_ns[i] = 0.0

    cpdef void update(self, long long predicted_ns, long long measured_ns, int kind=STEP) except *:
        """Take note of one action, ``STEP`` or ``RUN``, that was predicted to take so long and did take so long."""
        if predicted_ns <= 0 or measured_ns < 0:
            raise ValueError(f"predicted {predicted_ns} ns must be above 0, measured {measured_ns} ns not below")
        if not 0 <= kind < _KINDS:
            raise ValueError(f"the kind {kind} is none: it is STEP (0) or RUN (1)")
        cdef double predicted = <double>predicted_ns, measured = <double>measured_ns
        cdef bint overran = measured > predicted * self.margin * self.factor
        self._count(predicted, measured, kind, overran)
        self.margin = min(self.most, max(self.least, self.margin + self.eta * ((1.0 if overran else 0.0) - self.delta)))
        self._note(measured / predicted)
        self.ratio = self._ordered[_WINDOW // 2]
        cdef double target = max(1.0, self.ratio)
        self.factor = target if target >= self.factor else target + (self.factor - target) * _HOLD
        self.away = self.away + 1 if self.ratio > _AWAY or self.ratio * _AWAY < 1.0 else 0

    cpdef void doubt(self) noexcept:
        """Forget half of what the factor is above 1."""
        self.factor = 0.5 * (1.0 + self.factor)

    cpdef void expect(self, double slowdown) except *:
        """Take it that actions take so many times as long from now on, until they show otherwise."""
        if not 1 <= slowdown < INFINITY:
            raise ValueError(f"the slowdown {slowdown} must be 1 or more, and finite")
        self.factor = max(self.factor, slowdown)

    cpdef void recover(self) noexcept:
        """What slowed actions down is over: back to the pace that the last of them show."""
        self.factor = max(1.0, self.ratio)

    cpdef double pace(self, int kind) except -1:
        """Measured over predicted time of all counted actions of a kind; 1 of none."""
        if not 0 <= kind < _KINDS:
            raise ValueError(f"the kind {kind} is none: it is STEP (0) or RUN (1)")
        return self._measured_ns[kind] / self._predicted_ns[kind] if self._predicted_ns[kind] > 0 else 1.0

    cdef void _count(self, double predicted, double measured, int kind, bint overran) noexcept nogil:
        cdef int i
        if self.actions >= _KEPT:
            self.actions *= 0.5
            self.overruns *= 0.5
            self.misses *= 0.5
            for i in range(_KINDS):
                self._predicted_ns[i] *= 0.5
                self._measured_ns[i] *= 0.5
        self.actions += 1.0
        self.overruns += 1.0 if overran else 0.0
        self.misses += 1.0 if measured > predicted * self.planned_margin else 0.0
        self._predicted_ns[kind] += predicted
        self._measured_ns[kind] += measured

    cdef void _note(self, double ratio) noexcept nogil:
        """The oldest ratio gives way to this one; those in between move up or down in order."""
        cdef double old = self._recent[self._next]
        cdef int i = 0
        self._recent[self._next] = ratio
        self._next = (self._next + 1) % _WINDOW
        while self._ordered[i] != old:
            i += 1
        while i + 1 < _WINDOW and self._ordered[i + 1] < ratio:
            self._ordered[i] = self._ordered[i + 1]
            i += 1
        while i > 0 and self._ordered[i - 1] > ratio:
            self._ordered[i] = self._ordered[i - 1]
            i -= 1
        self._ordered[i] = ratio
