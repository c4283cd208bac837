"""Run the lifecycle node until a signal comes: ``anytime node --transport ros``, ``ros2 run anytime_ros node``."""

from __future__ import annotations

import contextlib
import queue
import signal
import sys
import threading
from collections.abc import Iterator, Mapping
from typing import Any

import rclpy
from rclpy.exceptions import NameValidationException
from rclpy.executors import ExternalShutdownException, MultiThreadedExecutor
from rclpy.signals import SignalHandlerOptions

from anytime.errors import AnytimeError, NodeError, ParameterError
from anytime.node.ros.node import AnytimeNode
from anytime.node.ros.parameters import overrides

# As many as max_goals may be, each of which occupies one, and some to take in questions and cancels meanwhile.
THREADS = 32 + 8
_JOIN_S = 5.0
_PAUSE_S = 0.01


def run(
    name: str = "/anytime",
    given: Mapping[str, Any] | None = None,
    args: list[str] | None = None,
    up: bool = False,
    **core: Any,
) -> None:
    """Run the node until SIGINT, SIGTERM, or the end of its ROS context. On the main thread only.

    Args:
        name: the full name, which ``args`` may remap.
        given: parameters that were asked for.
        args: of ROS; None: the process's.
        up: configure and activate it; else whoever manages it does.
        core: what ``AnytimeNode`` and ``Node`` take beside that.

    Raises:
        ParameterError: a parameter cannot have its value.
        NodeError: it cannot be brought up, a ROS type is not installed, or rclpy stopped serving it.
    """
    # Our own handlers: rclpy's end the context at once, and the last decisions could not be published.
    rclpy.init(args=args, signal_handler_options=SignalHandlerOptions.NO)
    try:
        namespace, _, last = name.rpartition("/")
        try:
            node = AnytimeNode(last, namespace, overrides(given or {}), **core)
        except NameValidationException as error:
            raise ParameterError(f"the node's name is {name!r}: give a full name like /anytime") from error
        try:
            if up:
                _bring_up(node)
            _serve(node)
        finally:
            node.end()
            node.goals.destroy()
            node.destroy_node()
    finally:
        rclpy.try_shutdown()


def _bring_up(node: AnytimeNode) -> None:
    for trigger in (node.trigger_configure, node.trigger_activate):
        trigger()
        if node.failure:
            raise NodeError(node.failure)


def _serve(node: AnytimeNode) -> None:
    ended: queue.SimpleQueue[BaseException | None] = queue.SimpleQueue()  # which a signal handler may put into
    executor = MultiThreadedExecutor(num_threads=THREADS)
    executor.add_node(node)
    spinning = threading.Thread(target=_spin, args=(executor, node, ended), name="anytime-ros", daemon=True)
    with _signals(ended):
        spinning.start()
        error = ended.get()
        node.end()  # while the executor still serves: goals have results to send
        executor.shutdown()
        spinning.join(_JOIN_S)
    if error is not None:
        raise NodeError(f"rclpy stopped serving the node: {error!r}") from error


def _spin(executor: MultiThreadedExecutor, node: AnytimeNode, ended: queue.SimpleQueue[BaseException | None]) -> None:
    """Serve callbacks until the executor or the context ends; a message that rclpy chokes on is no such end."""
    pause = threading.Event()
    while True:
        try:
            executor.spin()
        except ExternalShutdownException:
            pass
        except Exception as error:
            if executor.context.ok():
                node.core.counts.add("malformed", f"rclpy could not take a message: {error!r}")
                pause.wait(_PAUSE_S)
                continue
        except BaseException as error:
            ended.put(error)
            return
        ended.put(None)
        return


@contextlib.contextmanager
def _signals(ended: queue.SimpleQueue[BaseException | None]) -> Iterator[None]:
    """SIGINT and SIGTERM put an end to it, in this block."""
    before = {number: signal.signal(number, lambda *_: ended.put(None)) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def main(args: list[str] | None = None) -> int:
    """``ros2 run anytime_ros node``: the exit code."""
    try:
        run(args=args)
    except AnytimeError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0
