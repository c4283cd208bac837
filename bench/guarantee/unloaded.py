"""One caller alone: requests of all budgets, each beside its control, some beside an uninterrupted thought."""

from __future__ import annotations

from collections.abc import Sequence

from anytime import Reasoner
from bench.contenders import Request, settle, uninterrupted
from bench.guarantee.asking import Asked, ask, seen, waited_ns

BUDGETS_MS = (20.0, 500.0)  # above the floor
REQUESTS, PIECE = 5_000, 250
EACH_UNINTERRUPTED = 10


def pairs(reasoner: Reasoner, requests: Sequence[Request]) -> list[Asked]:
    """Each request and its control, whose order alternates."""
    found = []
    for request in requests:
        settle(reasoner)
        if request.number % 2:
            control_ns = waited_ns(reasoner, request)
            outcome = ask(reasoner, request, "until-deadline")
        else:
            outcome = ask(reasoner, request, "until-deadline")
            control_ns = waited_ns(reasoner, request)
        found.append(seen(request, *outcome, control_ns))
    return found


def thoughts(reasoner: Reasoner, requests: Sequence[Request]) -> list[tuple[int, int, bool]]:
    """Number, tokens and whether it closed itself, of every tenth request's thought when nobody stops it."""
    found = []
    for request in requests:
        if request.number % EACH_UNINTERRUPTED == 0:
            bare = uninterrupted(reasoner, request)
            found.append((bare.request, bare.tokens, bare.completed))
    return found
