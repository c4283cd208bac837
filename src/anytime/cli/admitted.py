"""What ``anytime admit`` found, in words, as a table and as JSON."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec
from rich import box
from rich.table import Table
from rich.text import Text

from anytime.cli.common import out
from anytime.runtime.forecast import UNKNOWN
from anytime.runtime.loading import Loaded
from anytime.scheduler.clock import NS_PER_MS
from anytime.scheduler.demand import MOST_DEADLINES, Finding, utilization
from anytime.scheduler.estimate import is_estimated
from anytime.scheduler.profile import LatencyProfile, difference
from anytime.scheduler.taskset import Decision, Failure, Task, loads


class Told(msgspec.Struct, frozen=True):
    """A decision with all that it rests on."""

    file: str
    target: str
    tasks: Sequence[Task]
    decision: Decision
    loaded: Loaded
    profile: LatencyProfile

    def utilization(self, granted: Sequence[int]) -> float:
        return float(utilization(loads(self.tasks, granted)))

    @property
    def asked(self) -> float:
        """Utilization by the mandatory parts."""
        return self.utilization([0] * len(self.tasks))

    @property
    def thinking(self) -> float:
        """Utilization with the thought granted."""
        return self.utilization(self.decision.granted)


def record_of(told: Told) -> dict[str, object]:
    """The JSON object; ``docs/admit.md`` has its fields."""
    tasks, decision = told.tasks, told.decision
    return {
        "schedulable": not decision.failures,
        "target": told.target,
        "bundle": told.loaded.bundle.id,
        "profile": {
            "processor": told.profile.key.processor,
            "created": told.profile.created,
            "quick": told.profile.quick,
            "estimated": is_estimated(told.profile),
            "differs": difference(told.profile.key, told.loaded.key) or None,
        },
        "utilization": told.asked,
        "utilization_thinking": told.thinking,
        "test": _finding(tasks, decision.finding),
        "test_thinking": _finding(tasks, decision.thinking),
        "tasks": [_row(task, stages) for task, stages in zip(tasks, decision.granted, strict=True)],
        "failures": [
            {"task": tasks[one.place].name, "test": one.test, "message": _failed(told, one)}
            for one in decision.failures
        ],
        "fit": _fit(told),
    }


def _finding(tasks: Sequence[Task], finding: Finding) -> dict[str, object]:
    point = finding.point
    return {
        "outcome": finding.outcome,
        "at_ms": point.at_ns / NS_PER_MS,
        "task": tasks[point.place].name,
        "demand_ms": point.demand_ns / NS_PER_MS,
        "blocking_ms": finding.blocking_ns / NS_PER_MS,
    }


def _row(task: Task, stages: int) -> dict[str, object]:
    thought = task.stages[stages - 1] if stages else None
    return {
        "name": task.name,
        "priority": task.priority,
        "period_ms": task.period_ns / NS_PER_MS,
        "deadline_ms": task.deadline_ns / NS_PER_MS,
        "phase_ms": task.phase_ns / NS_PER_MS,
        "mandatory_ms": task.cost_ns / NS_PER_MS,
        "longest_run_ms": task.load(stages).run_ns / NS_PER_MS,
        "granted_ms": task.thought_ns(stages) / NS_PER_MS,
        "thought_tokens": thought.tokens if thought else 0,
        "effort": thought.effort if thought else None,
        "quality": task.quality,
        "quality_thinking": task.quality_of(stages),
        "min_quality": task.min_quality or None,
    }


def _fit(told: Told) -> dict[str, object] | None:
    cure = told.decision.cure
    if cure is None:
        return None
    period_ms = None if cure.period_ns is None else cure.period_ns / NS_PER_MS
    name = told.tasks[told.decision.failures[0].place].name
    return {"task": name, "period_ms": period_ms, "speed": cure.speed}


def print_told(told: Told) -> None:
    """A table of the tasks, and lines that say what was tested."""
    out.print(_table(told))
    for line, style in _lines(told):
        out.print(Text(line, style), soft_wrap=True)


def _table(told: Told) -> Table:
    table = Table(title=Text(f"{told.file} on {told.target}, times in ms"), box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    minimum = any(task.min_quality for task in told.tasks)
    table.add_column("task")
    for heading in ("period", "due", "prio", "floor", "thought", "tokens", "right", *(["min"] if minimum else [])):
        table.add_column(heading, justify="right")
    for task, stages in zip(told.tasks, told.decision.granted, strict=True):
        thought = task.stages[stages - 1] if stages else None
        cells = [
            f"{task.period_ns / NS_PER_MS:g}",
            f"{task.deadline_ns / NS_PER_MS:g}",
            str(task.priority),
            _ms(task.cost_ns),
            _ms(task.thought_ns(stages)),
            f"{thought.tokens} {thought.effort}".strip() if thought else "0",
            _right(task, stages),
            f"{task.min_quality:g}" if task.min_quality else "",
        ]
        table.add_row(Text(task.name), *cells[: len(table.columns) - 1])
    return table


def _right(task: Task, stages: int) -> str:
    if task.quality is None:
        return "unknown"
    return f"{task.quality:.3f}" + (f" → {task.quality_of(stages):.3f}" if stages else "")


def _lines(told: Told) -> Iterator[tuple[str, str]]:
    """Line and style."""
    decision = told.decision
    thinking = f", {told.thinking:.3f} with the thought granted" if any(decision.granted) else ""
    yield f"utilization: {told.asked:.3f} by the mandatory parts{thinking}", ""
    yield f"demand-bound test: {_tested(decision.finding)}", ""
    if any(decision.granted):
        yield f"with the thought: {_tested(decision.thinking)}", ""
    for failure in decision.failures:
        yield f"fails: {_failed(told, failure)}", "bold red"
    minimum = ", minimum qualities too" if any(task.min_quality for task in told.tasks) else ""
    yield (f"to make it fit{minimum}: {_cured(told)}", "") if decision.failures else ("schedulable", "bold green")
    yield from ((f"note: {note}", "dim") for note in _notes(told))


def _tested(finding: Finding) -> str:
    if not finding.holds:
        return "fails"
    return f"holds at every deadline; least is left at {_ms(finding.point.at_ns)} ms, {_by_then(finding)}"


def _by_then(finding: Finding) -> str:
    due_ns, blocking_ns = finding.point.demand_ns, finding.blocking_ns
    blocking = f" ({_ms(due_ns)} ms due, {_ms(blocking_ns)} ms for a stretch that has to end first)"
    return f"by when {_ms(due_ns + blocking_ns)} ms have to be done" + (blocking if blocking_ns else "")


def _failed(told: Told, failure: Failure) -> str:
    task, finding = told.tasks[failure.place], told.decision.finding
    if failure.test == "demand":
        return f"{task.name!r}, at its deadline at {_ms(finding.point.at_ns)} ms, {_by_then(finding)}"
    if failure.test == "utilization":
        return f"{task.name!r}: with it, more of the engine's time is asked for than there is"
    if failure.test == "unproven":
        return (
            f"{task.name!r}: at a utilization so near to 1, {MOST_DEADLINES:,} deadlines that hold are no proof: "
            "leave more time, or round the periods to a common measure"
        )
    stages = told.decision.granted[failure.place]
    reached = f"{task.name!r} is right with probability {task.quality_of(stages):.3f}, less than {task.min_quality:g}"
    needed = task.needed()
    if needed is None:
        most = task.stages[-1].quality if task.stages else task.quality
        return f"{reached}; with all the time there is it would be {most:.3f}"
    return f"{reached}, for which it would need {_ms(task.thought_ns(needed))} ms of thought"


def _cured(told: Told) -> str:
    failure, cure = told.decision.failures[0], told.decision.cure
    if cure is None or failure.test == "forecast":
        return "nothing about time; a better bundle, or a lower min_quality"
    name = told.tasks[failure.place].name
    if cure.period_ns is None:
        period = f"no period of {name!r} alone is long enough"
    else:
        period = f"a period of {name!r} of {cure.period_ns / NS_PER_MS:.3f} ms or more"
    speed = f"a device {cure.speed:.3f} times as fast" if cure.speed else "no faster device either"
    return f"{period}; or {speed}"


def _notes(told: Told) -> Iterator[str]:
    profile, known = told.profile, [task for task in told.tasks if task.quality is not None]
    yield (
        "tested for earliest deadline first, one stretch of engine runs after the other, every task at its upper bound "
        "and with nothing cached"
    )
    if any(task.phase_ns for task in told.tasks):
        yield "phases are not counted on: what holds when all tasks begin at once holds with any phases"
    if known:
        yield f"right: forecast for questions like the calibration's whose first answer has likelihood {UNKNOWN:g}"
    for task in told.tasks:
        if task.quality is None:
            yield f"{task.name!r} has no quality and no thought: the bundle is not calibrated for answers of its kind"
    changed = difference(profile.key, told.loaded.key)
    if changed and not is_estimated(profile):
        yield f"an estimate: the profile was measured under another key ({changed})"
    if profile.quick:
        yield f"the profile is a quick one of {profile.key.processor}: 'anytime profile' measures better"
    yield from profile.warnings


def _ms(ns: int) -> str:
    return f"{ns / NS_PER_MS:.1f}"
