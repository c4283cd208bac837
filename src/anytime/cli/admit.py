"""``anytime admit``: is a set of periodic reasoning tasks schedulable on this device?"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from anytime.cli.admitted import Told, print_told, record_of
from anytime.cli.common import FAILURE, err, measuring, reported
from anytime.cli.engines import EngineOption, Engines
from anytime.cli.taskfile import read_tasks, where
from anytime.errors import ProfileError, TaskFileError, UsageError
from anytime.runtime.loading import Loaded, find_profile, forecast_of, open_bundle
from anytime.runtime.workload import PeriodicTask, task_of
from anytime.scheduler.estimate import estimated_profile
from anytime.scheduler.profile import LatencyProfile
from anytime.scheduler.taskset import Task, decide
from anytime.targets import Target, target_named

THIS_MACHINE = "this machine"


@reported
def admit(
    tasks: Annotated[Path, typer.Argument(metavar="TASKS", help="A .toml file with a [[task]] table for each task.")],
    bundle: Annotated[Path | None, typer.Option(help="A bundle; default: the reference.", show_default=False)] = None,
    target: Annotated[str, typer.Option(help="The device; another needs --estimate.")] = THIS_MACHINE,
    threads: Annotated[int | None, typer.Option(help="Threads of the engine; default: all cores but one.")] = None,
    engine: EngineOption = Engines.onnxruntime,
    profile: Annotated[Path | None, typer.Option(help="Use this latency profile.")] = None,
    estimate: Annotated[bool, typer.Option("--estimate", help="Accept another key, or no measurement.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Say whether the periodic TASKS are schedulable, and what thought each gets.

    If they are not: which task fails first, and what would make them fit. Exit code 0: schedulable; 1: not.
    """
    device = _device(target, estimate)
    asked = read_tasks(tasks)
    loaded = open_bundle(bundle, threads, engine.value)
    if device is not None and profile is None:
        measured = estimated_profile(loaded.bundle, device)
    else:
        with measuring() as progress:
            measured = find_profile(loaded, profile, estimate, progress)
    _check_measured_on(device, measured)
    with err.status("testing the tasks"):
        found = _tasks(asked, tasks, loaded, measured)
        told = Told(tasks.name, target, found, decide(found), loaded, measured)
    if as_json:
        print(json.dumps(record_of(told), ensure_ascii=False))
    else:
        print_told(told)
    if told.decision.failures:
        raise typer.Exit(FAILURE)


def _device(target: str, estimate: bool) -> Target | None:
    """The target of this name; None for this machine. Times of another device are measured there, or estimated.

    Raises:
        UsageError: there is none of this name, or nobody said that times of another device will do.
    """
    if target == THIS_MACHINE:
        return None
    device = target_named(target)
    if not estimate:
        raise UsageError(
            f"the target is {target!r}, and a latency profile measured on that device is needed: run 'anytime profile' "
            "there and give its file with --profile FILE --estimate; or --estimate alone, for times estimated from "
            "published figures; leave --target out for this machine"
        )
    return device


def _check_measured_on(device: Target | None, measured: LatencyProfile) -> None:
    system = measured.environment.get("system", "unknown")
    if device is not None and device.architecture not in system:
        raise ProfileError(
            f"the profile was measured on {system}, and the target {device.name!r} is {device.architecture}: "
            "give a profile measured on that device"
        )


def _tasks(asked: Sequence[PeriodicTask], file: Path, loaded: Loaded, measured: LatencyProfile) -> list[Task]:
    forecast, max_context = forecast_of(loaded.bundle), loaded.engine.spec.max_context
    found = []
    for i, task in enumerate(asked):
        try:
            found.append(task_of(task, loaded.codec, measured, forecast, max_context))
        except UsageError as error:
            raise TaskFileError(f"{where(file, i, task)}: {error}") from error
    return found
