# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Requests by deadline: who runs next, who still fits, and who gets how much of the time that is left.

Times are nanoseconds. The plain Python reference is ``anytime.scheduler.plain_agenda``.
"""

from libc.stdlib cimport calloc, free
from libc.string cimport memmove

cdef struct Entry:
    long long key, ready_ns, mandatory_ns, granted_ns, slack_ns
    long long resume_ns  # the time with which it goes on, where it is suspended; 0 where it is not
    int priority
    bint seated  # it has a row in the engine
    bint answered
    bint closed  # a stage of it did not fit, so none behind that one may be granted


cdef class Agenda:
    """At most ``capacity`` requests, sorted by the instant at which each must be ready.

    A request needs ``mandatory_ns`` of the engine (its prompt and first answer) and may use ``granted_ns`` beyond.
    Of two that must be ready at the same instant, the one with the lower key comes first.
    """

    cdef Entry *_entries
    cdef Py_ssize_t _count, _capacity

    def __cinit__(self, Py_ssize_t capacity):
        if capacity < 1:
            raise ValueError(f"an agenda for {capacity} requests: give it room for one or more")
        self._entries = <Entry *>calloc(capacity, sizeof(Entry))
        if self._entries == NULL:
            raise MemoryError(f"no memory for an agenda of {capacity} requests")
        self._capacity = capacity

    def __dealloc__(self):
        free(self._entries)

    def __len__(self):
        return self._count

    cdef Py_ssize_t _find(self, long long key) except -1:
        cdef Py_ssize_t i
        for i in range(self._count):
            if self._entries[i].key == key:
                return i
        raise KeyError(key)

    cdef Py_ssize_t _place(self, long long ready_ns, long long key) noexcept nogil:
        """Where such an entry belongs."""
        cdef Py_ssize_t i = 0
        while i < self._count and (self._entries[i].ready_ns < ready_ns or (
                self._entries[i].ready_ns == ready_ns and self._entries[i].key < key)):
            i += 1
        return i

    cdef void _insert(self, Entry entry) noexcept nogil:
        cdef Py_ssize_t i = self._place(entry.ready_ns, entry.key)
        memmove(&self._entries[i + 1], &self._entries[i], (self._count - i) * sizeof(Entry))
        self._entries[i] = entry
        self._count += 1

    cdef Entry _take(self, Py_ssize_t i) noexcept nogil:
        cdef Entry entry = self._entries[i]
        self._count -= 1
        memmove(&self._entries[i], &self._entries[i + 1], (self._count - i) * sizeof(Entry))
        return entry

    cpdef add(self, long long key, long long ready_ns, long long mandatory_ns, int priority=0):
        """Take a request in, without a row.

        Raises:
            OverflowError: there is no room for one more.
        """
        cdef Entry entry
        if self._count >= self._capacity:
            raise OverflowError(f"{self._count} requests are all there is room for")
        entry.key, entry.ready_ns, entry.mandatory_ns, entry.granted_ns = key, ready_ns, mandatory_ns, 0
        entry.slack_ns, entry.resume_ns, entry.priority = 0, 0, priority
        entry.seated = entry.answered = entry.closed = False
        self._insert(entry)

    cpdef remove(self, long long key):
        """Forget a request."""
        self._take(self._find(key))

    cpdef move(self, long long key, long long ready_ns):
        """It must be ready at another instant from now on."""
        cdef Entry entry = self._take(self._find(key))
        entry.ready_ns, entry.resume_ns = ready_ns, 0
        self._insert(entry)

    cpdef seat(self, long long key):
        """It has a row in the engine from now on."""
        self._entries[self._find(key)].seated = True

    cpdef leave(self, long long key):
        """Somebody else has its row, until it is seated again."""
        self._entries[self._find(key)].seated = False

    cpdef spend(self, long long key, long long ns):
        """It ran for so long."""
        cdef Entry *entry = &self._entries[self._find(key)]
        if entry.answered:
            entry.granted_ns = max(0, entry.granted_ns - ns)
        else:
            entry.mandatory_ns = max(0, entry.mandatory_ns - ns)

    cpdef suspend(self, long long key, long long resume_ns):
        """It has used its time up: it stands still until others leave it so much, it is moved, or nobody else can run.

        What others leave is looked at when time is shared out anew (``grant``).
        """
        cdef Entry *entry = &self._entries[self._find(key)]
        entry.granted_ns, entry.resume_ns = 0, max(1, resume_ns)

    cpdef bint answer(self, long long key) except *:
        """It has its first answer: nothing more of it is mandatory. Whether that is news."""
        cdef Entry *entry = &self._entries[self._find(key)]
        cdef bint news = not entry.answered
        entry.answered, entry.mandatory_ns = True, 0
        return news

    cpdef bint fits(self, long long now, long long ready_ns, long long mandatory_ns, long long blocking_ns,
                    bint keep_grants=False, long long without=-1, long long running=-1) noexcept:
        """Whether one more request fits, with every mandatory part done in time; O(n).

        Optional time counts as taken only with ``keep_grants``. ``blocking_ns`` is what may run before anything can be
        begun; where it is a step of the request ``running``, it is part of what that needs. The request ``without`` is
        left out.
        """
        cdef long long demand_ns = now + blocking_ns, needs_ns
        cdef bint counted = False
        cdef Py_ssize_t i
        for i in range(self._count):
            if self._entries[i].key == without:
                continue
            if not counted and self._entries[i].ready_ns > ready_ns:
                demand_ns += mandatory_ns
                counted = True
                if demand_ns > ready_ns:
                    return False
            needs_ns = self._entries[i].mandatory_ns + (self._entries[i].granted_ns if keep_grants else 0)
            demand_ns += max(0, needs_ns - blocking_ns) if self._entries[i].key == running else needs_ns
            if counted and demand_ns > self._entries[i].ready_ns:
                return False
        return counted or demand_ns + mandatory_ns <= ready_ns

    cpdef long long pick(self, Py_ssize_t rows) noexcept:
        """The key of the request to run next, -1 when none can; O(n).

        Mandatory parts first (imprecise computation, Liu et al. 1991), and the earliest deadline among them, as among
        thoughts: so every request soon has an answer in hand, and who comes later finds nothing undone for a thought.
        Those that have no row can run while ``rows`` are free. One that is suspended runs only when nobody else can.
        """
        cdef Py_ssize_t i, first = -1, suspended = -1
        cdef Entry *entry
        for i in range(self._count):
            entry = &self._entries[i]
            if not entry.seated and rows < 1:
                continue
            if entry.resume_ns:
                if suspended < 0:
                    suspended = i
            elif not entry.answered:
                return entry.key
            elif first < 0:
                first = i
        if first < 0:
            first = suspended
        return -1 if first < 0 else self._entries[first].key

    cpdef long long until(self, long long key, long long now) except? -1:
        """Until when it may run without a break, so that all others still get theirs; never less than it must.

        That is its own time and all that nobody behind it needs.
        """
        cdef Py_ssize_t i, at = self._find(key)
        cdef long long demand_ns = now, spare_ns = 0, own_ns
        for i in range(self._count):
            demand_ns += self._entries[i].mandatory_ns + self._entries[i].granted_ns
            if i == at or (i > at and self._entries[i].ready_ns - demand_ns < spare_ns):
                spare_ns = self._entries[i].ready_ns - demand_ns
        own_ns = self._entries[at].mandatory_ns + self._entries[at].granted_ns + spare_ns
        return min(self._entries[at].ready_ns, now + max(self._entries[at].mandatory_ns, own_ns))

    cpdef bint affords(self, long long now, long long key, keys, long long alone_ns, long long together_ns) except -1:
        """Whether ``keys`` may run together for ``together_ns``, instead of ``key`` alone for ``alone_ns``.

        Each of them then needs ``alone_ns`` less of the engine. True where no deadline is missed that would hold, or
        missed by more, than if ``key`` ran alone; O(n).
        """
        cdef long long together = now + together_ns, alone = now + alone_ns, needs, done
        cdef Py_ssize_t i
        cdef Entry *entry
        cdef set running = set(keys)
        for i in range(self._count):
            entry = &self._entries[i]
            needs = entry.mandatory_ns + entry.granted_ns
            done = min(needs, alone_ns)
            together += needs - (done if entry.key in running else 0)
            alone += needs - (done if entry.key == key else 0)
            if together > entry.ready_ns and together > alone:
                return False
        return True

    cpdef grant(self, long long now, stages):
        """Share the time that is left out anew.

        ``stages`` are ``(key, cost_ns, gain)``, those of one request in the order in which they can be had. The highest
        priority is served first, and within it the stage that gains most for its time; a stage is granted where every
        deadline behind it still holds. Optimal for stages of equal cost and falling gains, else within one stage (Liu
        et al. 1991, imprecise computation). Whether all were.
        """
        cdef long long demand_ns = now, cost_ns
        cdef bint all_granted = True
        cdef Py_ssize_t i, j
        cdef Entry *entry
        cdef dict places = {}
        for i in range(self._count):
            entry = &self._entries[i]
            demand_ns += entry.mandatory_ns
            entry.granted_ns, entry.slack_ns, entry.closed = 0, entry.ready_ns - demand_ns, False
            places[entry.key] = i
        ranked = []
        for key, cost_ns, gain in stages:
            i = places[key]
            if cost_ns > 0:
                ranked.append((-self._entries[i].priority, -<double>gain / cost_ns, i, cost_ns))
        ranked.sort(key=_rank)
        for _, _, i, cost_ns in ranked:
            if self._entries[i].closed:
                continue
            for j in range(i, self._count):
                if self._entries[j].slack_ns < cost_ns:
                    self._entries[i].closed, all_granted = True, False
                    break
            else:
                self._entries[i].granted_ns += cost_ns
                for j in range(i, self._count):
                    self._entries[j].slack_ns -= cost_ns
        self._resume()
        return all_granted

    cdef void _resume(self) noexcept nogil:
        """Let those go on that may run for long enough, by what they are granted and all that nobody behind needs."""
        cdef long long spare_ns = 0
        cdef Py_ssize_t i
        for i in range(self._count - 1, -1, -1):
            if i == self._count - 1 or self._entries[i].slack_ns < spare_ns:
                spare_ns = self._entries[i].slack_ns
            if self._entries[i].granted_ns + spare_ns >= self._entries[i].resume_ns:
                self._entries[i].resume_ns = 0

    def granted_ns(self, long long key):
        """Optional time it may still use."""
        return self._entries[self._find(key)].granted_ns

    def mandatory_ns(self, long long key):
        """What it still must have."""
        return self._entries[self._find(key)].mandatory_ns

    def ready_ns(self, long long key):
        """When it must be ready."""
        return self._entries[self._find(key)].ready_ns

    def seated(self, long long key):
        """Whether it has a row in the engine."""
        return bool(self._entries[self._find(key)].seated)

    def keys(self):
        """Of all requests, the earliest deadline first."""
        return [self._entries[i].key for i in range(self._count)]


def _rank(item):
    return item[:2]  # equal ones stay in the order given, so that a request's stages do


def time_picks(Agenda agenda, long rounds):
    """Run ``pick`` ``rounds`` times in a row; the results' sum, so that none is skipped."""
    cdef long long total = 0
    cdef long i
    for i in range(rounds):
        total += agenda.pick(2)
    return total


def time_fits(Agenda agenda, long rounds, long long now, long long ready_ns):
    """Run ``fits`` ``rounds`` times in a row; how often it did."""
    cdef long long total = 0
    cdef long i
    for i in range(rounds):
        total += agenda.fits(now + i, ready_ns, 1_000_000, 1_000_000)
    return total
