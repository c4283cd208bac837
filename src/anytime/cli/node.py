"""``anytime node``: the node on a transport; without any, questions from stdin."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from anytime.cli.common import reported
from anytime.errors import UsageError
from anytime.node.inprocess import Bus, InProcess
from anytime.node.lines import input_of
from anytime.node.messages import Decision
from anytime.node.node import Node
from anytime.node.parameters import parameters_of, read_parameters
from anytime.node.transport import Transport

_STATUS = ("thinking", "complete", "early", "deadline", "cancelled", "rejected", "stale", "error")


@reported
def node(
    params: Annotated[Path | None, typer.Option(help="A ROS 2 parameter file.")] = None,
    bundle: Annotated[Path | None, typer.Option(help="A bundle; default: the parameter's, or the reference.")] = None,
    name: Annotated[str, typer.Option(help="The node's full name.")] = "/anytime",
    transport: Annotated[str, typer.Option(help="What carries the messages: inprocess, dds or ros.")] = "inprocess",
    record: Annotated[Path | None, typer.Option(help="Record to this directory (a rosbag2 of MCAP).")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print every decision as one JSON object a line.")] = False,
) -> None:
    """Take questions and scenes, and publish decisions by their deadlines.

    With the transport 'inprocess' they are JSON objects on stdin, one a line, with the fields of the messages Question
    or Scene; one without a header is stamped when it is read. With 'dds' they are topics as ROS 2 has them; with 'ros'
    it is a ROS 2 lifecycle node, brought up to active. Both serve until SIGINT or SIGTERM.
    """
    if transport not in TRANSPORTS:
        raise UsageError(f"there is no transport {transport!r}: there are inprocess, dds and ros")
    if as_json and transport != "inprocess":
        raise UsageError(f"--json prints decisions, which the transport {transport} publishes: leave it out")
    given: dict[str, Any] = read_parameters(params, name) if params is not None else {}
    if bundle is not None:
        given["bundle"] = str(bundle)
    if record is not None:
        given["record"] = str(record)
    TRANSPORTS[transport](name, given, as_json)


def _in_ros(name: str, given: dict[str, Any], as_json: bool) -> None:
    try:
        import rclpy  # noqa: F401
    except ImportError as error:
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        raise UsageError(
            f"--transport ros takes rclpy, which this Python {version} cannot import ({error}): source a ROS 2 setup "
            "(source /opt/ros/jazzy/setup.bash), and run the Python it was built for (3.12 for Jazzy)"
        ) from error
    from anytime.node.ros.main import run

    run(name, given, args=[], up=True)


def opened_dds() -> Transport:
    """The transport on DDS.

    Raises:
        UsageError: Cyclone DDS is not installed.
    """
    try:
        from anytime.node.dds.transport import Dds
    except Exception as error:  # Cyclone's loader has an error of its own, which is no ImportError
        raise UsageError(f"the transport dds takes more: pip install 'anytime[dds]' ({error})") from error
    return Dds()


def _on_dds(name: str, given: dict[str, Any], as_json: bool) -> None:
    """Serve the topics until a signal."""
    carrier = opened_dds()
    told = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: told.set())
    made = Node(carrier, parameters_of(given), name=name)
    try:
        made.configure()
        made.activate()
        print(f"{name} is active: {made.topics.question.name} -> {made.topics.decision.name}", file=sys.stderr)
        told.wait()
    finally:
        made.shutdown()


def _on_stdin(name: str, given: dict[str, Any], as_json: bool) -> None:
    bus = Bus()
    made = Node(InProcess(bus), parameters_of(given), name=name, threaded=False)
    try:
        made.configure()
        made.activate()
        bus.subscribe(made.topics.decision.name, _print_json if as_json else _print)
        for line in sys.stdin:
            if line.strip():
                _bring(line, made, bus)
    finally:
        made.shutdown()


TRANSPORTS: dict[str, Callable[[str, dict[str, Any], bool], None]] = {
    "inprocess": _on_stdin,
    "dds": _on_dds,
    "ros": _in_ros,
}


def _bring(line: str, node: Node, bus: Bus) -> None:
    """Publish the message of a line, and say why it was refused if it was."""
    before = node.counts.totals().counts
    try:
        message = input_of(line)
    except msgspec.DecodeError as error:
        print(f"warning: the line {line.strip()[:80]!r} is no Question and no Scene: {error}", file=sys.stderr)
        return
    bus.publish(node.topics.of(message).name, message)
    after = node.counts.totals()
    for trouble, reason in after.reasons.items():
        if after.counts[trouble] > before.get(trouble, 0):
            print(f"warning: {trouble}: {reason}", file=sys.stderr)


def _print_json(decision: Decision) -> None:
    print(msgspec.json.encode(decision).decode(), flush=True)


def _print(decision: Decision) -> None:
    how = f"{decision.source}, {_STATUS[decision.status]}, confidence {decision.confidence:.3f}"
    when = f"{1e3 * decision.elapsed_s:.1f} of {1e3 * decision.budget_s:.0f} ms"
    print(f"{decision.answer or '(none)'}  ({how}, {when})", flush=True)
