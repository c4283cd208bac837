"""How a reasoner that is to run in a process of its own is to run there."""

from __future__ import annotations

import msgspec

from anytime.errors import UsageError


class Isolation(msgspec.Struct, frozen=True):
    """Real-time settings of an isolated reasoner's process; the caller's own process is left as it is.

    ``cpus``: the processors it may run on. ``fifo_priority``: 1 to 99, under SCHED_FIFO. ``lock_memory``: keep all of
    it in memory. What was granted is in ``Isolated.realtime``. ``standby``: have a second process loaded and waiting,
    which takes over when the first is lost; it costs as much memory again.

    Raises:
        UsageError: no processor, or no priority that there is.
    """

    cpus: tuple[int, ...] | None = None
    fifo_priority: int | None = None
    lock_memory: bool = False
    standby: bool = False

    def __post_init__(self) -> None:
        if self.cpus is not None and not (self.cpus and all(isinstance(cpu, int) and cpu >= 0 for cpu in self.cpus)):
            raise UsageError(f"cpus is {self.cpus!r}: give the numbers of one or more processors, like (2, 3)")
        if self.fifo_priority is not None and not 1 <= self.fifo_priority <= 99:
            raise UsageError(f"fifo_priority is {self.fifo_priority!r}: it must be between 1 and 99")
