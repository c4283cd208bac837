"""Several requests: the queue, cancelling, streams and asyncio."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from typing import Any

import pytest

from anytime import Answer, Reasoner
from anytime.runtime.pending import Pending
from anytime.runtime.worker import MAX_WAITING
from anytime.testing import MockClock
from tests.conftest import ID, MS, MakeReasoner, thinker
from tests.doubles import LEFT_OR_RIGHT, PATIENCE_S, HeldEngine

LONG = thinker("ab\n" * 60, lambda n: "left" if n < 20 else "right")
ASK: dict[str, Any] = {"answer": LEFT_OR_RIGHT, "fallback": "stop"}


def held(make_reasoner: MakeReasoner, hold_at: int = 3) -> tuple[Reasoner, HeldEngine, MockClock]:
    reasoner, engine, clock = make_reasoner(LONG, kind=HeldEngine, hold_at=hold_at)
    assert isinstance(engine, HeldEngine)
    return reasoner, engine, clock


def test_requests_are_served_in_their_order_and_waiting_counts(make_reasoner: MakeReasoner) -> None:
    """The second of two requests has only what the first one leaves of its budget, and thinks less for it."""
    reasoner, engine, _ = held(make_reasoner)
    alone = reasoner.profile  # the same budget alone would buy about 97 tokens
    assert alone is not None
    first = reasoner.submit("what", budget=0.06, **ASK)
    assert engine.reached.wait(PATIENCE_S)
    second = reasoner.submit("what", budget=0.1, **ASK)
    engine.released.set()
    one, two = first.result(), second.result()
    assert one.delivered_ns < two.delivered_ns
    assert two.received_ns < one.delivered_ns
    assert two.delivered_ns <= two.deadline_ns
    assert 50 < one.token_cap < 60
    assert 35 < two.token_cap < 45
    assert engine.generations == sorted(engine.generations)


def test_a_request_still_waiting_at_its_deadline_gets_its_fallback(make_reasoner: MakeReasoner) -> None:
    """The caller behind a long request leaves on time too, and is told that it was still waiting."""
    reasoner, engine, clock = held(make_reasoner)
    first = reasoner.submit("what", budget=1.0, **ASK)
    assert engine.reached.wait(PATIENCE_S)
    second = reasoner.submit("what", budget=0.05, **ASK)
    clock.advance(second.job.ready_ns - clock.now())
    got = second.result()
    assert (got.text, got.source, got.stopped, got.late) == ("stop", "fallback", "deadline", False)
    assert "still waiting for the engine" in got.reason
    engine.released.set()
    assert first.result().text == "right"
    assert set(engine.generations) == {first.job.generation}


def test_the_queue_is_bounded(make_reasoner: MakeReasoner) -> None:
    """One request too many is rejected at once, with the reason; the others are all answered."""
    reasoner, engine, clock = held(make_reasoner)
    pending = [reasoner.submit("what", budget=0.1, **ASK)]
    assert engine.reached.wait(PATIENCE_S)
    pending += [reasoner.submit("what", budget=80.0, **ASK) for _ in range(MAX_WAITING)]
    before_ns = clock.now()
    rejected = reasoner.answer("what", budget=80.0, **ASK)
    assert (rejected.stopped, rejected.text) == ("rejected", "stop")
    assert f"{MAX_WAITING} requests are waiting already" in rejected.reason
    assert clock.now() == before_ns
    engine.released.set()
    assert [each.result().text for each in pending] == ["right"] * (MAX_WAITING + 1)


def test_requests_of_many_threads_are_all_answered(make_reasoner: MakeReasoner) -> None:
    """A Reasoner is shared by threads: every one gets its own answer."""
    reasoner, _, _ = make_reasoner(LONG)
    got: dict[int, Answer] = {}

    def ask(i: int) -> None:
        got[i] = reasoner.answer("what", budget=80.0, request_id=str(i), **ASK)

    threads = [threading.Thread(target=ask, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_S)
    assert {i: (answer.text, answer.request_id) for i, answer in got.items()} == {
        i: ("right", str(i)) for i in range(8)
    }


def test_cancel_stops_the_thinking_and_keeps_the_best(make_reasoner: MakeReasoner) -> None:
    """The step that runs is told to end; result returns at once what was found."""
    reasoner, engine, clock = held(make_reasoner, hold_at=40)
    pending = reasoner.submit("what", budget=10.0, **ASK)
    assert engine.reached.wait(PATIENCE_S)
    before_ns = clock.now()
    pending.cancel()
    got = pending.result()
    assert (got.text, got.source, got.stopped, got.overrun) == ("right", "probe", "cancelled", False)
    assert engine.terminated == [pending.job.generation]
    assert clock.now() == before_ns


def test_a_waiting_request_can_be_cancelled(make_reasoner: MakeReasoner) -> None:
    """It returns its fallback at once and never reaches the engine; the running one is not disturbed."""
    reasoner, engine, _ = held(make_reasoner)
    first = reasoner.submit("what", budget=0.1, **ASK)
    assert engine.reached.wait(PATIENCE_S)
    second = reasoner.submit("what", budget=0.1, **ASK)
    second.cancel()
    assert (second.result().text, second.result().stopped) == ("stop", "cancelled")
    assert engine.terminated == []
    engine.released.set()
    assert first.result().text == "right"
    assert reasoner.answer("what", budget=0.1, **ASK).text == "right"
    assert second.job.generation not in engine.generations


def test_cancelling_what_is_over_changes_nothing(make_reasoner: MakeReasoner) -> None:
    """Neither a finished nor a rejected request is called cancelled, and no step of another one is told to end."""
    reasoner, engine, _ = held(make_reasoner, hold_at=10**9)
    for budget, stopped in ((0.1, "deadline"), (0.0, "rejected")):
        pending = reasoner.submit("what", budget=budget, **ASK)
        assert pending.job.done.wait(PATIENCE_S)
        pending.cancel()
        assert pending.result().stopped == stopped
    assert engine.terminated == []


class Gates:
    """A script that stands still before the thought is as long as the next gate."""

    def __init__(self, *lengths: int) -> None:
        self._gates = {length: threading.Event() for length in lengths}

    def __call__(self, tokens: Sequence[int]) -> int:
        thought = len(tokens) - tokens.index(ID["<think>"]) - 1
        if ID["</think>"] not in tokens and thought in self._gates:
            assert self._gates[thought].wait(PATIENCE_S), f"nobody opened the gate at {thought}"
        return LONG(tuple(tokens))

    def open(self, length: int) -> None:
        self._gates[length].set()


def test_a_stream_yields_instant_then_better_then_final(make_reasoner: MakeReasoner) -> None:
    """Each better answer comes when it is found, resting on more thought than the one before."""
    gates = Gates(4, 30)
    reasoner, _, _ = make_reasoner(gates)
    got: list[Answer] = []
    for answer in reasoner.stream("what", budget=0.1, **ASK):
        got.append(answer)
        if answer.source == "instant":
            gates.open(4)
        elif answer.tokens.thought >= 26:
            gates.open(30)
    assert (got[0].source, got[0].text, got[0].tokens.thought) == ("instant", "left", 0)
    assert "probe" in [answer.source for answer in got]
    assert (got[-1].source, got[-1].text, got[-1].stopped) == ("thought", "right", "deadline")
    thoughts = [answer.tokens.thought for answer in got]
    assert thoughts == sorted(thoughts)


def test_a_slow_consumer_sees_the_latest_and_delays_nobody(make_reasoner: MakeReasoner) -> None:
    """While the consumer looks at the first answer the thought goes on to its end; the next answer is the final one."""
    gates = Gates(4)
    reasoner, engine, _ = held(make_reasoner, hold_at=60)
    engine._script = gates
    stream = reasoner.stream("what", budget=10.0, **ASK)
    assert next(stream).source == "instant"
    gates.open(4)
    assert engine.reached.wait(PATIENCE_S)  # five probes later, nobody has looked
    latest = next(stream)
    assert latest.source == "probe"
    assert latest.tokens.thought >= 45
    engine.released.set()
    assert list(stream)[-1].stopped == "early"


def test_a_stream_that_is_dropped_frees_the_engine(make_reasoner: MakeReasoner) -> None:
    """Who stops listening stops the thinking."""
    reasoner, engine, _ = held(make_reasoner)
    stream = reasoner.stream("what", budget=80.0, **ASK)
    assert next(stream).source == "instant"
    assert engine.reached.wait(PATIENCE_S)
    stream.close()  # type: ignore[attr-defined]
    assert engine.terminated == [engine.generations[-1]]
    assert reasoner.answer("what", budget=0.1, **ASK).text == "right"


class NeverWaits(MockClock):
    """Fails where a real clock would wait."""

    def wait_until(self, event: threading.Event, instant_ns: int) -> bool:
        assert event.is_set(), "waits although the job has ended"
        return True


def test_news_of_the_end_are_not_lost(make_reasoner: MakeReasoner) -> None:
    """A job that ends just after its last answer was noticed does not keep its listener until the deadline."""

    class EndsWhenAsked(threading.Event):
        def is_set(self) -> bool:
            ended = super().is_set()
            if not ended:  # the engine's thread ends the job right behind this look
                self.set()
                job.news.set()
            return ended

    reasoner, _, _ = make_reasoner(LONG)
    pending: Pending = reasoner.submit("what", budget=0.0, **ASK)
    job = pending.job
    job.done = EndsWhenAsked()
    job.news.set()
    object.__setattr__(pending.machine, "clock", NeverWaits())
    assert pending.wait_for_news()
    assert not pending.wait_for_news()


def test_async_answers_several_at_once(make_reasoner: MakeReasoner) -> None:
    """Requests of one event loop are all answered, each with its own name."""
    reasoner, _, _ = make_reasoner(LONG)

    async def ask() -> list[Answer]:
        tasks = [reasoner.answer_async("what", budget=80.0, request_id=str(i), **ASK) for i in range(5)]
        return await asyncio.gather(*tasks)

    got = asyncio.run(ask())
    assert [(answer.text, answer.request_id) for answer in got] == [("right", str(i)) for i in range(5)]


def test_async_cancelling_a_task_stops_the_thinking(make_reasoner: MakeReasoner) -> None:
    """The cancelled task's step is told to end, and the event loop was never blocked."""
    reasoner, engine, _ = held(make_reasoner)

    async def ask() -> Answer:
        task = asyncio.create_task(reasoner.answer_async("what", budget=80.0, **ASK))
        await asyncio.to_thread(engine.reached.wait, PATIENCE_S)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return await reasoner.answer_async("what", budget=0.1, **ASK)

    assert asyncio.run(ask()).text == "right"
    assert engine.terminated == [1]


def test_async_stream_ends_with_the_final_answer(make_reasoner: MakeReasoner) -> None:
    """The last answer of an async stream is what answer would have returned."""
    reasoner, _, _ = make_reasoner(LONG)

    async def listen() -> list[Answer]:
        return [answer async for answer in reasoner.stream_async("what", budget=0.1, **ASK)]

    got = asyncio.run(listen())
    assert (got[-1].text, got[-1].source, got[-1].stopped) == ("right", "thought", "deadline")


def test_async_after_close_is_a_fallback(make_reasoner: MakeReasoner) -> None:
    """A valid request gets an Answer, never an exception, from a closed Reasoner too."""
    reasoner, _, _ = make_reasoner(LONG)
    reasoner.close()
    got = asyncio.run(reasoner.answer_async("what", budget=0.1, **ASK))
    assert (got.text, got.stopped, got.reason) == ("stop", "rejected", "the Reasoner is closed")
    assert got.deadline_ns - got.received_ns == 100 * MS
