"""``anytime node``: the node on a transport; without any, questions from stdin."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from anytime.cli.common import reported
from anytime.errors import UsageError
from anytime.node.inprocess import Bus, InProcess
from anytime.node.messages import Decision, Header, Input, Question, Scene
from anytime.node.node import Node
from anytime.node.parameters import parameters_of, read_parameters
from anytime.node.stamps import time_of
from anytime.scheduler.clock import system_ns

_STATUS = ("thinking", "complete", "early", "deadline", "cancelled", "rejected", "stale", "error")


@reported
def node(
    params: Annotated[Path | None, typer.Option(help="A ROS 2 parameter file.")] = None,
    bundle: Annotated[Path | None, typer.Option(help="A bundle; default: the parameter's, or the reference.")] = None,
    name: Annotated[str, typer.Option(help="The node's full name.")] = "/anytime",
    transport: Annotated[str, typer.Option(help="What carries the messages: inprocess.")] = "inprocess",
    record: Annotated[Path | None, typer.Option(help="Record to this directory (a rosbag2 of MCAP).")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print every decision as one JSON object a line.")] = False,
) -> None:
    """Take questions and scenes, and publish decisions by their deadlines.

    With the transport 'inprocess' they are JSON objects on stdin, one a line, with the fields of the messages Question
    or Scene; one without a header is stamped when it is read.
    """
    if transport != "inprocess":
        raise UsageError(f"there is no transport {transport!r}: there is inprocess")
    given: dict[str, Any] = read_parameters(params, name) if params is not None else {}
    if bundle is not None:
        given["bundle"] = str(bundle)
    if record is not None:
        given["record"] = str(record)
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


def _bring(line: str, node: Node, bus: Bus) -> None:
    """Publish the message of a line, and say why it was refused if it was."""
    before = node.counts.totals().counts
    try:
        message, topic = _message(line, node)
    except msgspec.DecodeError as error:
        print(f"warning: the line {line.strip()[:80]!r} is no Question and no Scene: {error}", file=sys.stderr)
        return
    bus.publish(topic, message)
    after = node.counts.totals()
    for trouble, reason in after.reasons.items():
        if after.counts[trouble] > before.get(trouble, 0):
            print(f"warning: {trouble}: {reason}", file=sys.stderr)


def _message(line: str, node: Node) -> tuple[Input, str]:
    fields = msgspec.json.decode(line, type=dict[str, Any])
    if "header" not in fields:
        fields["header"] = msgspec.to_builtins(Header(time_of(system_ns())))
    if "lane" in fields:
        return msgspec.convert(fields, Scene), node.topics.scene.name
    return msgspec.convert(fields, Question), node.topics.question.name


def _print_json(decision: Decision) -> None:
    print(msgspec.json.encode(decision).decode(), flush=True)


def _print(decision: Decision) -> None:
    how = f"{decision.source}, {_STATUS[decision.status]}, confidence {decision.confidence:.3f}"
    when = f"{1e3 * decision.elapsed_s:.1f} of {1e3 * decision.budget_s:.0f} ms"
    print(f"{decision.answer or '(none)'}  ({how}, {when})", flush=True)
