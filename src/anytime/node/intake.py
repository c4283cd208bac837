"""What comes in: checked at once, cheaply, and kept in a place for one, where the newest wins.

So a flood costs a fixed amount of memory, and the question that is being thought about is never thrown away for a
newer one: a peer that asks faster than the reasoner answers still gets answers, to the newest question each time.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from anytime.errors import InputError
from anytime.node.counts import DROPPED, Counts
from anytime.node.messages import Asked, Input, Question
from anytime.node.parameters import Parameters
from anytime.node.scene import check_scene
from anytime.node.stamps import Stamps
from anytime.scheduler.clock import NS_PER_S, seconds_to_ns

_LONGEST_NAME = 256  # characters of an id or a frame
_MOST_CHOICES = 256
_LONGEST_BUDGET_S = 86_400.0


def asked_of(message: Input, parameters: Parameters, stamps: Stamps, budget_ns: int | None = None) -> Asked:
    """Check an input and find its deadline: its budget behind its stamp.

    Args:
        message: as it came.
        parameters: the node's.
        stamps: what its stamp means.
        budget_ns: a goal's, which names its deadline instead.

    Raises:
        InputError: it is refused; the error says as what.
    """
    _check_names(message)
    if isinstance(message, Question):
        _check_question(message, parameters.max_text)
    else:
        check_scene(message, parameters.max_vehicles)
    if budget_ns is None:
        budget_ns = _budget_ns(message.budget_s, parameters)
    elif not 0 < budget_ns <= _LONGEST_BUDGET_S * NS_PER_S:
        raise InputError(
            "malformed",
            f"the deadline is {budget_ns / NS_PER_S:.3f} s behind the stamp: give one up to a day behind it",
        )
    stamped_ns = stamps.steady_ns(message.header.stamp, budget_ns)
    return Asked(message, stamped_ns, stamped_ns + budget_ns)


def _budget_ns(budget_s: float, parameters: Parameters) -> int:
    if not 0.0 <= budget_s <= _LONGEST_BUDGET_S:
        raise InputError("malformed", f"budget_s is {budget_s}: give seconds from 0 (the node's own) to a day")
    return seconds_to_ns(budget_s or parameters.budget_s)


def _check_names(message: Input) -> None:
    names = {"frame_id": message.header.frame_id, "request_id": message.request_id, "trace_id": message.trace_id}
    for name, text in names.items():
        if len(text) > _LONGEST_NAME:
            raise InputError("too_large", f"{name} has {len(text)} characters: {_LONGEST_NAME} is the most")
        if not text.isprintable():
            raise InputError("malformed", f"{name} is {text!r}: give characters that can be printed")


def _check_question(question: Question, max_text: int) -> None:
    if len(question.text) > max_text:
        raise InputError("too_large", f"the question has {len(question.text)} characters, and max_text={max_text}")
    if len(question.choices) > _MOST_CHOICES or sum(map(len, question.choices)) > max_text:
        raise InputError("too_large", f"there are {len(question.choices)} choices: {_MOST_CHOICES} are the most")
    if not question.text.strip():
        raise InputError("malformed", "the question is empty: fill in text")


class Lane:
    """A place for one waiting input and a thread that serves it; without the thread, whoever brings it serves it."""

    def __init__(self, serve: Callable[[Asked], None], counts: Counts, threaded: bool, name: str) -> None:
        self._serve, self._counts = serve, counts
        self._changed = threading.Condition()
        self._waiting: Asked | None = None
        self._stopping = False
        self._thread: threading.Thread | None = None
        if threaded:
            self._thread = threading.Thread(target=self._work, name=f"anytime-{name}", daemon=True)
            self._thread.start()

    def offer(self, asked: Asked) -> bool:
        """Let this be served next, instead of what is waiting; False once stopped."""
        with self._changed:
            if self._stopping:
                return False
            if self._thread is not None:
                if self._waiting is not None:
                    self._counts.add(DROPPED)
                self._waiting = asked
                self._changed.notify_all()
                return True
        self._serve(asked)
        return True

    def stop(self) -> None:
        """Take in no more, and wait until what was is served; deadlines see to it that this ends."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join()

    def _work(self) -> None:
        while (asked := self._next()) is not None:
            self._serve(asked)

    def _next(self) -> Asked | None:
        with self._changed:
            while self._waiting is None and not self._stopping:
                self._changed.wait()
            asked, self._waiting = self._waiting, None
            return asked
