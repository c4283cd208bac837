"""What an isolated reasoner answers is what one in the same process does; what cannot cross is refused."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from anytime import (
    Answer,
    AnswerFormatError,
    BudgetError,
    Cascade,
    Choices,
    Health,
    Isolated,
    JsonSchema,
    PromptError,
    Reasoner,
    Regex,
    Sampling,
    Text,
    UsageError,
    answer_together,
)
from anytime.ext.slots import FAILED
from anytime.runtime.isolated.messages import pack_format, publish, publish_failure, read, unpack_format
from anytime.runtime.isolated.pending import IsolatedPending, blank_answer
from anytime.runtime.isolated.seats import make_slots
from anytime.runtime.policies.until import UntilDeadline
from tests.doubles import LEFT_OR_RIGHT, PATIENCE_S
from tests.isolated.conftest import ACTIONS, ASK, SCENE, Make, alive


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
