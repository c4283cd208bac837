# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""The arithmetic of time: what a run costs, how much thought fits, and what to do next.

Times are nanoseconds, lengths tokens. The plain Python reference is ``anytime.scheduler.reference``.
"""

from libc.math cimport INFINITY, ceil, floor, sqrt

THINK = 0
PROBE = 1
CLOSE = 2

cdef double _LIKELY = 1.1  # times its prediction, a run fits more often than not

cdef enum:
    _THINK = 0
    _PROBE = 1
    _CLOSE = 2


cdef class Latency:
    """Costs of engine runs: ``alpha·n·(context + n/2) + beta·n + gamma`` for n tokens, ``p·context + q`` for one.

    ``run_margin`` and ``step_margin`` (>= 1) turn a prediction into an upper bound.
    """

    cdef readonly double alpha, beta, gamma, p, q, run_margin, step_margin

    def __init__(self, double alpha, double beta, double gamma, double p, double q,
                 double run_margin=1.0, double step_margin=1.0):
        if not (0 <= alpha < INFINITY and 0 <= beta < INFINITY and 0 <= gamma < INFINITY
                and 0 <= p < INFINITY and 0 <= q < INFINITY):
            raise ValueError("latency coefficients must be finite and >= 0")
        if not (1 <= run_margin < INFINITY and 1 <= step_margin < INFINITY):
            raise ValueError("margins must be finite and >= 1")
        if p + q <= 0:
            raise ValueError("a decode step must cost something")
        self.alpha, self.beta, self.gamma, self.p, self.q = alpha, beta, gamma, p, q
        self.run_margin, self.step_margin = run_margin, step_margin

    cdef double _run(self, long n, long context) noexcept nogil:
        cdef double cost
        if n <= 0:
            return 0.0
        if n == 1:
            return self.p * context + self.q
        cost = self.alpha * n * (context + 0.5 * n) + self.beta * n + self.gamma
        return max(cost, self.p * context + self.q)

    cdef double _upper(self, long n, long context) noexcept nogil:
        return self._run(n, context) * (self.step_margin if n == 1 else self.run_margin)

    cdef double _closing(self, long context, long close_tokens, long answer_steps) noexcept nogil:
        cdef double cost = self._upper(close_tokens + 1, context)
        if answer_steps > 0:
            context += close_tokens + 1
            cost += self.step_margin * answer_steps * (
                self.p * (context + 0.5 * (answer_steps - 1)) + self.q)
        return cost

    cpdef long long run_ns(self, long n, long context) noexcept:
        """Predicted cost of running n tokens behind ``context`` others; 0 for n <= 0."""
        return <long long>ceil(self._run(n, context))

    cpdef long long upper_ns(self, long n, long context) noexcept:
        """Upper bound of ``run_ns``."""
        return <long long>ceil(self._upper(n, context))

    cpdef long long closing_ns(self, long context, long close_tokens, long answer_steps) noexcept:
        """Upper bound of closing the thought: the pending token with the close tag, then the answer's further steps."""
        return <long long>ceil(self._closing(context, close_tokens, answer_steps))

    cpdef long long likely_closing_ns(self, long context, long close_tokens, long answer_steps) noexcept:
        """What a closing likely takes: a tenth more than predicted, and never more than ``closing_ns``."""
        cdef double cost = self._run(close_tokens + 1, context) + self._thought(answer_steps, context + close_tokens + 1)
        return <long long>ceil(min(_LIKELY * cost, self._closing(context, close_tokens, answer_steps)))

    cdef double _thought(self, long steps, long context) noexcept nogil:
        return steps * (self.p * context + self.q - 0.5 * self.p) + 0.5 * self.p * <double>steps * steps

    cpdef long think_steps(self, long long budget_ns, long context, long limit) noexcept:
        """Decode steps that fit in the budget from ``context`` on, at most ``limit``.

        ``floor(2B / (b + sqrt(b² + 2pB)))`` with ``b = p·context + q − p/2``, which is stable as p → 0.
        """
        cdef double b, budget = <double>budget_ns
        cdef double guess
        cdef long steps
        if budget_ns <= 0 or limit <= 0:
            return 0
        b = self.p * context + self.q - 0.5 * self.p
        guess = floor(2.0 * budget / (b + sqrt(b * b + 2.0 * self.p * budget)))
        if guess >= limit:
            guess = limit
        steps = <long>guess
        if steps > 0 and self._thought(steps, context) > budget:
            steps -= 1
        elif steps < limit and self._thought(steps + 1, context) <= budget:
            steps += 1
        return steps

    cpdef int next_action(self, long long left_ns, long context, long close_tokens, long answer_steps,
                          bint probe_due, bint finished) noexcept:
        """``THINK``, ``PROBE`` or ``CLOSE``, with ``left_ns`` until the answer must be ready.

        An action is taken only if the closing at the context it leads to still fits behind it.
        """
        cdef double closing
        if finished:
            return _CLOSE
        closing = self._closing(context + 1, close_tokens, answer_steps)
        if probe_due and self._closing(context, close_tokens, answer_steps) + closing <= left_ns:
            return _PROBE
        if self._upper(1, context) + closing <= left_ns:
            return _THINK
        return _CLOSE


    cpdef long sure_steps(self, long long left_ns, long context, long close_tokens, long answer_steps,
                          long limit) noexcept:
        """Steps in a row, at most ``limit``, whose upper bound leaves time for the closing at the context they lead to."""
        cdef long steps = 0
        while steps < limit and (self.step_margin * self._thought(steps + 1, context)
                                 + self._closing(context + steps + 1, close_tokens, answer_steps) <= left_ns):
            steps += 1
        return steps


def time_decisions(Latency latency, long rounds, long long left_ns, long context):
    """Run ``next_action`` and ``think_steps`` ``rounds`` times in a row; the results' sum, so that none is skipped."""
    cdef long long total = 0
    cdef long i
    for i in range(rounds):
        total += latency.next_action(left_ns + i, context, 1, 1, i & 15 == 0, False)
        total += latency.think_steps(left_ns + i, context, 100000)
    return total
