"""Streams and asyncio: each better answer as it is found."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest

from anytime import Answer
from anytime.runtime.pending import Pending
from anytime.testing import MockClock
from tests.conftest import ID, MS, MakeReasoner, thinker
from tests.doubles import LEFT_OR_RIGHT, PATIENCE_S, held

LONG = thinker("ab\n" * 60, lambda n: "left" if n < 20 else "right")
ASK: dict[str, Any] = {"answer": LEFT_OR_RIGHT, "fallback": "stop"}


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
    assert list(stream)[-1].stopped == "complete"


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
    pending.worker.machine = msgspec.structs.replace(pending.worker.machine, clock=NeverWaits())
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
