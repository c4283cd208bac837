# cython: language_level=3
"""What a process asks of the kernel for itself, as far as Python has no call for it."""

from libc.errno cimport errno
from libc.string cimport strerror

cdef extern from "<sys/mman.h>" nogil:
    int mlockall(int)
    const int MCL_CURRENT
    const int MCL_FUTURE
    const int MCL_ONFAULT

cdef extern from "<sys/prctl.h>" nogil:
    int prctl(int, unsigned long, unsigned long, unsigned long, unsigned long)
    const int PR_SET_PDEATHSIG

cdef extern from "<signal.h>" nogil:
    const int SIGKILL


cdef object _failed(str what, int error):
    return OSError(error, f"{what}: {strerror(error).decode()}")


def die_with_parent():
    """Have the kernel kill this process when the thread that started it ends."""
    if prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) != 0:
        raise _failed("PR_SET_PDEATHSIG", errno)


def lock_memory():
    """Keep all of this process in memory (mlockall); what it takes later is kept from its first use on.

    Raises:
        OSError: that is not allowed, or there is not enough memory.
    """
    if mlockall(MCL_CURRENT) != 0 or mlockall(MCL_FUTURE | MCL_ONFAULT) != 0:
        raise _failed("mlockall", errno)
