"""Simulated time for a reasoner that really thinks: the caller's thread and the engine's in lock-step."""

from __future__ import annotations

import threading

_LOOK_AGAIN_S = 0.0005
_STUCK_S = 60.0


class LockstepClock:
    """Time that passes only while both the caller's thread and the engine's wait: on to the earlier of their instants.

    While the engine computes no time passes, nor while the caller looks at a better answer. So what happens when does
    not depend on how fast either thread is.
    """

    def __init__(self) -> None:
        self._now_ns = 0
        self._moved = threading.Condition()
        self._waiting: dict[int, tuple[int, threading.Event]] = {}

    def now(self) -> int:
        with self._moved:
            return self._now_ns

    def advance_to(self, instant_ns: int) -> None:
        """Let time pass while nobody thinks."""
        with self._moved:
            self._now_ns = max(self._now_ns, instant_ns)

    def wait_until(self, event: threading.Event, instant_ns: int) -> bool:
        """Wait for the event, or for time to come to the instant; whether the event was set."""
        me, looks = threading.get_ident(), 0
        with self._moved:
            self._waiting[me] = (instant_ns, event)
            try:
                while not event.is_set() and self._now_ns < instant_ns:
                    if self._both_wait():
                        self._now_ns = min(instant for instant, _ in self._waiting.values())
                        self._moved.notify_all()
                        continue
                    self._moved.wait(_LOOK_AGAIN_S)  # the events of others have no hook that would wake this
                    looks += 1
                    if looks * _LOOK_AGAIN_S > _STUCK_S:
                        raise RuntimeError("simulated time stands still: the engine neither computes nor waits")
            finally:
                del self._waiting[me]
        return event.is_set()

    def _both_wait(self) -> bool:
        """Whether both wait, and neither is about to go on."""
        return len(self._waiting) == 2 and all(
            instant > self._now_ns and not event.is_set() for instant, event in self._waiting.values()
        )
