"""A reasoner in a process of its own that chooses whose step is next by another discipline.

``python -m bench.guarantee.serve_as DISCIPLINE THOUGHT_NS`` is what runs in that process.
"""

from __future__ import annotations

import os
import sys

from anytime.runtime.intake import MOST_REQUESTS
from anytime.runtime.isolated.client import Isolated
from anytime.runtime.isolated.messages import Ready, Start
from anytime.runtime.isolated.seats import make_slots
from anytime.runtime.isolated.serve import load_bundle, main
from anytime.runtime.reasoner import Reasoner
from bench.guarantee.disciplines import BASELINES, LeastLaxity


def served_as(discipline: str, thought_ns: int) -> Isolated:
    """The reference in a process that chooses by this discipline; ``thought_ns`` is what a whole request takes.

    Raises:
        AnytimeError: as ``Reasoner.load``.
    """
    slots = make_slots()
    start = Start(parent=os.getpid(), memory=slots.fd, bells=slots.bells)
    return Isolated(slots, start, ("-m", "bench.guarantee.serve_as", discipline, str(thought_ns)))


def choose_by(discipline: str, thought_ns: int, reasoner: Reasoner) -> None:
    """Before its first request."""
    agenda = BASELINES[discipline](MOST_REQUESTS)
    if isinstance(agenda, LeastLaxity):
        agenda.thought_ns = thought_ns
    reasoner._worker._agenda = agenda


if __name__ == "__main__":
    discipline, thought_ns = sys.argv[1], int(sys.argv[2])
    del sys.argv[1:3]  # what is left is for the worker

    def load(start: Start) -> tuple[Reasoner, Ready]:
        reasoner, ready = load_bundle(start)
        choose_by(discipline, thought_ns, reasoner)
        return reasoner, ready

    main(load)
