"""The isolated reasoner: answers as in one process, and on time whatever becomes of the worker's process."""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import random
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from anytime import (
    Answer,
    AnswerFormatError,
    BudgetError,
    BundleError,
    Cascade,
    Choices,
    DecisionLog,
    EngineError,
    Health,
    Isolated,
    Isolation,
    JsonSchema,
    PromptError,
    Reasoner,
    Regex,
    Sampling,
    Text,
    UsageError,
    answer_together,
)
from anytime.bundle import Bundle
from anytime.ext.latency import Latency
from anytime.ext.slots import FAILED, FINISHED, TAKEN
from anytime.runtime.isolated import settings, supervisor
from anytime.runtime.isolated.messages import Start, pack_format, publish, publish_failure, read, unpack_format
from anytime.runtime.isolated.pending import IsolatedPending, blank_answer
from anytime.runtime.isolated.seats import make_slots, under_way
from anytime.runtime.isolated.supervisor import HANG_NS, PREPARING_NS, hangs
from anytime.runtime.policies.until import UntilDeadline
from tests.conftest import MS, make_profile
from tests.doubles import LEFT_OR_RIGHT, PATIENCE_S

ROOT = Path(__file__).parents[1]
WORKER = (str(Path(__file__).with_name("isolated_worker.py")),)
ASK: dict[str, Any] = {"answer": LEFT_OR_RIGHT, "fallback": "wait"}
SCENE = "lane 2 of 4 at 27 m/s\nlane 2 ahead 14 m 18 m/s\nlane 3 behind 30 m 25 m/s"
ACTIONS = Choices("LANE_LEFT", "IDLE", "LANE_RIGHT", "FASTER", "SLOWER")

Make = Callable[..., Isolated]


@pytest.fixture
def make(bundle: Bundle, latency: Latency) -> Iterator[Make]:
    """``make()``: an isolated reasoner whose worker does what prompts say (``isolated_worker``)."""
    made: list[Isolated] = []

    def make(
        command: tuple[str, ...] = WORKER, count: int = 4, log: DecisionLog | None = None, **start: Any
    ) -> Isolated:
        slots = make_slots(count)
        given = {"bundle": str(bundle.path), "profile": make_profile(latency, bundle.id), **start}
        begin = Start(parent=os.getpid(), memory=slots.fd, bells=slots.bells, **given)
        made.append(Isolated(slots, begin, command, log))
        return made[-1]

    yield make
    for isolated in made:
        isolated.close()


@pytest.fixture(scope="module")
def profile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A profile file for the reference, so that none needs to be measured."""
    file = tmp_path_factory.mktemp("profile") / "profile.json"
    latency = Latency(alpha=1.0, beta=20_000.0, gamma=1_000_000.0, p=100.0, q=1_000_000.0)
    file.write_bytes(msgspec.json.encode(make_profile(latency, Bundle.reference().id)))
    return file


@pytest.fixture(scope="module")
def reference(profile: Path) -> Iterator[Isolated]:
    with Reasoner.load(profile=profile, estimate=True, isolated=True) as isolated:
        assert isinstance(isolated, Isolated)
        yield isolated


def gone(pid: int) -> bool:
    """Whether a process ends, soon."""
    try:
        file = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    ended = select.select([file], [], [], PATIENCE_S)[0]
    os.close(file)
    return bool(ended)


def until(holds: Callable[[], bool]) -> None:
    """Look until it holds; nothing announces it."""
    end_ns = time.monotonic_ns() + PATIENCE_S * 10**9
    while not holds():
        assert time.monotonic_ns() < end_ns


def alive(isolated: Isolated) -> int:
    """The worker's process, once there is one."""
    assert isolated.answer("what", budget=PATIENCE_S, **ASK).text == "right"
    assert isolated.pid is not None
    return isolated.pid


def served(isolated: Isolated, prompt: str) -> IsolatedPending:
    """A request that has found a slot, as soon as there is one."""
    while True:
        pending = isolated.submit(prompt, budget=PATIENCE_S, **ASK)
        if pending.slot >= 0:
            return pending


# As in one process


