"""The agenda in plain Python: slow, obvious, and what the compiled kernel is held to."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec


class Entry(msgspec.Struct):
    """A request: when it must be ready, what it must and may still have, and how far it has come."""

    key: int
    ready_ns: int
    mandatory_ns: int
    priority: int = 0
    granted_ns: int = 0
    seated: bool = False
    answered: bool = False
    resume_ns: int = 0

    @property
    def needs_ns(self) -> int:
        return self.mandatory_ns + self.granted_ns


class PlainAgenda:
    """See ``anytime.ext.agenda.Agenda``."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []

    def _sort(self) -> None:
        self.entries.sort(key=lambda entry: (entry.ready_ns, entry.key))

    def _entry(self, key: int) -> Entry:
        return next(entry for entry in self.entries if entry.key == key)

    def add(self, key: int, ready_ns: int, mandatory_ns: int, priority: int = 0) -> None:
        self.entries.append(Entry(key, ready_ns, mandatory_ns, priority))
        self._sort()

    def remove(self, key: int) -> None:
        self.entries.remove(self._entry(key))

    def move(self, key: int, ready_ns: int) -> None:
        entry = self._entry(key)
        entry.ready_ns, entry.resume_ns = ready_ns, 0
        self._sort()

    def seat(self, key: int) -> None:
        self._entry(key).seated = True

    def leave(self, key: int) -> None:
        self._entry(key).seated = False

    def suspend(self, key: int, resume_ns: int) -> None:
        entry = self._entry(key)
        entry.granted_ns, entry.resume_ns = 0, max(1, resume_ns)

    def answer(self, key: int) -> bool:
        entry = self._entry(key)
        news = not entry.answered
        entry.answered, entry.mandatory_ns = True, 0
        return news

    def spend(self, key: int, ns: int) -> None:
        entry = self._entry(key)
        if entry.answered:
            entry.granted_ns = max(0, entry.granted_ns - ns)
        else:
            entry.mandatory_ns = max(0, entry.mandatory_ns - ns)

    def slacks_ns(self, now: int) -> list[int]:
        """What is left before each deadline when everything due by then has been served."""
        return [
            entry.ready_ns - now - sum(before.needs_ns for before in self.entries[: i + 1])
            for i, entry in enumerate(self.entries)
        ]

    def fits(
        self,
        now: int,
        ready_ns: int,
        mandatory_ns: int,
        blocking_ns: int,
        keep_grants: bool = False,
        without: int = -1,
        running: int = -1,
    ) -> bool:
        def need_ns(entry: Entry) -> int:
            """Behind what runs."""
            need = entry.needs_ns if keep_grants else entry.mandatory_ns
            return max(0, need - blocking_ns) if entry.key == running else need

        newcomer = (ready_ns, mandatory_ns)
        others = [(entry.ready_ns, need_ns(entry)) for entry in self.entries if entry.key != without]
        behind = [other for other in others if other[0] > ready_ns]
        due = [other for other in others if other[0] <= ready_ns]
        served = now + blocking_ns + sum(need for _, need in due)
        for deadline, need in (newcomer, *behind):
            served += need
            if served > deadline:
                return False
        return True

    def pick(self, rows: int) -> int:
        able = [entry for entry in self.entries if entry.seated or rows > 0]
        awake, suspended = [e for e in able if not e.resume_ns], [e for e in able if e.resume_ns]
        mandatory = [entry for entry in awake if not entry.answered]
        return next((entry.key for entry in (*mandatory, *awake, *suspended)), -1)

    def until(self, key: int, now: int) -> int:
        i = self.entries.index(self._entry(key))
        entry = self.entries[i]
        own_ns = entry.needs_ns + min(self.slacks_ns(now)[i:])
        return min(entry.ready_ns, now + max(entry.mandatory_ns, own_ns))

    def affords(self, now: int, key: int, keys: Iterable[int], alone_ns: int, together_ns: int) -> bool:
        def done_ns(running: set[int], took_ns: int) -> list[int]:
            """When everything due by each deadline is done, if these run first, for so long."""
            needs = [entry.needs_ns - min(alone_ns, entry.needs_ns) * (entry.key in running) for entry in self.entries]
            return [now + took_ns + sum(needs[: i + 1]) for i in range(len(needs))]

        alone, together = done_ns({key}, alone_ns), done_ns(set(keys), together_ns)
        deadlines = [entry.ready_ns for entry in self.entries]
        return all(b <= deadline or b <= a for a, b, deadline in zip(alone, together, deadlines, strict=True))

    def grant(self, now: int, stages: Iterable[tuple[int, int, float]]) -> bool:
        for entry in self.entries:
            entry.granted_ns = 0
        closed: set[int] = set()
        offered = [stage for stage in stages if stage[1] > 0]
        offered.sort(key=lambda stage: (-self._entry(stage[0]).priority, -stage[2] / stage[1]))
        for key, cost_ns, _ in offered:
            entry = self._entry(key)
            behind = self.slacks_ns(now)[self.entries.index(entry) :]
            if key in closed or min(behind) < cost_ns:
                closed.add(key)
            else:
                entry.granted_ns += cost_ns
        for i, entry in enumerate(self.entries):
            if entry.granted_ns + min(self.slacks_ns(now)[i:]) >= entry.resume_ns:
                entry.resume_ns = 0
        return not closed

    def keys(self) -> list[int]:
        return [entry.key for entry in self.entries]
