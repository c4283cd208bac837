"""The node over rclpy, run until its end, and the ways in which it does not begin; on a double of rclpy."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from anytime.cli.main import app
from anytime.errors import NodeError, ParameterError
from anytime.node.parameters import Parameters
from anytime.runtime.reasoner import Reasoner
from tests.conftest import LONG, MakeReasoner, thinker, turns_at
from tests.doubles import PATIENCE_S, HeldEngine
from tests.doubles_rclpy import init, try_shutdown
from tests.doubles_rclpy_world import World
from tests.nodes import DEFAULTS, EPOCH_NS
from tests.ros_nodes import MSG, STD, RosRig


def run_in_thread_until_up(world: World, then: Any) -> threading.Thread:
    """Once the node is spun, call ``then``."""

    def watch() -> None:
        while not (world.executors and world.executors[-1].spinning.wait(0.01)):
            pass
        then()

    thread = threading.Thread(target=watch)
    thread.start()
    return thread


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it(world: World, make_reasoner: MakeReasoner, number: int) -> None:
    """What was taken in is answered and a goal has its result before the context ends; handlers are put back."""
    from anytime.node.ros.main import THREADS, run

    script = thinker(LONG, lambda n: "left")
    reasoner, engine, clock = make_reasoner(script, kind=HeldEngine, hold_at=-1)
    assert isinstance(engine, HeldEngine)
    world.system_ns = lambda: EPOCH_NS + clock.now()
    goals: list[Any] = []

    def ask() -> None:
        engine.hold_at = len(engine.generations) + 6
        stamp = RosRig.at(EPOCH_NS + clock.now())
        question = MSG.Question(header=STD.Header(stamp=stamp), text="what", budget_s=5.0)
        action = world.actions["/anytime/reason"]
        goals.append(action.send(action.action_type.Goal(question=question)))
        assert engine.reached.wait(PATIENCE_S)
        os.kill(os.getpid(), number)

    handlers = [signal.getsignal(it) for it in (signal.SIGINT, signal.SIGTERM)]
    asking = run_in_thread_until_up(world, ask)
    run(given=DEFAULTS, args=[], up=True, clock=clock, load=lambda parameters: reasoner)
    asking.join()
    assert [signal.getsignal(it) for it in (signal.SIGINT, signal.SIGTERM)] == handlers
    assert world.signals.name == "NO"  # rclpy's own handlers end the context at once
    assert goals[0].ended.wait(PATIENCE_S)
    assert (goals[0].result.decision.answer, goals[0].sent) == ("left", True)
    assert not world.ok
    assert world.nodes == []
    assert THREADS > 32  # goals under way leave threads to take in


def test_the_end_of_the_context_ends_it(world: World, make_reasoner: MakeReasoner) -> None:
    """As when something else in the process shuts ROS down."""
    from anytime.node.ros.main import run

    reasoner, _, clock = make_reasoner(turns_at(20))
    run_in_thread_until_up(world, try_shutdown)
    run(given=DEFAULTS, args=[], clock=clock, load=lambda parameters: reasoner)
    assert world.nodes == []


def test_a_message_that_rclpy_chokes_on(world: World, make_reasoner: MakeReasoner) -> None:
    """What a take raises ends spinning in rclpy; the node counts it and is served on."""
    from anytime.node.ros.main import run

    reasoner, _, clock = make_reasoner(turns_at(20))
    counted: list[int] = []

    def choke() -> None:
        executor = world.executors[-1]
        executor.fail(UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"))
        assert executor.spinning.wait(PATIENCE_S)
        counted.append(world.nodes[0].core.counts.totals().counts["malformed"])  # type: ignore[attr-defined]
        os.kill(os.getpid(), signal.SIGINT)

    choking = run_in_thread_until_up(world, choke)
    run(given=DEFAULTS, args=[], up=True, clock=clock, load=lambda parameters: reasoner)
    choking.join()
    assert counted == [1]


def test_a_node_that_cannot_be_brought_up(world: World, make_reasoner: MakeReasoner) -> None:
    """The command ends with the reason, and nothing is left behind."""
    from anytime.node.ros.main import run

    def load(parameters: Parameters) -> Reasoner:
        raise MemoryError("no room")

    with pytest.raises(NodeError, match="no room"):
        run(given=DEFAULTS, args=[], up=True, load=load)
    assert (world.ok, world.nodes) == (False, [])


def test_the_entry_point(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    """``ros2 run``: an error is a line and exit code 1."""
    from rclpy.parameter import Parameter

    from anytime.node.ros.main import main

    world.overrides = [Parameter("threads", value=-1)]
    assert main([]) == 1
    assert "error: the parameter threads cannot have its value" in capsys.readouterr().err


def test_messages_that_were_not_built(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """It says how to build them."""
    from anytime.node.ros.node import AnytimeNode

    for name in ("anytime_msgs", "anytime_msgs.msg", "anytime_msgs.action", "anytime_msgs.srv"):
        monkeypatch.delitem(sys.modules, name)
    init()
    with pytest.raises(NodeError, match="build ros/anytime_msgs with colcon"):
        AnytimeNode("anytime", "", [])


def test_a_name_that_ros_does_not_take(world: World) -> None:
    """An error of ours, and the context is let go of."""
    from anytime.node.ros.main import run

    with pytest.raises(ParameterError, match="the node's name is '/my robot'"):
        run("/my robot", args=[])
    assert not world.ok


def test_the_command(world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """``anytime node --transport ros`` runs the node with what its options say, and brings it up."""
    from anytime.node.ros import main

    ran: list[Any] = []
    monkeypatch.setattr(main, "run", lambda *args, **kwargs: ran.append((args, kwargs)))
    params = tmp_path / "params.yaml"
    params.write_text("/**:\n  ros__parameters: {budget_s: 0.1}\n", encoding="utf-8")
    options = ["node", "--transport", "ros", "--name", "/front/anytime", "--params", str(params), "--bundle", "b"]
    result = CliRunner().invoke(app, options)
    assert result.exit_code == 0, result.output
    assert ran == [(("/front/anytime", {"budget_s": 0.1, "bundle": "b"}), {"args": [], "up": True})]


def test_without_rclpy() -> None:
    """``--transport ros`` says how to get it, and with exit code 2."""
    code = "from anytime.cli.main import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, "node", "--transport", "ros"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "source /opt/ros/jazzy/setup.bash" in done.stderr.replace("\n", " ")


def test_rclpy_is_imported_only_when_asked_for() -> None:
    """The node with its other transports does without."""
    code = "import sys, anytime.node.node, anytime.cli.node; print('rclpy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