@pytest.mark.parametrize(
    "asked",
    [
        {"answer": ACTIONS},
        {"answer": ACTIONS, "policy": "fixed:tokens=20"},
        {"answer": ACTIONS, "policy": "no-thinking"},
        {"answer": ACTIONS, "min_confidence": 1.0, "fallback": "IDLE"},
        {"answer": Text(8), "policy": "until-deadline", "sampling": Sampling(0.8, 0.9, seed=3)},
        {"answer": Regex("[A-Z_]{4,12}"), "policy": "fixed:tokens=5"},
        {"answer": JsonSchema({"enum": ["LANE_LEFT", "IDLE"]}, 16), "policy": "fixed:tokens=0"},
    ],
)
def test_answers_are_those_of_one_process(reference: Isolated, profile: Path, asked: dict[str, Any]) -> None:
    """Formats, policies, sampling, bars and fallbacks cross: the same text, thought and confidence."""
    with Reasoner.load(profile=profile, estimate=True) as reasoner:
        there, here = (r.answer(SCENE, budget=PATIENCE_S, **asked) for r in (reference, reasoner))
    same = ("text", "stopped", "source", "effort", "calibrated", "thought", "bundle_id")
    assert {name: getattr(there, name) for name in same} == {name: getattr(here, name) for name in same}
    assert there.confidence == pytest.approx(here.confidence, rel=1e-4)  # one of them knew the prompt already
    assert there.tokens.thought == here.tokens.thought
    assert there.reason == here.reason
    assert there.received_ns < there.delivered_ns < there.deadline_ns
    assert not there.late


def test_the_rest_of_the_surface_is_there(reference: Isolated, profile: Path) -> None:
    """Costs, calibration, several questions at once and cascades work; an answer is delivered twice, and so paid."""
    with Reasoner.load(profile=profile, estimate=True) as here:
        further_s = here.profile.delivery_ns / 1e9
        assert reference.floor(SCENE, ACTIONS) == pytest.approx(here.floor(SCENE, ACTIONS) + further_s)
        there, alone = reference.costs(SCENE, ACTIONS), here.costs(SCENE, ACTIONS)
        assert there.thought_s == pytest.approx((alone.thought_s or 0) + further_s)
        assert reference.profile == here.profile
        assert reference.calibrated
    reference.prepare(ACTIONS)
    with pytest.raises(AnswerFormatError):
        reference.prepare(Choices("\ud800", "a"))
    together = answer_together(reference, [SCENE, SCENE], budget=PATIENCE_S, answer=ACTIONS)
    assert [answer.valid for answer in together] == [True, True]
    assert Cascade([reference, reference]).answer(SCENE, budget=PATIENCE_S, answer=ACTIONS).valid


