# cython: language_level=3, boundscheck=False, wraparound=False
"""Requests and answers in memory that two processes share, and waiting for them without the GIL.

The layout and the reader are in ``anytime_slots.h``. Every word has one writer: a slot's request belongs to the caller,
its answers to the worker. The caller believes nothing that it reads there: what it wrote itself it keeps, what the worker
wrote it verifies; so a worker that writes where it should not costs answers, no more. Times are nanoseconds of
CLOCK_MONOTONIC.
"""

from anytime.ext.bells cimport heed, listen, now, readable, ring, silence
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from cpython.exc cimport PyErr_CheckSignals
from cpython.mem cimport PyMem_Calloc, PyMem_Free, PyMem_Malloc
from libc.errno cimport EINTR, errno
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.string cimport memcpy, memset, strerror

cdef extern from "anytime_slots.h" nogil:
    const uint64_t ANYTIME_SLOTS_MAGIC
    const uint32_t ANYTIME_SLOTS_VERSION
    const size_t ANYTIME_SLOTS_HEADER_BYTES
    const size_t ANYTIME_CHECKED_BYTES
    const uint32_t ANYTIME_FINAL
    const uint32_t ANYTIME_VALID
    const uint32_t ANYTIME_FAILED
    ctypedef struct anytime_slots_header:
        uint64_t magic
        uint32_t version, slots, request_bytes, answer_bytes
    ctypedef struct anytime_slot:
        uint64_t asked, cancelled, lost
        int64_t deadline_ns
        uint32_t request_bytes
        uint64_t progress, sequence
        int64_t first_rung_ns
    ctypedef struct anytime_answer:
        uint64_t generation, sequence
        int64_t deadline_ns, published_ns
        double confidence
        uint32_t flags, text_bytes, detail_bytes, checksum
    ctypedef struct anytime_slots:
        anytime_slots_header header
    uint64_t anytime_load(const uint64_t *)
    void anytime_store(uint64_t *, uint64_t)
    uint32_t anytime_crc32(uint32_t, const void *, size_t)
    size_t anytime_slots_bytes(const anytime_slots *)
    int anytime_slots_attach(anytime_slots *, const void *, size_t)
    anytime_slot *anytime_slot_at(const anytime_slots *, uint32_t)
    char *anytime_request_at(const anytime_slots *, uint32_t)
    anytime_answer *anytime_buffer_at(const anytime_slots *, uint32_t, unsigned)
    int anytime_read_answer(const anytime_slots *, uint32_t, uint64_t, anytime_answer *, void *, size_t)

cdef extern from "<unistd.h>" nogil:
    int close(int)
    long write(int, const void *, size_t)
    int ftruncate(int, long)

cdef extern from "<sys/stat.h>" nogil:
    cdef struct stat_t "stat":
        long st_size
    int fstat(int, stat_t *)

cdef extern from "<sys/mman.h>" nogil:
    void *mmap(void *, size_t, int, int, int, long)
    int munmap(void *, size_t)
    void *const MAP_FAILED
    const int PROT_READ
    const int PROT_WRITE
    const int MAP_SHARED

FINAL = ANYTIME_FINAL
VALID = ANYTIME_VALID
FAILED = ANYTIME_FAILED
TAKEN = 1  # stages of a request: the worker has read it,
ADMITTED = 2  # its Reasoner has it,
FINISHED = 3  # and is through with it; the worker does not touch the slot any more

cdef object _failed(str what, int error):
    return OSError(error, f"{what}: {strerror(error).decode()}")


def lay_out(int memory, uint32_t slots, uint32_t request_bytes, uint32_t answer_bytes):
    """Give a new memory file its size and header; the areas' bytes are multiples of 64."""
    cdef anytime_slots new
    memset(&new, 0, sizeof(new))
    new.header.magic, new.header.version = ANYTIME_SLOTS_MAGIC, ANYTIME_SLOTS_VERSION
    new.header.slots, new.header.request_bytes, new.header.answer_bytes = slots, request_bytes, answer_bytes
    if ftruncate(memory, anytime_slots_bytes(&new)) != 0:
        raise _failed("the shared memory cannot be made", errno)
    if write(memory, &new.header, sizeof(new.header)) != sizeof(new.header):
        raise _failed("the shared memory cannot be written to", errno)


