"""What the node counts, over its whole life and over the last ten seconds; memory does not grow with traffic."""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Mapping

import msgspec

# What can be wrong, as diagnostics name it. Of inputs, which are then refused:
REFUSED = {
    "malformed": "bytes or numbers that make no sense",
    "too_large": "longer than the parameters allow",
    "future": "stamped in the future",
    "clock": "stamped by another clock",
    "stale": "older than its budget",
    "inactive": "came while the node was not active",
    "busy": "goals beyond max_goals",
}
# of the connection, which the transport notes:
CONNECTION = {
    "wrong_type": "a topic of another type or type hash",
    "duplicate": "another node of this name",
    "qos": "a peer whose quality of service does not match",
    "missed": "a deadline of a topic was missed",
    "unsent": "a message could not be published",
}
# and of decisions:
BAD = {
    "late": "not published, because the deadline had passed",
    "rejected": "there was too little time for the model",
    "error": "the engine failed",
}
TAKEN, DROPPED, PUBLISHED, DECISIONS = "taken", "dropped", "published", "decisions"
_MOST_SLACKS = 1_000


class Totals(msgspec.Struct, frozen=True):
    """Counts so far, the latest reason of each trouble, and the slack of the latest decisions, ns."""

    counts: Mapping[str, int]
    reasons: Mapping[str, str]
    slacks_ns: tuple[int, ...]


class Counts:
    """Counted from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()
        self._reasons: dict[str, str] = {}
        self._slacks_ns: deque[int] = deque(maxlen=_MOST_SLACKS)

    def add(self, what: str, reason: str = "") -> None:
        """One more of that; ``reason`` is kept until the next."""
        with self._lock:
            self._counts[what] += 1
            if reason:
                self._reasons[what] = reason

    def slack(self, slack_ns: int) -> None:
        """A decision was made with so much time left; negative when late."""
        with self._lock:
            self._slacks_ns.append(slack_ns)

    def totals(self) -> Totals:
        with self._lock:
            return Totals(dict(self._counts), dict(self._reasons), tuple(self._slacks_ns))
