"""``anytime serve``: the node as the system service that 'anytime deploy' installs."""

from __future__ import annotations

import signal
import threading
from pathlib import Path
from typing import Annotated, Any

import typer

from anytime.cli.common import out, reported
from anytime.cli.node import opened_dds
from anytime.errors import UsageError
from anytime.node.lines import Lines, default_path
from anytime.node.parameters import parameters_of, read_parameters
from anytime.node.service import calibrate as calibrate_parameters
from anytime.node.service import serve as serve_parameters


@reported
def serve(
    params: Annotated[Path | None, typer.Option(help="A ROS 2 parameter file.")] = None,
    bundle: Annotated[Path | None, typer.Option(help="A bundle; default: the parameter's, or the reference.")] = None,
    name: Annotated[str, typer.Option(help="The node's full name.")] = "/anytime",
    transport: Annotated[str, typer.Option(help="What carries the messages: socket or dds.")] = "socket",
    calibrate: Annotated[
        bool, typer.Option("--calibrate", help="Measure this machine if that was not done, and end.")
    ] = False,
    quick: Annotated[bool, typer.Option("--quick", help="Measure for some seconds only.")] = False,
) -> None:
    """Serve as a system service: answer with the model, and with the parameter 'fallback' while it cannot be had.

    With the transport 'socket', programs on this machine send questions and scenes to anytime.sock in
    $RUNTIME_DIRECTORY or $XDG_RUNTIME_DIR, JSON objects, one a line, and are sent decisions. systemd is told when it is
    ready, how it is, and that it is alive. With --calibrate it measures a latency profile where there is none for this
    machine, and fails if first answers take longer than the budget.
    """
    given: dict[str, Any] = read_parameters(params, name) if params is not None else {}
    if bundle is not None:
        given["bundle"] = str(bundle)
    parameters = parameters_of(given)
    if calibrate:
        p99_s = calibrate_parameters(parameters, quick)
        took = "measured before" if p99_s is None else f"a first answer takes {1e3 * p99_s:.1f} ms (99th percentile)"
        out.print(f"{took}, of a budget of {1e3 * parameters.budget_s:.0f} ms")
        return
    if transport not in ("socket", "dds"):
        raise UsageError(f"there is no transport {transport!r} for a service: there are socket and dds")
    told = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: told.set())
    serve_parameters(opened_dds() if transport == "dds" else Lines(default_path()), parameters, told, name=name)
