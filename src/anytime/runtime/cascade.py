"""Several bundles behind one: routed by the question, passed on where there is doubt, within one deadline."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

import msgspec

from anytime.errors import UsageError
from anytime.runtime.answer import Answer
from anytime.runtime.answers.formats import AnswerFormat
from anytime.runtime.reasoner import Reasoner
from anytime.runtime.request import DEFAULT_FORMAT, Request
from anytime.runtime.router import Router, read_router
from anytime.scheduler.clock import NS_PER_S
from anytime.scheduler.deadline import deadline_of
from anytime.scheduler.sharing import stages

if TYPE_CHECKING:
    from typing_extensions import Unpack


class Cascade:
    """Asks the cheapest bundle that is likely right, and a larger one where its answer leaves doubt.

    ``reasoners`` in order of cost, all calibrated, so that their confidences can be compared. An answer with a
    confidence of ``sure`` is not passed on. With a ``router`` the first to be asked is the cheapest that is right with
    that probability, by the question alone; without one, the cheapest.

    A bundle is affordable where a whole thought of it is expected to fit. A cheaper one is asked before it only within
    the time that leaves for it; so the deadline is one for all of them.
    """

    def __init__(self, reasoners: Sequence[Reasoner], router: Router | None = None, *, sure: float = 0.95) -> None:
        if len(reasoners) < 2:
            raise UsageError(f"{len(reasoners)} bundles are no cascade: give two or more, the cheapest first")
        for reasoner in reasoners:
            if not reasoner.calibrated:
                name = reasoner.bundle.manifest.name
                raise UsageError(
                    f"the bundle {name!r} is not calibrated: its doubt means nothing ('anytime calibrate')"
                )
        if not 0.0 <= sure <= 1.0:
            raise UsageError(f"sure is {sure}: it must be between 0 and 1")
        self._reasoners, self._router, self._sure = list(reasoners), router, sure
        self._clock = reasoners[0].clock

    @classmethod
    def load(
        cls,
        bundles: Sequence[str | os.PathLike[str]],
        router: str | os.PathLike[str] | None = None,
        *,
        sure: float = 0.95,
        threads: int | None = None,
    ) -> Cascade:
        """Open bundles, the cheapest first, and the file that ``anytime route`` wrote for them.

        Raises:
            BundleError, ProfileError, EngineError: see ``Reasoner.load``; the router is for other bundles.
            UsageError: there is only one bundle, or one is not calibrated.
        """
        reasoners = [Reasoner.load(bundle, threads=threads) for bundle in bundles]
        ids = [reasoner.bundle.id for reasoner in reasoners]
        return cls(reasoners, read_router(Path(router), ids) if router is not None else None, sure=sure)

    def answer(self, prompt: str, **request: Unpack[Request]) -> Answer:
        """The best answer of any bundle found by the deadline; arguments and errors as in ``Reasoner.answer``.

        The answer's ``bundle_id`` says whose it is. What only earlier bundles thought and found is not in its counts.
        """
        received_ns = self._clock.now()
        deadline_ns = deadline_of(received_ns, request.pop("budget", None), request.pop("deadline", None))
        answer_format = request.get("answer", DEFAULT_FORMAT)
        best: Answer | None = None
        asked = self._stages(prompt, answer_format, deadline_ns - received_ns)
        for i, until_ns in asked:
            request["deadline"] = (deadline_ns - until_ns) / NS_PER_S
            found = self._reasoners[i].answer(prompt, **request)
            if best is None or (found.valid, found.confidence) >= (best.valid, best.confidence):
                best = found
            if found.valid and found.confidence >= self._sure:
                break
        assert best is not None, "there is always a stage"
        delivered_ns = self._clock.now()
        return msgspec.structs.replace(
            best,
            received_ns=received_ns,
            deadline_ns=deadline_ns,
            delivered_ns=delivered_ns,
            late=delivered_ns > deadline_ns,
        )

    def _stages(self, prompt: str, answer: AnswerFormat, left_ns: int) -> list[tuple[int, int]]:
        """Which bundles to ask in turn, and how long before the deadline each must have answered."""
        costs = [reasoner.costs(prompt, answer) for reasoner in self._reasoners]
        floors = [round(NS_PER_S * cost.floor_s) for cost in costs]
        needs = [round(NS_PER_S * (cost.thought_s or 0.0)) for cost in costs]  # known: all are calibrated
        affordable = [i for i, need_ns in enumerate(needs) if need_ns <= left_ns]
        if not affordable:
            return [(min(range(len(floors)), key=lambda i: floors[i]), 0)]
        if self._router is not None:
            affordable = affordable[self._router.first(prompt, affordable, self._sure) :]
        found = stages([floors[i] for i in affordable], [needs[i] for i in affordable], left_ns)
        return [(affordable[place], kept_ns) for place, kept_ns in found]

    def close(self) -> None:
        for reasoner in self._reasoners:
            reasoner.close()

    def __enter__(self) -> Cascade:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