def test_the_model_is_not_opened_here(profile: Path) -> None:
    """In the caller's process there is no ONNX Runtime and no multiprocessing; in the worker's there is the former."""
    code = f"""
import sys
from anytime import Reasoner
with Reasoner.load(profile={str(profile)!r}, estimate=True, isolated=True) as isolated:
    assert isolated.answer("lane 2 of 4 at 27 m/s", budget=20).valid
    loaded = [open(f"/proc/{{pid}}/maps").read() for pid in ("self", isolated.pid)]
print("libonnxruntime" in loaded[0], "libonnxruntime" in loaded[1], "multiprocessing" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True", "False"]


def test_the_command_line_thinks_in_another_process(profile: Path) -> None:
    """``anytime run --isolated`` prints the answer."""
    code = "from anytime.cli.main import main; main()"
    command = ["run", "--isolated", "--profile", str(profile), "--estimate", "--budget", "20s", "--choices", "a,b"]
    done = subprocess.run([sys.executable, "-c", code, *command, SCENE], capture_output=True, text=True, check=True)
    assert done.stdout.strip() in ("a", "b")


def test_streams_yield_each_better_answer(make: Make) -> None:
    """Synchronous and asynchronous: the instant answer first, the final one last."""
    isolated = make()
    got = list(isolated.stream("what", budget=PATIENCE_S, **ASK))
    assert (got[-1].text, got[-1].stopped) == ("right", "complete")

    async def follow() -> list[Answer]:
        return [answer async for answer in isolated.stream_async("what", budget=PATIENCE_S, **ASK)]

    assert asyncio.run(follow())[-1].text == "right"
    assert asyncio.run(isolated.answer_async("what", budget=PATIENCE_S, **ASK)).text == "right"


def test_the_best_so_far_is_there_and_cancelling_ends_the_thinking(make: Make) -> None:
    """An engine that stands still: the first answer can be seen, and is the answer once the caller calls off."""
    isolated = make()
    pending = isolated.submit("hold", budget=PATIENCE_S, **ASK)
    assert isinstance(pending, IsolatedPending)
    assert pending.wait_for_news()
    assert (pending.best().text, pending.best().source) == ("left", "instant")
    assert pending.thought() == ""
    assert isolated.health() is Health.BUSY
    got = pending.cancel()
    assert (got.text, got.stopped, isolated.restarts) == ("left", "cancelled", 0)
    assert pending.result() is got
    assert pending.cancel() is got


def test_a_stream_that_is_dropped_frees_the_engine(make: Make) -> None:
    """Who stops listening stops the thinking: the next request is served, by the same worker."""
    isolated = make()
    stream = isolated.stream("hold", budget=PATIENCE_S, **ASK)
    assert next(stream).text == "left"
    stream.close()  # type: ignore[attr-defined]
    alive(isolated)
    assert isolated.restarts == 0


def test_a_step_that_hangs_ends_when_told_to(make: Make) -> None:
    """The caller leaves on time with the best so far; the step is told to end, and nothing is started again."""
    isolated = make()
    got = isolated.answer("hold", budget=1.0, **ASK)
    assert (got.text, got.source, got.stopped) == ("left", "instant", "deadline")
    alive(isolated)
    assert isolated.restarts == 0


# Several at once, and on their way


def test_the_newest_of_a_topic_is_the_one_that_counts(make: Make) -> None:
    """Asked in quick succession: each ends the one before it as stale, with what that has; the last is answered."""
    isolated = make(count=16)
    stale = [isolated.submit("hold", budget=PATIENCE_S, topic="front", **ASK)]
    assert stale[0].wait_for_news()
    stale += [isolated.submit("what", budget=PATIENCE_S, topic="front", **ASK) for _ in range(10)]
    other = isolated.submit("what", budget=PATIENCE_S, topic="rear", priority=3, **ASK)
    newest = stale.pop()
    assert newest.result().stopped == "complete"
    assert other.result().stopped == "complete"
    assert (stale[0].result().text, stale[0].result().stopped) == ("left", "stale")
    assert {pending.result().stopped for pending in stale} <= {"stale", "complete"}


def test_two_requests_under_way_have_two_ids(make: Make) -> None:
    """The second is refused at once; when the first has been answered its id is free."""
    isolated = make()
    pending = isolated.submit("hold", budget=PATIENCE_S, request_id="a", **ASK)
    with pytest.raises(UsageError, match="a request with the id 'a' is under way"):
        isolated.submit("what", budget=PATIENCE_S, request_id="a", **ASK)
    pending.cancel()
    assert isolated.answer("what", budget=PATIENCE_S, request_id="a", **ASK).request_id == "a"


def test_answer_now_closes_the_thought_where_it_stands(make: Make) -> None:
    """The thought would take two seconds and more; what there is of it is answered from."""
    isolated = make()
    pending = isolated.submit("e", budget=PATIENCE_S, **ASK)
    while pending.best().tokens.thought < 8:  # the instant answer first, then a probe
        assert pending.wait_for_news()
    pending.answer_now()
    got = pending.result()
    assert (got.stopped, got.source) == ("early", "thought")
    assert 8 <= got.tokens.thought < 200


def test_a_tightened_request_is_answered_by_its_new_deadline(make: Make) -> None:
    """Also where the caller waits already, for an engine that stands still."""
    isolated, got = make(), list[Answer]()
    pending = isolated.submit("hold", budget=PATIENCE_S, **ASK)
    assert pending.wait_for_news()
    waiter = threading.Thread(target=lambda: got.append(pending.result()))
    waiter.start()
    before_ns = pending.deadline_ns
    until(lambda: pending.tighten(budget=0.3))
    waiter.join(PATIENCE_S / 2)
    assert (got[0].text, got[0].stopped) == ("left", "deadline")
    assert got[0].deadline_ns == pending.deadline_ns < before_ns
    assert not pending.tighten(budget=-1.0)


def test_an_extended_request_thinks_on(make: Make) -> None:
    """The context is full after two seconds and more, which the first deadline had no time for."""
    isolated = make()
    pending = isolated.submit("e", budget=1.0, **ASK)
    until(lambda: pending.extend(budget=PATIENCE_S))
    got = pending.result()
    assert (got.stopped, got.reason, got.late) == ("early", "the model's context is full", False)
    assert got.elapsed_s > 1.0


def test_a_deadline_moves_to_the_side_that_was_said(make: Make) -> None:
    """Otherwise it is a mistake; and nothing is changed for a request that is over, or when the worker does not say."""
    isolated = make()
    pending = isolated.submit("hold", budget=5.0, **ASK)
    with pytest.raises(BudgetError, match=r"later than agreed: use extend\(\)"):
        pending.tighten(budget=PATIENCE_S)
    with pytest.raises(BudgetError, match=r"sooner than agreed: use tighten\(\)"):
        pending.extend(budget=1.0)
    assert isolated.pid is not None
    os.kill(isolated.pid, signal.SIGSTOP)
    before_ns = pending.deadline_ns
    assert not pending.extend(budget=PATIENCE_S)
    assert pending.deadline_ns == before_ns
    pending.cancel()
    over = isolated.submit("what", budget=0, **ASK)
    assert not over.extend(budget=1.0)


def test_a_question_every_period_and_how_the_engine_drifts(make: Make) -> None:
    """``every`` asks the worker; ``drift`` is what the worker knows of its engine."""
    isolated, enough = make(), threading.Event()
    got: list[Answer] = []

    def told(answer: Answer) -> None:
        got.append(answer)
        if len(got) == 3:
            enough.set()

    task = isolated.every(0.1, lambda: "what", told, **ASK)
    assert enough.wait(PATIENCE_S)
    task.stop()
    assert "right" in {answer.text for answer in got}
    assert isolated.drift() is None
    isolated.close()
    with pytest.raises(EngineError, match="the Reasoner is closed"):
        isolated.drift()


def test_the_decision_log_is_the_callers(make: Make, tmp_path: Path) -> None:
    """A line for each answer as it was delivered here, the rejected ones too."""
    log = DecisionLog(tmp_path / "log.jsonl")
    isolated = make(log=log)
    answers = [isolated.answer("what", budget=b, topic="front", **ASK) for b in (PATIENCE_S, 0)]
    log.close()
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    for line, answer in zip(lines, answers, strict=True):
        assert (line["asked"]["prompt"], line["asked"]["topic"]) == ("what", "front")
        assert line["asked"]["id"] == answer.request_id
        assert line["answered"]["answer"] == answer.text
        assert line["answered"]["delivered_ns"] == answer.delivered_ns
        assert line["planned"]["token_cap"] == answer.token_cap


# What cannot cross


@pytest.mark.parametrize(
    ("asked", "kind", "why"),
    [
        ({"budget": float("nan")}, BudgetError, "budget is nan"),
        ({"deadline": float("nan")}, BudgetError, "deadline is nan"),
        ({"budget": 1.0, "deadline": 2.0}, BudgetError, "both budget and deadline"),
        ({"budget": 1.0, "accept": lambda text: True}, UsageError, "accept= cannot cross"),
        ({"budget": 1.0, "policy": UntilDeadline()}, UsageError, "give it by name"),
        ({"budget": 1.0, "priority": 1.5}, UsageError, "priority is 1.5"),
        ({"budget": 1.0, "topic": object()}, UsageError, "cannot cross into the isolated process"),
        ({"budget": 1.0, "policy": "nothing"}, UsageError, "there is no policy 'nothing'"),
        ({"budget": 1.0, "sampling": {"temperature": 1.0}}, UsageError, "give a Sampling"),
        ({"budget": 1.0, "min_confidence": float("nan")}, UsageError, "between 0 and 1"),
        ({"budget": 1.0, "answer": ["left", "right"]}, AnswerFormatError, "use Choices"),
        ({"budget": 1.0, "answer": Choices("é", "ü")}, AnswerFormatError, None),
        ({"budget": 1.0, "nothing": 1}, TypeError, "unexpected keyword argument 'nothing'"),
    ],
)
def test_a_wrong_request_is_refused_at_once(
    make: Make, asked: dict[str, Any], kind: type[Exception], why: str | None
) -> None:
    """What is wrong, or no data, raises in the caller, with the remedy, and never reaches the worker."""
    isolated = make()
    with pytest.raises(kind, match=why):
        isolated.submit("what", **{"answer": LEFT_OR_RIGHT, **asked})
    assert isolated.health() is Health.READY


def test_a_prompt_that_cannot_be_one_is_refused(make: Make) -> None:
    """Empty, no text, more characters than fit, more tokens than fit (which the worker sees), or than a slot holds."""
    isolated = make()
    for prompt in ("", b"what", "a" * 100_000, "a" * 255):
        with pytest.raises(PromptError):
            isolated.answer(prompt, budget=PATIENCE_S, **ASK)  # type: ignore[arg-type]
    schema = JsonSchema("{" + " " * 300_000 + "}", 8)
    isolated._compiled = lambda answer: None  # type: ignore[method-assign,assignment]
    with pytest.raises(PromptError, match="an isolated one at most 262144: shorten the prompt"):
        isolated.answer("what", budget=PATIENCE_S, answer=schema)
    del isolated._compiled  # type: ignore[method-assign]
    alive(isolated)


def test_no_time_at_all_gives_the_fallback_at_once(make: Make) -> None:
    """Rejected on this side, and the fallback, which is a function, is called here."""
    isolated = make()
    for budget in (0, -1.0, 0.0009):
        got = isolated.answer("what", budget=budget, answer=LEFT_OR_RIGHT, fallback=lambda: "wait")
        assert (got.text, got.source, got.stopped) == ("wait", "fallback", "rejected")
        assert "less than it takes to deliver an answer" in got.reason
    got = isolated.answer("what", budget=0.002, **ASK)
    assert (got.text, got.source) == ("wait", "fallback")


def test_formats_and_answers_come_out_as_they_went_in() -> None:
    """A format is the same on the other side; a long thought is cut to fit, which is said; too long an answer fails."""
    for answer in (ACTIONS, Regex("a{1,3}"), Regex("a*", 5), JsonSchema({"type": "object"}, 9), Text(3)):
        assert unpack_format(msgspec.msgpack.decode(msgspec.msgpack.encode(pack_format(answer)))) == answer
    slots = make_slots(1, 64, 4096)
    blank = msgspec.structs.replace(blank_answer("r", "b", 1, 2), text="left", source="thought", reason="because")
    for thought in ("short", "é" * 4000):
        publish(slots, 0, 7, msgspec.structs.replace(blank, thought=thought), final=True)
        found = read(slots, 0, 7)
        assert found is not None
        assert found.answer is not None
        assert (found.final, found.answer.text) == (True, "left")
    assert found.answer.thought == "é" * len(found.answer.thought)
    assert 1500 < len(found.answer.thought) < 2048
    assert found.answer.reason == "because; the thought is cut: an isolated answer has 4096 bytes"
    publish(slots, 0, 8, msgspec.structs.replace(blank, text="x" * 5000), final=True)
    publish_failure(slots, 0, 9, PromptError("y" * 9000))
    found = read(slots, 0, 9)
    assert found is not None
    assert found.failed is not None
    assert isinstance(found.failed.error(), PromptError)
    assert read(slots, 0, 8) is not None
    assert (slots.read(0, 9) or (0, 0))[1] & FAILED
    slots.close()


# When the worker dies or hangs


def test_a_worker_that_dies_leaves_the_best_so_far(make: Make) -> None:
    """Killed behind its first answer: that is returned at once, with the reason; the next request is normal."""
    isolated = make()
    got = isolated.answer("kill", budget=PATIENCE_S, **ASK)
    assert (got.text, got.source, got.stopped) == ("left", "instant", "error")
    assert got.reason == "the isolated process was killed by SIGKILL"
    assert got.elapsed_s < PATIENCE_S / 2
    alive(isolated)
    assert isolated.restarts == 1


def test_a_worker_that_dies_with_nothing_found_leaves_the_fallback(make: Make) -> None:
    """Killed in its first run; the request is not tried again, for it may be what kills."""
    isolated = make()
    got = isolated.answer("x", budget=PATIENCE_S, **ASK)
    assert (got.text, got.source, got.stopped) == ("wait", "fallback", "error")
    alive(isolated)
    assert isolated.restarts == 1


def test_requests_meanwhile_are_served_by_the_next_worker(make: Make) -> None:
    """Asked while there is no worker: they wait in their slots, and are answered."""
    isolated = make()
    os.kill(alive(isolated), signal.SIGKILL)
    asked = [isolated.submit("what", budget=PATIENCE_S, **ASK) for _ in range(3)]
    assert [pending.result().text for pending in asked] == ["right"] * 3
    assert isolated.restarts == 1


@pytest.mark.parametrize("prompt", ["stop", "deaf"])
def test_a_worker_that_hangs_is_replaced(make: Make, prompt: str) -> None:
    """Stopped as a whole, or in a run that never returns: the caller leaves on time, and the next request is normal."""
    isolated = make()
    got = isolated.answer(prompt, budget=1.0, **ASK)
    assert (got.text, got.source, got.stopped) == ("left", "instant", "deadline")
    assert got.elapsed_s < PATIENCE_S / 2
    alive(isolated)
    assert isolated.restarts == 1


def test_a_worker_that_hangs_while_idle_is_replaced(make: Make) -> None:
    """The first request that it leaves alone gives it away; that one gets its fallback in time."""
    isolated = make()
    os.kill(alive(isolated), signal.SIGSTOP)
    got = isolated.answer("what", budget=0.1, **ASK)
    assert (got.text, got.stopped) == ("wait", "deadline")
    assert got.reason == "the request was still waiting for the isolated process"
    alive(isolated)
    assert isolated.restarts == 1


def test_when_a_worker_hangs() -> None:
    """Late by more than the patience; not before, not while a format is compiled, not before it was there itself."""
    slots = make_slots(2)
    assert not hangs(slots, 0, 10**18, HANG_NS)
    slots.ask(0, 1, 100 * MS, b"")
    assert list(under_way(slots)) == [(0, 1, 0)]
    assert not hangs(slots, 0, 100 * MS + HANG_NS, HANG_NS)
    assert hangs(slots, 0, 101 * MS + HANG_NS, HANG_NS)
    assert not hangs(slots, 2 * MS + HANG_NS, 101 * MS + HANG_NS, HANG_NS)
    slots.ask(1, 2, 100 * MS, b"")
    slots.mark(1, 2, TAKEN)
    assert not hangs(slots, 0, 100 * MS + PREPARING_NS, HANG_NS)
    assert hangs(slots, 0, 101 * MS + PREPARING_NS, HANG_NS)
    slots.mark(1, 2, FINISHED)
    slots.lose(0, 1)
    assert list(under_way(slots)) == []
    assert not hangs(slots, 0, 10**18, HANG_NS)
    slots.close()


def test_damage_in_memory_costs_an_answer_not_a_wrong_one(make: Make) -> None:
    """The only answer so far is damaged: the fallback, never what the damage made of it."""
    isolated = make()
    pending = isolated.submit("hold", budget=PATIENCE_S, **ASK)
    assert pending.wait_for_news()
    start = 64 + 128 + isolated._slots.request_bytes  # of the first slot's buffers
    second = start + 64 + isolated._slots.answer_bytes  # the first answer's
    text = os.pread(isolated._slots.fd, 4, second + 64)
    assert text == b"left"
    os.pwrite(isolated._slots.fd, b"LEFT", second + 64)
    got = pending.leave()
    assert (got.text, got.source) == ("wait", "fallback")


def test_a_worker_that_writes_everywhere_costs_answers_no_more(make: Make) -> None:
    """All of the shared memory is overwritten before it dies: the fallback, and a worker that serves as before."""
    isolated = make()
    pid = alive(isolated)
    pending = isolated.submit("hold", budget=PATIENCE_S, **ASK)
    assert pending.wait_for_news()
    os.kill(pid, signal.SIGSTOP)
    os.waitpid(pid, os.WUNTRACED)  # it has stopped: what follows is as if it had done so itself, last of all
    size = os.fstat(isolated._slots.fd).st_size
    os.pwrite(isolated._slots.fd, random.Random(0).randbytes(size), 0)
    assert (pending.best().text, pending.best().source) == ("wait", "fallback")
    os.kill(pid, signal.SIGKILL)
    assert pending.result().stopped == "error"
    alive(isolated)
    assert isolated.restarts == 1


@pytest.mark.parametrize("standby", [False, True])
def test_twenty_restarts_leave_nothing_behind(make: Make, monkeypatch: pytest.MonkeyPatch, standby: bool) -> None:
    """No file descriptor, thread or process is left over."""
    monkeypatch.setattr(supervisor, "_LONG_LIFE_NS", 0)  # no pause between restarts
    isolated = make(isolation=Isolation(standby=standby))

    def held() -> tuple[int, int, int]:
        alive(isolated)
        children = Path(f"/proc/self/task/{isolated._supervisor._thread.native_id}/children").read_text().split()
        return len(os.listdir("/proc/self/fd")), threading.active_count(), len(children)

    until(lambda: held()[2] == 1 + standby)
    before, pids = held(), set()
    for _ in range(20 if not standby else 5):
        pid = alive(isolated)
        pids.add(pid)
        os.kill(pid, signal.SIGKILL)
        assert gone(pid)
        until(lambda: held() == before)
    assert len(pids) == isolated.restarts


def test_a_worker_that_cannot_start_again_is_said_at_once(make: Make, bundle: Bundle) -> None:
    """The bundle is gone: requests are rejected with the reason instead of waiting; with it back, all is normal."""
    isolated = make()
    pid = alive(isolated)
    away = bundle.path.rename(bundle.path.with_name("away"))
    os.kill(pid, signal.SIGKILL)
    assert gone(pid)
    while not (got := isolated.answer("what", budget=0.05, **ASK)).reason.startswith("the isolated process cannot"):
        assert got.text == "wait"
    assert (got.stopped, isolated.health()) == ("rejected", Health.LOST)
    assert "no bundle at" in got.reason
    away.rename(bundle.path)
    while (got := isolated.answer("what", budget=PATIENCE_S, **ASK)).stopped == "rejected":
        pass
    assert got.text == "right"


@pytest.mark.parametrize(
    ("code", "why"), [("raise SystemExit(3)", "ended with exit code 3 before it was ready"), ("1/0", "exit code 1")]
)
def test_a_worker_that_never_gets_ready_is_an_error(make: Make, code: str, why: str) -> None:
    """Loading fails with what there is to say, and leaves nothing open."""
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(EngineError, match=why):
        make(command=("-c", code))
    assert len(os.listdir("/proc/self/fd")) == before


def test_what_the_worker_raises_while_loading_is_raised_here(bundle: Bundle, tmp_path: Path) -> None:
    """With the same class and text as in one process."""
    with pytest.raises(BundleError, match="ONNX Runtime cannot open") as here:
        Reasoner.load(bundle.path)
    with pytest.raises(BundleError) as there:
        Reasoner.load(bundle.path, isolated=True)
    assert str(there.value) == str(here.value)
    with pytest.raises(UsageError, match="threads is 0"):
        Reasoner.load(threads=0, isolated=True)
    with pytest.raises(UsageError, match="overload is 'never'"):
        Reasoner.load(overload="never", isolated=True)  # type: ignore[arg-type]
    with pytest.raises(BundleError, match="no bundle at"):
        Reasoner.load(tmp_path / "nothing", isolated=True)


# Slots


def test_more_requests_than_slots_are_rejected(make: Make) -> None:
    """Two slots, two requests under way: the third gets its fallback at once; slots are used again."""
    isolated = make(count=2)
    held = [isolated.submit("hold", budget=PATIENCE_S, **ASK) for _ in range(2)]
    got = isolated.answer("what", budget=PATIENCE_S, **ASK)
    assert (got.text, got.stopped, got.reason) == ("wait", "rejected", "2 requests are under way already")
    for pending in held:
        pending.cancel()
        pending.result()
    assert served(isolated, "what").result().text == "right"


def test_an_answer_outlives_its_slot(make: Make) -> None:
    """Whoever looks late finds its own answer, though the slot has served others since."""
    isolated = make(count=1)
    pending = isolated.submit("kill", budget=PATIENCE_S, **ASK)
    later = served(isolated, "what")
    got = pending.result()
    assert (got.text, got.stopped, got.reason) == ("left", "error", "the isolated process was killed by SIGKILL")
    assert served(isolated, "hold").wait_for_news()
    assert (later.result().text, later.wait_for_news()) == ("right", False)


def test_a_controller_in_c_reads_what_the_reasoner_found(make: Make, compiler: str, tmp_path: Path) -> None:
    """The example in C, given the reasoner's path, prints the best answer so far of the request under way."""
    isolated = make()
    include, source = ROOT / "src" / "anytime" / "ext", ROOT / "examples" / "c" / "read_answers.c"
    subprocess.run([compiler, "-std=c99", f"-I{include}", source, "-o", tmp_path / "read"], check=True)
    pending = isolated.submit("hold", budget=PATIENCE_S, **ASK)
    assert pending.wait_for_news()
    done = subprocess.run([tmp_path / "read", isolated.slots_path], capture_output=True, text=True, check=True)
    assert f"slot {pending.slot} request {pending.serial} valid so-far " in done.stdout
    assert f" deadline {pending.deadline_ns} text left\n" in done.stdout


