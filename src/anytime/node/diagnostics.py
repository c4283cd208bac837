"""/diagnostics: what of the last ten seconds is worth a warning, and what is an error."""

from __future__ import annotations

from collections import deque
from typing import TypeAlias

import msgspec

from anytime.node.counts import BAD, CONNECTION, DECISIONS, DROPPED, PUBLISHED, REFUSED, TAKEN, Totals
from anytime.node.messages import ERROR, OK, WARN, DiagnosticStatus, KeyValue
from anytime.node.parameters import Parameters
from anytime.scheduler.clock import NS_PER_MS, NS_PER_S, seconds_to_ns

PERIOD_NS = NS_PER_S
_WINDOW = 10  # periods over which shares are taken
_SILENT_WARN, _SILENT_ERROR = 2, 10  # periods of input without any


Part: TypeAlias = tuple[int, str, dict[str, str]]  # level, message, values


class Condition(msgspec.Struct, frozen=True, kw_only=True):
    """What the node knows of itself at one moment."""

    now_ns: int
    name: str
    state: str
    failure: str  # why the last transition did not succeed; empty when it did
    bundle_id: str
    active_since_ns: int | None
    last_input_ns: int | None
    drift: str | None
    lost: bool
    restarts: int
    recording: str | None  # its trouble, empty when there is none; None where nothing is recorded
    totals: Totals


class Diagnostics:
    """Judges one condition after the other, a period apart."""

    def __init__(self) -> None:
        self._before: deque[Totals] = deque([Totals({}, {}, ())], maxlen=_WINDOW)
        self._restarts = 0

    def judge(self, condition: Condition, parameters: Parameters) -> list[DiagnosticStatus]:
        """The statuses to publish."""
        before = self._before[0]
        self._before.append(condition.totals)
        recent = {name: n - before.counts.get(name, 0) for name, n in condition.totals.counts.items()}
        found = [
            ("lifecycle", *_lifecycle(condition)),
            ("decisions", *_decisions(condition, recent, parameters)),
            ("input", *_input(condition, recent, parameters)),
            ("transport", *_connection(condition, recent)),
            ("engine", *self._engine(condition)),
        ]
        if condition.recording is not None:
            found.append(("recording", WARN if condition.recording else OK, condition.recording or "recording", {}))
        return [
            DiagnosticStatus(level, f"{condition.name}: {part}", message, condition.bundle_id, _pairs(values))
            for part, level, message, values in found
        ]

    def _engine(self, condition: Condition) -> Part:
        restarted, self._restarts = condition.restarts - self._restarts, condition.restarts
        values = {"restarts": str(condition.restarts)}
        if condition.lost:
            return ERROR, "the engine does not answer", values
        if restarted > 0:
            return WARN, f"the engine's process was started again, {restarted} times in this second", values
        return (WARN, condition.drift, values) if condition.drift else (OK, "as fast as measured", values)


def _pairs(values: dict[str, str]) -> list[KeyValue]:
    return [KeyValue(key, value) for key, value in values.items()]


def _lifecycle(condition: Condition) -> Part:
    values = {"state": condition.state, "bundle": condition.bundle_id}
    if condition.failure:
        return ERROR, condition.failure, values
    return (OK if condition.state == "active" else WARN), condition.state, values


def _decisions(condition: Condition, recent: dict[str, int], parameters: Parameters) -> Part:
    totals = condition.totals
    values = {name: str(totals.counts.get(name, 0)) for name in (DECISIONS, PUBLISHED, *BAD)}
    if totals.slacks_ns:
        worst_first = sorted(totals.slacks_ns)
        p99_ns = worst_first[(len(worst_first) - 1) // 100]
        values["slack that 99 % have [ms]"] = f"{p99_ns / NS_PER_MS:.3f}"
    made, bad = recent.get(DECISIONS, 0), {name: recent.get(name, 0) for name in BAD}
    share = sum(bad.values()) / made if made else 0.0
    message = f"{made} decisions in 10 s"
    if share > parameters.warn_share:
        worst = max(bad, key=lambda name: bad[name])
        message += f", {sum(bad.values())} of them bad: {BAD[worst]}"
        message += f" ({totals.reasons[worst]})" if worst in totals.reasons else ""
    return _level(share, parameters), message, values


def _input(condition: Condition, recent: dict[str, int], parameters: Parameters) -> Part:
    totals = condition.totals
    values = {name: str(totals.counts.get(name, 0)) for name in (TAKEN, DROPPED, *REFUSED)}
    refused = {name: recent.get(name, 0) for name in REFUSED}
    came = recent.get(TAKEN, 0) + sum(refused.values())
    share = sum(refused.values()) / came if came else 0.0
    if share > parameters.warn_share:
        worst = max(refused, key=lambda name: refused[name])
        return (
            _level(share, parameters),
            f"{sum(refused.values())} of {came} inputs in 10 s were refused: {totals.reasons.get(worst, worst)}",
            values,
        )
    level, message = _silence(condition, parameters)
    if level == OK and recent.get(DROPPED, 0):
        return WARN, f"{recent[DROPPED]} inputs in 10 s gave way to newer ones: they come faster than answers", values
    return level, message, values


def _silence(condition: Condition, parameters: Parameters) -> tuple[int, str]:
    """The watchdog: no deadline is asked of peers, for one that offers none would not match."""
    if condition.active_since_ns is None:
        return OK, "not listening"
    silent_ns = condition.now_ns - max(condition.active_since_ns, condition.last_input_ns or 0)
    periods = silent_ns / seconds_to_ns(parameters.period_s)
    level = ERROR if periods > _SILENT_ERROR else WARN if periods > _SILENT_WARN else OK
    return level, f"no input for {silent_ns / NS_PER_S:.1f} s" if level else "as often as expected"


def _connection(condition: Condition, recent: dict[str, int]) -> Part:
    totals = condition.totals
    values = {name: str(totals.counts.get(name, 0)) for name in CONNECTION}
    seen = [name for name in CONNECTION if recent.get(name, 0)]
    if not seen:
        return OK, "nothing wrong", values
    level = ERROR if "duplicate" in seen else WARN
    return level, "; ".join(totals.reasons.get(name, CONNECTION[name]) for name in seen), values


def _level(share: float, parameters: Parameters) -> int:
    return ERROR if share > parameters.error_share else WARN if share > parameters.warn_share else OK
