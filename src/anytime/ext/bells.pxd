"""Bells, which are eventfds: ring, silence, and wait for them without the GIL, by CLOCK_MONOTONIC in nanoseconds."""

from libc.errno cimport errno
from libc.stdint cimport int64_t, uint32_t, uint64_t

cdef extern from "<time.h>" nogil:
    cdef struct timespec:
        long tv_sec
        long tv_nsec
    int clock_gettime(int, timespec *)
    const int CLOCK_MONOTONIC

cdef extern from "<poll.h>" nogil:
    cdef struct pollfd:
        int fd
        short events
    int ppoll(pollfd *, unsigned long, const timespec *, const void *)
    const short POLLIN

cdef extern from "<sys/epoll.h>" nogil:
    cdef struct epoll_event:
        uint32_t events
    int epoll_create1(int)
    int epoll_ctl(int, int, int, epoll_event *)
    int epoll_wait(int, epoll_event *, int, int)
    const int EPOLL_CLOEXEC
    const int EPOLL_CTL_ADD
    const uint32_t EPOLLIN
    const uint32_t EPOLLET

cdef extern from "<unistd.h>" nogil:
    int close(int)
    long read(int, void *, size_t)
    long write(int, const void *, size_t)

cdef enum:
    NS_PER_S = 1000000000


cdef inline int64_t now() noexcept nogil:
    cdef timespec instant
    clock_gettime(CLOCK_MONOTONIC, &instant)
    return instant.tv_sec * NS_PER_S + instant.tv_nsec


cdef inline int readable(int fd, int64_t left_ns) noexcept nogil:
    """1 when readable, 0 when not in so much time (below 0: there is no end to it), else minus the error's number."""
    cdef pollfd one
    cdef timespec left
    one.fd, one.events = fd, POLLIN
    left.tv_sec, left.tv_nsec = left_ns // NS_PER_S, left_ns % NS_PER_S
    cdef int outcome = ppoll(&one, 1, NULL if left_ns < 0 else &left, NULL)
    return outcome if outcome >= 0 else -errno


cdef inline void ring(int fd) noexcept nogil:
    cdef uint64_t one = 1
    cdef long written = write(fd, &one, 8)  # that it is rung already is no error


cdef inline void silence(int fd) noexcept nogil:
    cdef uint64_t rung
    cdef long drained = read(fd, &rung, 8)  # nor that it is silent


cdef inline int listen(int bell) noexcept nogil:
    """A file that is readable once for every ring of the bell, whoever else listens to it; or minus the error's number."""
    cdef epoll_event wanted
    cdef int listener = epoll_create1(EPOLL_CLOEXEC), error
    if listener < 0:
        return -errno
    wanted.events = EPOLLIN | EPOLLET
    if epoll_ctl(listener, EPOLL_CTL_ADD, bell, &wanted) != 0:
        error = errno
        close(listener)
        return -error
    return listener


cdef inline void heed(int listener) noexcept nogil:
    """Have it be readable at the next ring, and not before."""
    cdef epoll_event rung
    epoll_wait(listener, &rung, 1, 0)