# Its end, and forks


def test_a_closed_one_rejects_and_leaves_nothing(make: Make) -> None:
    """What was under way keeps its best, at once; a later request is a fallback; the process and its files are gone."""
    before = len(os.listdir("/proc/self/fd"))
    isolated = make()
    pid = alive(isolated)
    held = isolated.submit("hold", budget=PATIENCE_S, **ASK)
    assert held.wait_for_news()
    isolated.close()
    got = held.result()
    assert (got.text, got.stopped, got.reason) == ("left", "cancelled", "the Reasoner was closed")
    assert isolated.answer("what", budget=1.0, **ASK).reason == "the Reasoner is closed"
    assert gone(pid)
    assert len(os.listdir("/proc/self/fd")) == before
    isolated.close()


@pytest.mark.parametrize("end", ["os._exit(0)", "os.kill(os.getpid(), signal.SIGKILL)", "raise SystemExit"])
def test_the_worker_ends_with_its_parent(profile: Path, end: str) -> None:
    """However the caller's process ends, and whichever thread loaded the reasoner, the worker does not stay behind."""
    code = f"""
import os, signal, threading
from anytime import Reasoner
made = []
loader = threading.Thread(target=lambda: made.append(
    Reasoner.load(profile={str(profile)!r}, estimate=True, isolated=True)))
loader.start()
loader.join()
assert made[0].answer("lane 2 of 4 at 27 m/s", budget=20).valid
print(made[0].pid, flush=True)
input()
{end}
"""
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdin is not None
        assert parent.stdout is not None
        worker = os.pidfd_open(int(parent.stdout.readline()))
        parent.stdin.write("\n")
        parent.stdin.flush()
        assert select.select([worker], [], [], PATIENCE_S)[0]
        os.close(worker)


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")  # Python 3.12 warns of forks with threads
def test_use_after_a_fork_is_refused_in_the_child(make: Make) -> None:
    """The child is told, and closing there does nothing to the parent's worker."""
    isolated = make()
    pid = alive(isolated)
    child = os.fork()
    if child == 0:
        signal.alarm(PATIENCE_S)
        code = 1
        try:
            isolated.close()
            isolated.answer("what", budget=0.1, **ASK)
        except EngineError as error:
            code = 42 if "load one in the child process" in str(error) else 1
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 42
    assert alive(isolated) == pid


