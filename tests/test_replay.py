"""Replay: the same decisions come out of a record, and whatever is changed in it shows."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from typer.testing import CliRunner

from anytime.bundle import Bundle
from anytime.cli.main import app
from anytime.errors import RecordError
from anytime.ext.latency import Latency
from anytime.node.bag import Bag, Entry, read_bag
from anytime.node.bagfile import BagFile
from anytime.node.inprocess import Bus, InProcess
from anytime.node.messages import Header, Question, Scene, Session, Steps, Trace, Vehicle
from anytime.node.node import Node
from anytime.node.parameters import Parameters, parameters_of
from anytime.node.rerun import rerun
from anytime.node.scene import scene_text
from anytime.node.stamps import time_of
from anytime.node.topics import record_topic, topics_of
from anytime.runtime.answers.formats import Choices
from anytime.runtime.job import Machine
from anytime.runtime.loading import open_bundle
from anytime.runtime.policies.named import policy_named
from anytime.runtime.prefixes import Prefixes
from anytime.runtime.prompt import Codec
from anytime.runtime.reasoner import Reasoner
from anytime.runtime.retaken.retake import Retake
from anytime.runtime.sampling import Sampling
from anytime.runtime.tape import Kind, Outcome, Tape
from anytime.scheduler.clock import system_ns
from anytime.scheduler.pace import Pace
from anytime.testing import MockClock, ScriptedEngine
from tests.conftest import LONG, MS, MakeReasoner, make_profile, thinker, turns_at
from tests.doubles import PATIENCE_S

BUDGETS_S = (0.1, 0.02, 0.05, 0.2, 0.005)


def a_scene(n: int, budget_s: float) -> Scene:
    vehicles = [Vehicle(1 + (n + i) % 4, 9.0 * i - 20.0 + n, 15.0 + (7 * n + 3 * i) % 15) for i in range(1, 3 + n % 6)]
    header = Header(time_of(system_ns()))
    return Scene(header=header, lanes=4, lane=1 + n % 4, speed_m_s=20.0 + n % 9, vehicles=vehicles, budget_s=budget_s)


def reference(parameters: Parameters) -> Reasoner:
    """The reference with a profile that is no measurement, so that a busy machine changes nothing."""
    loaded = open_bundle(None, 1)
    latency = Latency(alpha=1.0, beta=60_000.0, gamma=500_000.0, p=100.0, q=1_000_000.0)
    profile = msgspec.structs.replace(make_profile(latency, spec=loaded.engine.spec), key=loaded.key)
    return Reasoner(loaded.engine, loaded.codec, profile, loaded.bundle)


def settle(node: Node, traces: Sequence[Trace], inputs: int) -> None:
    """Until so many inputs are decided upon, or dropped: on a busy machine 5 ms can be over before one is taken in."""
    for _ in range(round(PATIENCE_S / 0.005)):
        if len(traces) + node.counts.totals().counts.get("stale", 0) >= inputs:
            return
        threading.Event().wait(0.005)
    raise AssertionError(f"{inputs} inputs, of which {len(traces)} were decided upon")


@pytest.fixture(scope="module")
def bag(tmp_path_factory: pytest.TempPathFactory) -> Bag:
    """A run of the reference: scenes one after the other, then questions, scenes and goals side by side."""
    path = tmp_path_factory.mktemp("replay") / "bag"
    bus = Bus()
    given = {"record": str(path), "warm_up": 5, "budget_s": 2.0, "fallback": "SLOWER"}
    node = Node(InProcess(bus), parameters_of(given), load=reference, threaded=True)
    traces: list[Trace] = []
    bus.subscribe(node.topics.trace.name, traces.append)
    node.configure()
    node.activate()
    for n in range(25):
        bus.publish(node.topics.scene.name, a_scene(n, BUDGETS_S[n % 5]))
        settle(node, traces, 1 + n)
    for n in range(10):
        seen = a_scene(n, 0.1)
        asked = Question(header=seen.header, text=scene_text(seen), choices=["FASTER", "SLOWER"], budget_s=0.1)
        goal = node.goal(msgspec.structs.replace(asked, request_id=f"goal-{n}"))
        running = threading.Thread(target=goal.run, args=(lambda best: None,))
        if n % 3 == 0:
            goal.cancel()
        bus.publish(node.topics.scene.name, seen)
        bus.publish(node.topics.question.name, asked)
        running.start()
        running.join()
        settle(node, traces, 25 + 3 * (1 + n))
    node.shutdown()
    return read_bag(path)


def changed(bag: Bag, which: Callable[[Any], bool], how: Callable[[Any], Any]) -> Bag:
    """The record with the first such message changed; None for leaving it out."""
    entries, done = [], False
    for entry in bag.entries:
        made: Any = entry.message
        if not done and which(made):
            made, done = how(made), True
        if made is not None:
            entries.append(Entry(entry.topic, entry.at_ns, made))
    assert done
    return Bag(bag.file, entries, bag.whole)


def thoughtful(bag: Bag) -> Steps:
    """The steps of the decision with most thought in the part without company."""
    traces = {trace.request_id: trace for trace in bag.all(Trace)[:25]}
    mine = [steps for steps in bag.all(Steps) if steps.request_id in traces]
    return max(mine, key=lambda steps: traces[steps.request_id].tokens_thought)


def test_the_same_decisions_come_out(bag: Bag) -> None:
    """All of them, with the same tokens, also of requests side by side and of those cut off by their deadlines."""
    found = rerun(bag)
    assert found.differences == []
    assert found.missing == []
    assert found.decisions == len(bag.all(Trace)) == 25 + 30
    assert found.others == 1 + 5
    assert {trace.stopped for trace in bag.all(Trace)} >= {"rejected", "cancelled"}
    assert sum(trace.tokens_thought > 20 for trace in bag.all(Trace)) > 5
    positions = [position for steps in bag.all(Steps) for position in (steps.position, *steps.turns, steps.ended)]
    assert len(set(positions)) == len(positions)


def test_a_changed_duration_shows(bag: Bag) -> None:
    """An action of the engine that took longer leaves less time for thought."""
    steps = thoughtful(bag)
    slow = [100 * MS, *steps.actions_took_ns[1:]]
    found = rerun(
        changed(bag, lambda m: m == steps, lambda m: msgspec.structs.replace(m, actions_took_ns=slow)),
    )
    assert steps.request_id in {difference.request_id for difference in found.differences}
    assert any(difference.what == "tokens_thought" for difference in found.differences)


@pytest.mark.parametrize(
    ("field", "value"), [("answer", "BRAKE"), ("thought", "none"), ("confidence", 0.123), ("tokens_planned", 1)]
)
def test_a_changed_decision_shows(bag: Bag, field: str, value: object) -> None:
    """One difference, of that request and that field; the others stay the same."""
    steps = thoughtful(bag)
    found = rerun(
        changed(
            bag,
            lambda m: isinstance(m, Trace) and m.request_id == steps.request_id,
            lambda m: msgspec.structs.replace(m, **{field: value}),
        )
    )
    assert [(d.request_id, d.what, d.recorded) for d in found.differences] == [(steps.request_id, field, value)]
    assert field in str(found.differences[0])


def test_a_changed_scene_shows(bag: Bag) -> None:
    """The message is read again, not only what the node made of it."""
    (first, *_) = bag.all(Scene)
    found = rerun(changed(bag, lambda m: m == first, lambda m: msgspec.structs.replace(m, speed_m_s=3.0)))
    assert found.differences
    assert found.differences[0].what == "the prompt's tokens"


def test_steps_that_are_not_there(bag: Bag) -> None:
    """A decision without its steps is named; without any there is nothing to replay, and why is said."""
    steps = thoughtful(bag)
    assert rerun(changed(bag, lambda m: m == steps, lambda m: None)).missing == [steps.request_id]
    bare = Bag(bag.file, [entry for entry in bag.entries if not isinstance(entry.message, Steps)], True)
    with pytest.raises(RecordError, match=r"has no steps.*isolated false"):
        rerun(bare)


def test_steps_that_make_no_sense(bag: Bag) -> None:
    """Columns of different length, a kind that there is not, a format that is none."""
    steps = thoughtful(bag)
    for broken in ({"actions": [9] * len(steps.actions)}, {"actions_tokens": []}, {"format": "[]"}, {"format": "{"}):
        other = changed(bag, lambda m: m == steps, lambda m, b=broken: msgspec.structs.replace(m, **b))  # type: ignore[misc]
        with pytest.raises(RecordError, match=f"the steps of {steps.request_id} in .* make no sense"):
            rerun(other)


def test_another_bundle_is_refused(bag: Bag) -> None:
    """Both ids are named, and what to do."""
    other = changed(bag, lambda m: isinstance(m, Session), lambda m: msgspec.structs.replace(m, bundle_id="0" * 64))
    with pytest.raises(RecordError, match=f"{'0' * 64}.*{Bundle.reference().id}.*--bundle"):
        rerun(other)


def test_another_machine_is_warned_of(bag: Bag) -> None:
    """Numbers of another processor may differ, so the replay says that it was another one."""
    (session,) = bag.all(Session)
    profile = msgspec.json.decode(session.profile)
    profile["key"]["processor"] = "abacus"
    spoilt = msgspec.json.encode(profile).decode()
    found = rerun(changed(bag, lambda m: m == session, lambda m: msgspec.structs.replace(m, profile=spoilt)))
    assert len(found.warnings) == 1
    assert "abacus" in found.warnings[0]


def written(bag: Bag, path: Path) -> Path:
    """The record as a file again."""
    file, topics = BagFile(path), topics_of(Parameters(), "/anytime")
    for entry in bag.entries:
        message: Any = entry.message
        file.write(record_topic(message, "/anytime") or topics.of(message), message, time_of(entry.at_ns))
    file.close()
    return path


def test_the_command(bag: Bag, tmp_path: Path) -> None:
    """``anytime replay`` exits with 0 when all is the same, with 1 when something differs, and names it."""
    same = CliRunner().invoke(app, ["replay", str(bag.file.parent)])
    assert same.exit_code == 0, same.output
    assert "55 decisions, and 6 requests of the node's own, were thought about again: all the same" in same.stdout
    steps = thoughtful(bag)
    other = changed(
        bag,
        lambda m: isinstance(m, Trace) and m.request_id == steps.request_id,
        lambda m: msgspec.structs.replace(m, answer="BRAKE"),
    )
    differs = CliRunner().invoke(app, ["replay", str(written(other, tmp_path / "other"))])
    assert differs.exit_code == 1
    assert f"{steps.request_id}: answer: 'BRAKE' was recorded" in differs.stdout
    assert "1 differ" in differs.stdout
    refused = CliRunner().invoke(app, ["replay", str(tmp_path)])
    assert refused.exit_code == 1
    assert "there are 0 .mcap files" in refused.stderr


# -- on a mock clock and a scripted engine


def retaken(tape: Tape, reasoner: Any, engine: ScriptedEngine, script: Any) -> Retake:
    """A tape run again on an engine of its own, all of its turns."""
    codec = Codec(reasoner.bundle)
    other = ScriptedEngine(MockClock(), reasoner.profile.latency(), script, vocab_size=64, max_context=256)
    machine = Machine(other, codec, Pace(make_profile(reasoner.profile.latency())), MockClock(), Prefixes(other))
    retake = Retake(tape, machine, policy_named("auto", False, ()), Sampling(), tape.prompt, reasoner.bundle.id)
    retake.come()
    for turn in tape.turns:
        retake.turn(turn.until_ns)
    retake.end()
    return retake


def taped(make_reasoner: MakeReasoner, script: Any, **request: Any) -> tuple[Tape, Any, Any, Any]:
    reasoner, engine, _ = make_reasoner(script)
    tapes: list[Tape] = []
    reasoner.watch(tapes.append)
    answer = reasoner.answer("what", answer=Choices("left", "right"), **request)
    reasoner.close()
    (tape,) = tapes
    return tape, answer, reasoner, engine


def test_a_tape_gives_the_same_answer(make_reasoner: MakeReasoner) -> None:
    """At any budget, in all that can be said of an answer."""
    for budget in (0.004, 0.01, 0.05, 0.2, 1.0):
        tape, answer, reasoner, engine = taped(make_reasoner, turns_at(20), budget=budget)
        retake = retaken(tape, reasoner, engine, turns_at(20))
        assert retake.differences == []
        told = {"received_ns", "request_id", "deadline_ns", "overrun"}
        again = msgspec.structs.asdict(retake.answer)  # type: ignore[arg-type]
        for name, value in msgspec.structs.asdict(answer).items():
            assert name in told or again[name] == value, name


def test_another_model_shows_as_its_first_other_action(make_reasoner: MakeReasoner) -> None:
    """A model that thinks otherwise runs other steps; only the first is told, and time does not stand still."""
    tape, _, reasoner, engine = taped(make_reasoner, turns_at(20), budget=0.2)
    retake = retaken(tape, reasoner, engine, thinker("ab\n", lambda n: "left"))
    whats = [what for what, _, _ in retake.differences]
    assert any("of the engine" in what for what in whats)
    longer = retaken(tape, reasoner, engine, thinker(LONG + LONG[:20], lambda n: "left"))
    assert longer.answer is not None


def test_what_the_engine_failed_at_fails_again(make_reasoner: MakeReasoner) -> None:
    """With the same words."""
    tape, _, reasoner, engine = taped(make_reasoner, turns_at(20), budget=0.2)
    tape.actions = tape.actions[:4]
    tape.actions[3].outcome, tape.failure = Outcome.FAILED, "it burnt down"
    retake = retaken(tape, reasoner, engine, turns_at(20))
    assert retake.answer is not None
    assert (retake.answer.stopped, retake.answer.reason) == ("error", "it burnt down")


def test_kinds_of_actions(make_reasoner: MakeReasoner) -> None:
    """A request begins with its prompt, thinks in steps, and closes with its tag."""
    tape, _, _, _ = taped(make_reasoner, turns_at(20), budget=0.2)
    kinds = [action.kind for action in tape.actions]
    assert kinds[0] == Kind.PREFILL
    assert Kind.THINK in kinds
    assert kinds[-1] in (Kind.CHUNK, Kind.STEP)
    assert all(action.outcome == Outcome.DONE for action in tape.actions)
