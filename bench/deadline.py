"""The main guarantee: the best answer is in the caller's hands by the deadline, whatever the deadline.

Requests with budgets from 20 to 500 ms take turns with a control, the same wait and the same guard with no model;
for some of them an uninterrupted thought, and Hugging Face's ``max_time``, answer the same question in between.
"""

from __future__ import annotations

import argparse
import math
import random
import time
from pathlib import Path

from anytime import AnytimeError, Reasoner
from anytime.runtime.questions import Question, read_questions
from anytime.scheduler.clock import NS_PER_MS
from bench import deadline_figures
from bench.contenders import Request, control, deliver, floor_ns, ours, uninterrupted
from bench.deadline_figures import Results
from bench.peer import Peer, PeerError
from bench.report import ROOT, Report, parser, progress

SEED = 20
LEAST_MS, MOST_MS = 20.0, 500.0
REQUESTS, UNINTERRUPTED, PEER = 2_000, 300, 60
QUICK_REQUESTS, QUICK_UNINTERRUPTED, QUICK_PEER = 60, 20, 5
_AFTER_PEER_S = 0.02  # its threads spin a little before they sleep


def draw(questions: list[Question], requests: int, floors: dict[str, int]) -> list[Request]:
    """Questions at random, with budgets that are uniform on a logarithmic scale."""
    source = random.Random(SEED)
    drawn = []
    for number in range(requests):
        question = source.choice(questions)
        budget_ms = math.exp(source.uniform(math.log(LEAST_MS), math.log(MOST_MS)))
        drawn.append(Request(number, question, round(budget_ms * NS_PER_MS), floors[question.id]))
    return drawn


def open_peer(checkpoint: Path, close_tag: str, results: Results) -> Peer | None:
    try:
        peer = Peer(checkpoint, close_tag)
    except PeerError as error:
        results.peer_note = f"peer not measured: {error}"
        return None
    results.peer_note = ", ".join(f"{key} {value}" for key, value in peer.environment.items())
    return peer


def measure(reasoner: Reasoner, questions: list[Question], checkpoint: Path, quick: bool) -> Results:
    """Ask everything, contenders in turns."""
    floors = {question.id: floor_ns(reasoner, question) for question in questions}  # compiles the formats, too
    results = Results(
        delivery_ms=reasoner.profile.delivery_ns / NS_PER_MS,
        floors_ms={q.id: (q.difficulty, round(floors[q.id] / NS_PER_MS, 4)) for q in questions},
    )
    requests = draw(questions, QUICK_REQUESTS if quick else REQUESTS, floors)
    each_uninterrupted = max(1, len(requests) // (QUICK_UNINTERRUPTED if quick else UNINTERRUPTED))
    each_peer = max(1, len(requests) // (QUICK_PEER if quick else PEER))
    peer = open_peer(checkpoint, reasoner.bundle.manifest.chat.close.strip(), results)
    try:
        with progress() as bar:
            task = bar.add_task("requests", total=len(requests))
            for request in requests:
                turn(reasoner, request, results)
                if request.number % each_uninterrupted == 0:
                    results.uninterrupted.append(uninterrupted(reasoner, request))
                if peer is not None and request.number % each_peer == 0 and not ask(peer, request, results):
                    peer = None
                bar.update(task, advance=1, refresh=True)
    finally:
        if peer is not None:
            peer.close()
    return results


def turn(reasoner: Reasoner, request: Request, results: Results) -> None:
    """The request and its control, whose order alternates."""
    pair = [(control, results.control), (ours, results.ours)]
    for contender, deliveries in pair if request.number % 2 else pair[::-1]:
        deliveries.append(deliver(contender, reasoner, request))


def ask(peer: Peer, request: Request, results: Results) -> bool:
    """Whether the peer is still there afterwards."""
    try:
        results.peer.append(peer.ask(request))
    except PeerError as error:
        results.peer_note += f"; stopped at request {request.number}: {error}"
        peer.close()
        return False
    time.sleep(_AFTER_PEER_S)
    return True


def options() -> argparse.Namespace:
    wanted = parser("deadline", "Is the best answer in the caller's hands by the deadline, whatever the deadline?")
    wanted.add_argument("--bundle", type=Path, metavar="DIR", help="default: the reference reasoner")
    wanted.add_argument("--questions", type=Path, metavar="FILE", default=ROOT / "data/questions/drive.test.jsonl")
    wanted.add_argument(
        "--checkpoint", type=Path, metavar="DIR", default=ROOT / "checkpoints/reference", help="for the peer"
    )
    return wanted.parse_args()


def main() -> int:
    given = options()
    report = Report("deadline", given.json)
    questions = read_questions(given.questions)
    try:
        reasoner = Reasoner.load(given.bundle)
    except AnytimeError as error:
        raise SystemExit(str(error)) from error
    with reasoner:
        profile = reasoner.profile
        report.environment |= {
            "bundle": reasoner.bundle.id,
            "questions": given.questions.name,
            "engine": f"{profile.key.engine} {profile.key.version}, {profile.key.threads} threads",
            "profile": {"created": profile.created, "quick": profile.quick, **profile.environment},
            "delivery_ms": profile.delivery_ns / NS_PER_MS,
        }
        results = measure(reasoner, questions, given.checkpoint, given.quick)
    report.environment["peer"] = results.peer_note
    return report.finish(
        deadline_figures.figures(results, given.quick),
        results.samples(),
        deadline_figures.table(results),
        deadline_figures.notes(results),
    )


if __name__ == "__main__":
    raise SystemExit(main())