# Real-time settings


def test_settings_are_granted_or_the_refusal_is_said(make: Make) -> None:
    """What the report says of processors, scheduling and memory is what the system says; the caller is left alone."""
    cpu, mine = max(os.sched_getaffinity(0)), os.sched_getaffinity(0)
    isolated = make(isolation=Isolation(cpus=(cpu,), fifo_priority=1, lock_memory=True))
    pid = alive(isolated)
    report = isolated.realtime
    assert report["affinity"] == str(cpu)
    assert os.sched_getaffinity(pid) == {cpu}
    assert os.sched_getaffinity(0) == mine
    threads = [int(task.name) for task in Path(f"/proc/{pid}/task").iterdir()]
    if report["fifo"] == "1":
        assert {os.sched_getscheduler(thread) for thread in threads} == {os.SCHED_FIFO}
    else:
        assert report["fifo"].startswith("refused: ")
        assert "CAP_SYS_NICE" in report["fifo"]
        assert {os.sched_getscheduler(thread) for thread in threads} == {os.SCHED_OTHER}
    (locked,) = (line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmLck"))
    assert (locked.split()[1] != "0") == (report["memory"] == "locked")
    assert report["memory"] == "locked" or report["memory"].startswith("refused: ")


def test_a_refusal_names_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the rights nothing is changed, and what would grant them is said."""

    def denied(*args: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "sched_setscheduler", denied)
    assert settings._fifo(10) == "refused: Operation not permitted; give it CAP_SYS_NICE or set LimitRTPRIO"
    monkeypatch.setattr(settings, "lock_memory", denied)
    monkeypatch.setattr(settings, "_may_lock", lambda: True)
    assert settings._locked() == "refused: Operation not permitted; free some memory"
    monkeypatch.setattr(settings, "_may_lock", lambda: False)
    monkeypatch.setattr(settings.resource, "getrlimit", lambda what: (65536, 65536))
    assert settings._locked() == (
        "refused: at most 65536 bytes may be locked; give it CAP_IPC_LOCK or set LimitMEMLOCK=infinity"
    )


def test_what_is_not_asked_for_or_not_there_is_said(make: Make) -> None:
    """No setting, no change; a processor that there is not is refused, and the worker runs all the same."""
    isolated = make()
    assert set(isolated.realtime.values()) == {"not asked for"}
    refused = make(isolation=Isolation(cpus=(100_000,)))
    assert refused.realtime["affinity"].startswith("refused: ")
    alive(refused)


@pytest.mark.parametrize(
    "wrong", [{"cpus": ()}, {"cpus": (-1,)}, {"cpus": ("0",)}, {"fifo_priority": 0}, {"fifo_priority": 100}]
)
def test_settings_that_mean_nothing_are_refused(wrong: dict[str, Any]) -> None:
    """With the value and what would be right."""
    with pytest.raises(UsageError, match=r"give the numbers|between 1 and 99"):
        Isolation(**wrong)


def test_a_standby_takes_over(make: Make) -> None:
    """Loaded before it is needed: the next worker is a process that was there when the first one died."""
    isolated = make(isolation=Isolation(standby=True))
    first = alive(isolated)
    children = Path(f"/proc/self/task/{isolated._supervisor._thread.native_id}/children")
    until(lambda: len(children.read_text().split()) == 2)
    (spare,) = {int(pid) for pid in children.read_text().split()} - {first}
    os.kill(first, signal.SIGKILL)
    assert gone(first)
    assert alive(isolated) == spare
    isolated.close()
    assert gone(spare)


def test_formats_are_compiled_again_before_a_new_worker_is_ready(make: Make) -> None:
    """What was prepared stays so, and an answer without preparation is compiled by the worker as well."""
    isolated = make()
    isolated.prepare(LEFT_OR_RIGHT)
    assert isolated._supervisor._start.formats == (["Choices", "left", "right"],)
    os.kill(alive(isolated), signal.SIGKILL)
    alive(isolated)
    isolated.close()
    with pytest.raises(EngineError, match="did not compile"):
        isolated.prepare(LEFT_OR_RIGHT)


def test_the_worker_answers_while_the_caller_holds_the_gil(make: Make) -> None:
    """In a call that keeps the GIL from beginning to end, the caller sees the bell of its slot ring."""

    class PollFd(ctypes.Structure):
        _fields_ = (("fd", ctypes.c_int), ("events", ctypes.c_short), ("revents", ctypes.c_short))

    isolated = make()
    pending = isolated.submit("what", budget=PATIENCE_S, **ASK)
    bell = PollFd(isolated._slots.bells[1 + pending.slot], select.POLLIN, 0)
    assert ctypes.PyDLL(None).poll(ctypes.byref(bell), 1, PATIENCE_S * 1000) == 1
    assert pending.result().text == "right"
