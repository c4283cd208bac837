"""Where a transport brings what arrives: refused with a reason, or put where it is served."""

from __future__ import annotations

import threading
from collections.abc import Callable

from anytime.errors import AnytimeError, InputError
from anytime.node.answering import Answering
from anytime.node.counts import TAKEN, Counts
from anytime.node.goal import Goal
from anytime.node.intake import Lane, asked_of
from anytime.node.messages import Asked, Input, Question, Scene, Time
from anytime.node.parameters import Parameters
from anytime.node.stamps import Stamps, ns_of
from anytime.node.transport import Topics
from anytime.scheduler.clock import Clock


class Reception:
    """The ``Host`` of a transport. It takes in while it listens."""

    def __init__(
        self,
        name: str,
        topics: Topics,
        parameters: Callable[[], Parameters],
        stamps: Stamps,
        clock: Clock,
        counts: Counts,
        keep: Callable[[Input | Time], None],
    ) -> None:
        """``keep`` records what is taken in."""
        self.name, self.topics, self.stamps = name, topics, stamps
        self._parameters, self._clock, self._counts, self._keep = parameters, clock, counts, keep
        self._lock = threading.Lock()
        self._answering: Answering | None = None
        self._lanes: dict[type[Input], Lane] = {}
        self._goals: set[Goal] = set()
        self.listening_since_ns: int | None = None
        self.last_input_ns: int | None = None

    def listen(self, answering: Answering, threaded: bool) -> None:
        """Take in from now on; with threads of its own, or served by whoever brings it."""
        self._lanes = {
            Question: Lane(answering.serve, self._counts, threaded, "questions"),
            Scene: Lane(answering.serve, self._counts, threaded, "scenes"),
        }
        self._answering, self.listening_since_ns = answering, self._clock.now()

    def drain(self) -> None:
        """Take in no more, and wait until what was is answered; goals end with their best answers so far."""
        with self._lock:
            self._answering, self.listening_since_ns = None, None
            goals = list(self._goals)
        for goal in goals:
            goal.cancel()
        for lane in self._lanes.values():
            lane.stop()

    # -- any thread

    def on_question(self, question: Question) -> None:
        self._take(question)

    def on_scene(self, scene: Scene) -> None:
        self._take(scene)

    def on_clock(self, time: Time) -> None:
        try:
            self.stamps.on_clock(time)
        except InputError as error:
            self.note(error.trouble, f"/clock: {error}")
        else:
            self._keep(time)

    def note(self, trouble: str, reason: str) -> None:
        self._counts.add(trouble, reason)

    def _take(self, message: Input) -> None:
        if self._answering is None:
            self.note("inactive", "the node is not active: activate it")
            return
        try:
            asked = asked_of(message, self._parameters(), self.stamps)
        except InputError as error:
            self.note(error.trouble, str(error))
        except Exception as error:  # of a type that no transport should bring
            self.note("malformed", f"{type(message).__name__} cannot be read: {error!r}")
        else:
            self._taken(message)
            if not self._lanes[type(message)].offer(asked):
                self.note("inactive", "the node was deactivated just then")

    def _taken(self, message: Input) -> None:
        self.last_input_ns = self._clock.now()
        self._counts.add(TAKEN)
        self._keep(message)

    def goal(self, question: Question, deadline: Time, min_confidence: float) -> Goal:
        """Begin to think about the question of an action, until its deadline, or by its budget where that is zero.

        Raises:
            InputError: it is refused.
        """
        try:
            asked = self._goal(question, deadline, min_confidence)
            with self._lock:
                if self._answering is None:
                    raise InputError("inactive", "the node is not active: activate it")
                if len(self._goals) >= self._parameters().max_goals:
                    raise InputError("busy", f"{len(self._goals)} goals are under way, and that is max_goals")
                goal = Goal(self._answering, asked, self._ended)
                self._goals.add(goal)
        except InputError as error:
            self.note(error.trouble, str(error))
            raise
        except AnytimeError as error:
            self.note("error", str(error))
            raise InputError("error", str(error)) from error
        self._taken(question)
        return goal

    def _goal(self, question: Question, deadline: Time, min_confidence: float) -> Asked:
        if not 0.0 <= min_confidence <= 1.0:
            raise InputError("malformed", f"min_confidence is {min_confidence}: give a number from 0 to 1")
        budget_ns = None if deadline == Time() else ns_of(deadline) - ns_of(question.header.stamp)
        asked = asked_of(question, self._parameters(), self.stamps, budget_ns)
        return Asked(asked.message, asked.stamped_ns, asked.deadline_ns, min_confidence or None)

    def _ended(self, goal: Goal) -> None:
        with self._lock:
            self._goals.discard(goal)
