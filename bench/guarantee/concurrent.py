"""Many clients of one engine: goodput under load, beside other ways of choosing whose step is next, and punctuality.

Every discipline has a process of its own, so that what is compared is the order of steps and not how 64 threads of one
Python get in the engine's way. Ours runs in the callers' process, too, for its punctuality there.
"""

from __future__ import annotations

import itertools
import random
import statistics
import threading
import time
from collections.abc import Callable, Iterator, Sequence

from anytime import Answer, Reasoner
from anytime.runtime.questions import Question
from anytime.scheduler.clock import MONOTONIC, NS_PER_MS, NS_PER_S
from bench.contenders import FALLBACK, Request, asked_format
from bench.guarantee.asking import Asked, ask, draw, seen, waited_ns, woken_first
from bench.guarantee.disciplines import BASELINES
from bench.guarantee.kept import Rows

CLIENTS = 32
LOADS = (0.5, 0.9, 1.5, 3.0)
OURS = "quotas"
IN_PROCESS = f"{OURS}, in one process"
CONTENDERS = (OURS, *BASELINES, IN_PROCESS)
BUDGETS_MS = (20.0, 500.0)  # above the floor
TURNS, TURN = 8, 280  # so that 2,000 and more are admitted at every load
CAPACITY_QUESTIONS, LOOSE_S = 60, 5.0
_LEAD_S = 0.05  # until the first arrival, for the threads to start
REJECTIONS, _BURST_S = 200, 0.06


def capacity(reasoner: Reasoner, questions: Sequence[Question], count: int = CAPACITY_QUESTIONS) -> float:
    """Full thoughts that can be finished in a second, asked one behind the other."""
    drawn = random.Random("capacity").choices(questions, k=count)
    times = []
    for question in drawn:
        answer, _ = ask(reasoner, Request(0, question, round(LOOSE_S * NS_PER_S), 0), "until-deadline")
        times.append(answer.elapsed_s)
    return 1.0 / statistics.fmean(times)


def crowd(reasoner: Reasoner, requests: Sequence[Request], rate: float, seed: str) -> list[Asked]:
    """Have the clients ask these requests, which arrive at random at so many a second; each with its control.

    A client that is free takes the next arrival. The control of a request waits for the same deadline at the same time,
    on a thread of its own.
    """
    source = random.Random(seed)
    arrivals = list(itertools.accumulate(source.expovariate(rate) for _ in requests))
    start = time.monotonic() + _LEAD_S
    answers: dict[int, tuple[Answer, int]] = {}
    controls: dict[int, int] = {}

    def client(turns: Iterator[int], lock: threading.Lock, serve: Callable[[int], None]) -> None:
        while True:
            with lock:
                turn = next(turns, None)
            if turn is None:
                return
            time.sleep(max(0.0, start + arrivals[turn] - time.monotonic()))
            serve(turn)

    def serve_model(turn: int) -> None:
        answers[turn] = ask(reasoner, requests[turn], "auto")

    def serve_control(turn: int) -> None:
        controls[turn] = waited_ns(reasoner, requests[turn])

    threads = []
    for serve in (serve_model, serve_control):
        shared = iter(range(len(requests))), threading.Lock(), serve
        threads += [threading.Thread(target=client, args=shared, daemon=True) for _ in range(CLIENTS)]
    with woken_first():
        for thread in threads:
            thread.start()
    for thread in threads:
        thread.join()
    return [seen(request, *answers[turn], controls[turn]) for turn, request in enumerate(requests)]


def turn(
    reasoner: Reasoner,
    questions: Sequence[Question],
    floors_ns: dict[str, int],
    rate: float,
    load: float,
    number: int,
    count: int,
) -> Rows:
    """One turn of a contender at a load; all of them get the same requests at the same instants."""
    seed = f"{load}/{number}"
    return crowd(reasoner, draw(questions, count, BUDGETS_MS, floors_ns, seed), load * rate, seed)


def rejections(reasoner: Reasoner, questions: Sequence[Question], count: int) -> list[list[float]]:
    """How long each of so many rejections took its caller, ms: requests come at once, until one finds no room."""
    source, found = random.Random("rejections"), list[list[float]]()
    while len(found) < count:
        taken_in = []
        while True:
            question = source.choice(questions)
            began_ns = MONOTONIC.now()
            pending = reasoner.submit(
                question.question, budget=_BURST_S, answer=asked_format(question), fallback=FALLBACK
            )
            if pending.job.stopped == "rejected":
                pending.result()
                found.append([(MONOTONIC.now() - began_ns) / NS_PER_MS])
                break
            taken_in.append(pending)
        for pending in taken_in:
            pending.result()
    return found
