"""Other ways of choosing whose step is next, to compare with: each an agenda that knows no quotas and rejects nobody.

A request they serve too late ends where it begins, when its prompt no longer fits; until then it uses whatever time its
own deadline leaves, as a server without a market for time would let it.
"""

from __future__ import annotations

from collections.abc import Iterable

from anytime.ext.agenda import Agenda


class PlainEdf(Agenda):
    """Earliest deadline first, preemptive between steps."""

    def fits(
        self, now: int, ready_ns: int, mandatory_ns: int, blocking_ns: int, *args: object, **kwargs: object
    ) -> bool:
        return True

    def grant(self, now: int, stages: Iterable[tuple[int, int, float]]) -> bool:
        """Nobody's time is anybody else's."""
        return True

    def until(self, key: int, now: int) -> int:
        return self.ready_ns(key)

    def pick(self, rows: int) -> int:
        return min(self.able(rows), key=self.rank, default=-1)

    def able(self, rows: int) -> list[int]:
        """Who could run."""
        return [key for key in self.keys() if rows > 0 or self.seated(key)]

    def rank(self, key: int) -> int:
        return self.ready_ns(key)


class Fcfs(PlainEdf):
    """First come, first served, to its end."""

    def rank(self, key: int) -> int:
        return key


class LeastLaxity(PlainEdf):
    """Least laxity first: the time left less the work left, which is a whole thought as far as can be foretold."""

    def __init__(self, capacity: int) -> None:
        self.work_ns: dict[int, int] = {}
        self.thought_ns = 0  # of a whole request, on average

    def add(self, key: int, ready_ns: int, mandatory_ns: int, priority: int = 0) -> None:
        super().add(key, ready_ns, mandatory_ns, priority)
        self.work_ns[key] = self.thought_ns

    def remove(self, key: int) -> None:
        super().remove(key)
        del self.work_ns[key]

    def spend(self, key: int, ns: int) -> None:
        super().spend(key, ns)
        self.work_ns[key] = max(0, self.work_ns[key] - ns)

    def rank(self, key: int) -> int:
        return self.ready_ns(key) - self.work_ns[key]


BASELINES: dict[str, type[PlainEdf]] = {"fcfs": Fcfs, "edf": PlainEdf, "least-laxity": LeastLaxity}
