"""The action Reason: a question whose best answers are fed back while it is thought about.

Transport-independent: a server of actions calls ``Node.goal``, then ``run`` on a thread of its own, and ``cancel``
from another when its client says so.
"""

from __future__ import annotations

from collections.abc import Callable

from anytime.errors import InputError
from anytime.node.answering import Answering
from anytime.node.messages import Asked, Decision


class Goal:
    """One question under way. ``run`` must be called, and once."""

    def __init__(self, answering: Answering, asked: Asked, ended: Callable[[Goal], None]) -> None:
        """Hand the question to the reasoner.

        Raises:
            InputError: the reasoner refuses it.
            EngineError: the engine is gone.
        """
        self._answering, self._ended = answering, ended
        self._thinking = answering.begin(asked)

    def run(self, feedback: Callable[[Decision], None]) -> Decision:
        """Wait for the answer; ``feedback`` gets the best so far each time there is a better one.

        Raises:
            InputError: an isolated reasoner finds the question malformed.
        """
        try:
            answer = self._answering.wait(
                self._thinking, lambda best: feedback(self._answering.best(self._thinking, best))
            )
            return self._answering.conclude(self._thinking, answer, as_topic=False)
        except InputError as error:
            self._answering.refused(error)
            raise
        finally:
            self._ended(self)

    def cancel(self) -> None:
        """Think no more: ``run`` returns the best answer so far, at once."""
        self._thinking.pending.cancel()
