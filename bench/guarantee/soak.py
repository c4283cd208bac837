"""Mixed load for as long as wanted: nothing may grow, and nobody be late beyond the control."""

from __future__ import annotations

import json
import os
import random
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from anytime import Reasoner
from anytime.runtime.questions import Question
from bench.contenders import Request, asked_format
from bench.guarantee.asking import Asked, draw
from bench.guarantee.concurrent import LOADS, crowd

ROUND_S, LEAST_ROUNDS = 10.0, 24  # rounds are shorter where that would be fewer
BUDGETS_MS = (20.0, 500.0)
_PAGE_MIB = os.sysconf("SC_PAGE_SIZE") / 2**20
_SETTLE_S = 1.0


def sizes() -> tuple[float, int, int]:
    """Resident memory in MiB, open descriptors and threads of this process."""
    resident = int(Path("/proc/self/statm").read_text().split()[1])
    return resident * _PAGE_MIB, len(os.listdir("/proc/self/fd")), threading.active_count()


def rounds(
    reasoner: Reasoner,
    questions: Sequence[Question],
    floors_ns: dict[str, int],
    rate: float,
    minutes: float,
    done: Callable[[float], None],
) -> tuple[list[Asked], list[tuple[float, float, int, int]]]:
    """Every load in turn, with requests that are cancelled, hurried and superseded among them.

    Before the clock starts a round at the highest load takes what memory that needs. What every request saw, and behind
    each round the minutes passed with the process's sizes.
    """
    _round(reasoner, questions, floors_ns, rate, LOADS[-1], ROUND_S, "soak/before")
    start, grown = time.monotonic(), []
    number, round_s = 0, min(ROUND_S, 60 * minutes / LEAST_ROUNDS)
    with tempfile.TemporaryFile("w+") as kept:  # on disk, for what is measured is whether this process grows
        while (passed := (time.monotonic() - start) / 60) < minutes:
            load = LOADS[number % len(LOADS)]
            for row in _round(reasoner, questions, floors_ns, rate, load, round_s, f"soak/{number}"):
                kept.write(json.dumps(row) + "\n")
            grown.append((passed, *sizes()))
            number += 1
            done(passed / minutes)
        kept.seek(0)
        return [Asked(*json.loads(line)) for line in kept], grown


def _round(
    reasoner: Reasoner,
    questions: Sequence[Question],
    floors_ns: dict[str, int],
    rate: float,
    load: float,
    round_s: float,
    seed: str,
) -> list[Asked]:
    requests = draw(questions, max(1, round(round_s * load * rate)), BUDGETS_MS, floors_ns, seed)
    meddler = threading.Thread(target=_meddle, args=(reasoner, requests, round_s, seed))
    meddler.start()
    found = crowd(reasoner, requests, load * rate, seed)
    meddler.join()
    time.sleep(_SETTLE_S)
    return found


def _meddle(reasoner: Reasoner, requests: Sequence[Request], round_s: float, seed: str) -> None:
    """Questions that are not waited for to their ends."""
    source = random.Random(f"{seed}/meddle")
    for request in source.sample(requests, min(len(requests), 20)):
        asked = request.question
        pending = reasoner.submit(
            asked.question, budget=request.budget_ns / 1e9, answer=asked_format(asked), topic=source.choice(("a", None))
        )
        source.choice((pending.cancel, pending.answer_now, pending.best, pending.result))()
        time.sleep(source.uniform(0.0, round_s / 40))
        pending.cancel()


class Round(NamedTuple):
    """What came of a round, times in milliseconds."""

    requests: int
    late: int
    control_late: int
    latest_ms: float
    latest_control_ms: float
    by_the_model: int


def told(rows: Sequence[Asked]) -> list[Round]:
    """Round by round; requests are numbered from 0 in each."""
    begins = [i for i, row in enumerate(rows) if row.number == 0]
    return [_told(rows[i:j]) for i, j in zip(begins, [*begins[1:], len(rows)], strict=True)]


def _told(rows: Sequence[Asked]) -> Round:
    return Round(
        requests=len(rows),
        late=sum(row.lateness_ms > 0 for row in rows),
        control_late=sum(row.control_ms > 0 for row in rows),
        latest_ms=max(row.lateness_ms for row in rows),
        latest_control_ms=max(row.control_ms for row in rows),
        by_the_model=sum(row.valid for row in rows),
    )


def growth(grown: Sequence[Sequence[float]], column: int) -> float:
    """Median of the last quarter of the rounds less that of the second: the first still warms up."""
    quarter = max(1, len(grown) // 4)
    last = [row[column] for row in grown[-quarter:]]
    early = [row[column] for row in grown[quarter : 2 * quarter]] or [grown[0][column]]
    return statistics.median(last) - statistics.median(early)