cdef class Slots:
    """Slots in a memory file, with an eventfd that the caller rings and one for every slot that the worker rings.

    Takes the file descriptors over; ``close`` closes them once nobody waits, the memory stays as long as this object.
    """

    cdef anytime_slots _slots
    cdef anytime_slot *_own  # of each slot, what this object has written as the caller
    cdef uint64_t *_moves  # how often its deadline was moved
    cdef int64_t *_woken  # when the latest wait at it was over
    cdef char *_scratch
    cdef void *_memory
    cdef size_t _bytes
    cdef int *_bells
    cdef int _waiting
    cdef bint _closed
    cdef readonly int fd
    cdef readonly uint32_t count, request_bytes, answer_bytes

    def __cinit__(self, int memory, bells):
        cdef stat_t file
        cdef uint32_t i
        self.fd = -1
        if fstat(memory, &file) != 0:
            raise _failed("the shared memory cannot be read", errno)
        found = mmap(NULL, file.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, memory, 0)
        if found == MAP_FAILED:
            raise _failed("the shared memory cannot be mapped", errno)
        self._memory, self._bytes = found, file.st_size
        if not anytime_slots_attach(&self._slots, found, self._bytes):
            raise ValueError("the shared memory does not hold slots of this version")
        self.count, self.request_bytes = self._slots.header.slots, self._slots.header.request_bytes
        self.answer_bytes = self._slots.header.answer_bytes
        if len(bells) != 1 + self.count:
            raise ValueError(f"{self.count} slots need {1 + self.count} eventfds, not {len(bells)}")
        self._scratch = <char *>PyMem_Malloc(self.answer_bytes)
        self._bells = <int *>PyMem_Malloc((1 + self.count) * sizeof(int))
        self._own = <anytime_slot *>PyMem_Calloc(self.count, sizeof(anytime_slot))
        self._moves = <uint64_t *>PyMem_Calloc(self.count, sizeof(uint64_t))
        self._woken = <int64_t *>PyMem_Calloc(self.count, sizeof(int64_t))
        if (
            self._scratch == NULL or self._bells == NULL or self._own == NULL
            or self._moves == NULL or self._woken == NULL
        ):
            raise MemoryError
        for i in range(1 + self.count):
            self._bells[i] = bells[i]
        self.fd = memory

    def __dealloc__(self):
        self._close()
        PyMem_Free(self._bells)
        PyMem_Free(self._own)
        PyMem_Free(self._moves)
        PyMem_Free(self._woken)
        PyMem_Free(self._scratch)
        if self._memory != NULL:
            munmap(self._memory, self._bytes)

    cdef void _close(self) noexcept:
        cdef uint32_t i
        if self.fd >= 0:
            close(self.fd)
            self.fd = -1
            for i in range(1 + self.count):
                close(self._bells[i])
                self._bells[i] = -1

    def close(self):
        """Close the file descriptors; whoever waits must be woken by ``lose``, and the last one of them closes."""
        self._closed = True
        if self._waiting == 0:
            self._close()

    @property
    def bells(self):
        """The eventfds: the worker's, then one for every slot."""
        return [self._bells[i] for i in range(1 + self.count)]

    cdef anytime_slot *_at(self, uint32_t slot) except NULL:
        if slot >= self.count:
            raise IndexError(f"there are {self.count} slots, no {slot}")
        return anytime_slot_at(&self._slots, slot)

    # The caller's side

    def ask(self, uint32_t slot, uint64_t serial, int64_t deadline_ns, bytes request):
        """Write a request into a slot that nobody uses, and ring; False where it does not fit."""
        cdef anytime_slot *place = self._at(slot)
        if <size_t>PyBytes_GET_SIZE(request) > self.request_bytes:
            return False
        anytime_store(&place.asked, 0)
        memcpy(anytime_request_at(&self._slots, slot), PyBytes_AS_STRING(request), PyBytes_GET_SIZE(request))
        place.deadline_ns, place.request_bytes = deadline_ns, <uint32_t>PyBytes_GET_SIZE(request)
        self._own[slot].deadline_ns, self._own[slot].request_bytes = deadline_ns, place.request_bytes
        anytime_store(&self._own[slot].asked, serial)
        anytime_store(&place.asked, serial)
        ring(self._bells[0])
        return True

    def move(self, uint32_t slot, uint64_t serial, int64_t deadline_ns):
        """The request's deadline is another one; who waits is woken, to wait for another instant."""
        cdef anytime_slot *place = self._at(slot)
        if self._own[slot].asked != serial:
            return
        place.deadline_ns = deadline_ns
        self._own[slot].deadline_ns = deadline_ns
        anytime_store(&self._moves[slot], self._moves[slot] + 1)
        ring(self._bells[1 + slot])

    def moves(self, uint32_t slot):
        """How often deadlines in this slot were moved."""
        self._at(slot)
        return anytime_load(&self._moves[slot])

    def cancel(self, uint32_t slot, uint64_t serial):
        """Call a request off."""
        anytime_store(&self._at(slot).cancelled, serial)
        self._own[slot].cancelled = serial
        ring(self._bells[0])

    def lose(self, uint32_t slot, uint64_t serial):
        """Nothing more will come for a request, because its worker is gone; wakes who waits for it."""
        anytime_store(&self._at(slot).lost, serial)
        anytime_store(&self._own[slot].lost, serial)
        ring(self._bells[1 + slot])

    def mend(self):
        """Write once more what the caller has written, but for requests' texts, for a worker to come."""
        cdef anytime_slot *place
        cdef uint32_t slot
        memcpy(self._memory, &self._slots.header, sizeof(anytime_slots_header))
        for slot in range(self.count):
            place = self._at(slot)
            place.cancelled, place.lost = self._own[slot].cancelled, self._own[slot].lost
            place.deadline_ns, place.request_bytes = self._own[slot].deadline_ns, self._own[slot].request_bytes
            anytime_store(&place.asked, self._own[slot].asked)

    def read(self, uint32_t slot, uint64_t serial):
        """The best answer so far: (sequence, flags, published_ns, confidence, text, detail), or None."""
        cdef anytime_answer answer
        self._at(slot)
        if not anytime_read_answer(&self._slots, slot, serial, &answer, self._scratch, self.answer_bytes):
            return None
        text = self._scratch[:answer.text_bytes]
        detail = self._scratch[answer.text_bytes:answer.text_bytes + answer.detail_bytes]
        return answer.sequence, answer.flags, answer.published_ns, answer.confidence, text, detail

    def first_rung_ns(self, uint32_t slot):
        """When the worker had rung for the first answer to the request that it answered last here; 0 before."""
        return self._at(slot).first_rung_ns

    def wait(self, uint32_t slot, uint64_t serial, uint64_t seen, bint final, int64_t until_ns, uint64_t moves=0):
        """Wait, without the GIL, for the final answer, or with ``final`` False for one whose sequence is not ``seen``.

        Also ends when the request is lost. False when the instant came first, or ``moves`` is not their number.
        """
        cdef anytime_slot *place = self._at(slot)
        cdef int listener, outcome
        if self._closed:
            return True
        self._waiting += 1
        try:
            listener = listen(self._bells[1 + slot])
            if listener < 0:
                raise _failed("listening for an answer", -listener)
            try:
                while True:
                    with nogil:
                        outcome = self._wait(listener, place, slot, serial, seen, final, until_ns, moves)
                        self._woken[slot] = now()
                    if outcome >= 0:
                        return outcome == 1
                    if outcome != -EINTR:
                        raise _failed("waiting for an answer", -outcome)
                    PyErr_CheckSignals()
            finally:
                close(listener)
        finally:
            self._waiting -= 1
            if self._closed and self._waiting == 0:
                self._close()

    def woken_ns(self, uint32_t slot):
        """When the latest wait at this slot was over, read before the GIL was taken again; 0 before the first."""
        self._at(slot)
        return self._woken[slot]

    cdef int _wait(self, int listener, anytime_slot *place, uint32_t slot, uint64_t serial, uint64_t seen, bint final,
                   int64_t until_ns, uint64_t moves) noexcept nogil:
        cdef int64_t left_ns
        cdef int outcome
        while not self._news(place, slot, serial, seen, final):
            left_ns = until_ns - now() if anytime_load(&self._moves[slot]) == moves else 0
            outcome = readable(listener, left_ns) if left_ns > 0 else 0
            if outcome <= 0:
                return outcome
            heed(listener)
        return 1

    cdef bint _news(self, anytime_slot *place, uint32_t slot, uint64_t serial, uint64_t seen, bint final) noexcept nogil:
        cdef uint64_t sequence = anytime_load(&place.sequence)
        cdef anytime_answer *newest = anytime_buffer_at(&self._slots, slot, sequence & 1)
        if anytime_load(&self._own[slot].lost) == serial:
            return True
        if newest.generation != serial or newest.sequence != sequence:
            return False
        return newest.flags & ANYTIME_FINAL if final else sequence != seen

    # The worker's side

    def wait_for_requests(self):
        """Wait, without the GIL, until the caller has asked or called off."""
        cdef int fd = self._bells[0], outcome
        while True:
            with nogil:
                outcome = readable(fd, -1)
            if outcome > 0:
                silence(fd)
                return
            if outcome != -EINTR:
                raise _failed("waiting for requests", -outcome)
            PyErr_CheckSignals()

    def request(self, uint32_t slot):
        """(serial, deadline_ns, request) of a request that no worker has taken yet, or None."""
        cdef anytime_slot *place = self._at(slot)
        cdef uint64_t serial = anytime_load(&place.asked)
        if serial == 0 or anytime_load(&place.progress) >> 2 == serial or anytime_load(&place.lost) == serial:
            return None
        size = min(place.request_bytes, self.request_bytes)
        return serial, place.deadline_ns, anytime_request_at(&self._slots, slot)[:size]

    def mark(self, uint32_t slot, uint64_t serial, int stage):
        """How far a request has come."""
        anytime_store(&self._at(slot).progress, serial << 2 | stage)

    def publish(self, uint32_t slot, uint64_t serial, double confidence, uint32_t flags, bytes text, bytes detail):
        """Make this the slot's answer, and ring; False where it does not fit."""
        cdef anytime_slot *place = self._at(slot)
        cdef uint64_t sequence = place.sequence + 1
        cdef anytime_answer *buffer = anytime_buffer_at(&self._slots, slot, sequence & 1)
        cdef size_t text_bytes = PyBytes_GET_SIZE(text), detail_bytes = PyBytes_GET_SIZE(detail)
        cdef char *data = <char *>(buffer + 1)
        cdef bint first = anytime_buffer_at(&self._slots, slot, place.sequence & 1).generation != serial
        cdef uint32_t crc
        if text_bytes + detail_bytes > self.answer_bytes:
            return False
        memcpy(data, PyBytes_AS_STRING(text), text_bytes)
        memcpy(data + text_bytes, PyBytes_AS_STRING(detail), detail_bytes)
        buffer.generation, buffer.sequence = serial, sequence
        buffer.confidence, buffer.flags = confidence, flags
        buffer.text_bytes, buffer.detail_bytes = <uint32_t>text_bytes, <uint32_t>detail_bytes
        buffer.deadline_ns, buffer.published_ns = place.deadline_ns, now()
        crc = anytime_crc32(0, buffer, ANYTIME_CHECKED_BYTES)
        buffer.checksum = anytime_crc32(crc, data, text_bytes + detail_bytes)
        anytime_store(&place.sequence, sequence)
        ring(self._bells[1 + slot])
        if first:
            place.first_rung_ns = now()
        return True

    def is_cancelled(self, uint32_t slot, uint64_t serial):
        return anytime_load(&self._at(slot).cancelled) == serial

    # What the caller looks after

    def asked(self, uint32_t slot):
        """Serial of the last request that was put into the slot; 0 before."""
        self._at(slot)
        return anytime_load(&self._own[slot].asked)

    def deadline_ns(self, uint32_t slot):
        """The deadline of that request."""
        self._at(slot)
        return self._own[slot].deadline_ns

    def is_lost(self, uint32_t slot, uint64_t serial):
        self._at(slot)
        return anytime_load(&self._own[slot].lost) == serial

    def stage(self, uint32_t slot, uint64_t serial):
        """0 until a worker has taken the request, then TAKEN, ADMITTED, FINISHED."""
        cdef uint64_t progress = anytime_load(&self._at(slot).progress)
        return progress & 3 if progress >> 2 == serial else 0
