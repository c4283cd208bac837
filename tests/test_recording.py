"""Recording: what a bag holds, who can read it, and that no disk keeps the node from deciding."""

from __future__ import annotations

import errno
import io
import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from mcap.reader import make_reader
from mcap_ros2.decoder import DecoderFactory
from rosbags.rosbag2 import Reader
from rosbags.typesys import Stores, get_typestore

from anytime.errors import RecordError
from anytime.node import recording
from anytime.node.bag import read_bag
from anytime.node.bagfile import BagFile
from anytime.node.cdr import Cdr
from anytime.node.messages import (
    ROS_TYPES,
    Decision,
    DiagnosticArray,
    Header,
    Kept,
    Question,
    Session,
    Steps,
    Time,
    Trace,
    Vehicle,
)
from anytime.node.parameters import Parameters
from anytime.node.recording import BagRecorder
from anytime.node.topics import topics_of
from anytime.node.transport import Topic
from tests.conftest import MakeReasoner, turns_at
from tests.nodes import ListRecorder, Rig, scene

QUESTION = Topic("/anytime/question", Question, topics_of(Parameters(), "/anytime").question.qos)


def question(n: int) -> tuple[Topic, Question, Time]:
    return QUESTION, Question(header=Header(Time(1 + n, n), "base"), text=f"what {n}" * 50), Time(1 + n, n)


def recorded(make_reasoner: MakeReasoner, path: Path, **given: Any) -> Rig:
    """A node that recorded two questions and a scene to this path, and ended."""
    reasoner, _, clock = make_reasoner(turns_at(20))
    up = Rig(reasoner, clock, record=str(path), **given).up()
    up.ask("what", choices=["left", "right"])
    up.say(scene(up.header(), vehicles=[Vehicle(1, 20.5, 25.0), Vehicle(3, -7.25, 30.0)]))
    up.ask(request_id="late", trace_id="t", age_ns=99_000_000)
    up.node.diagnose()
    up.node.shutdown()
    return up


def test_a_bag_has_everything_as_it_was(make_reasoner: MakeReasoner, tmp_path: Path) -> None:
    """What came in, what went out and the steps, in that order; what was published is what was recorded."""
    up = recorded(make_reasoner, tmp_path / "bag")
    bag = read_bag(tmp_path / "bag")
    assert bag.whole
    assert repr(bag.all(Decision)) == repr(up.decisions)  # one has no confidence, and NaN is not equal to itself
    assert repr(bag.all(Trace)) == repr(up.traces)
    assert bag.all(DiagnosticArray) == up.diagnostics
    assert [m.text for m in bag.all(Question)] == ["what", "what"]
    (session,) = bag.all(Session)
    assert session.node == "/anytime"
    steps = bag.all(Steps)
    assert len(steps) == 4 + 3  # of the warm-up, and of ours
    assert {entry.topic for entry in bag.entries} == {
        f"/anytime/{name}" for name in ("question", "scene", "decision", "trace", "session", "steps")
    } | {"/diagnostics"}
    answered = steps[4]
    assert answered.policy == up.node.parameters.policy
    assert sum(answered.actions_took_ns) > 0
    assert len(answered.turns) == len(answered.turns_until_ns) > 1
    assert answered.plans


def test_changed_parameters_are_recorded(make_reasoner: MakeReasoner) -> None:
    """As they are from then on."""
    reasoner, _, clock = make_reasoner(turns_at(20))
    up = Rig(reasoner, clock, recorder=(kept := ListRecorder()), record="kept").up()
    up.node.set_parameters({"margin_s": 0.007})
    sessions = [m for _, m, _ in kept.kept if isinstance(m, Session)]
    assert [msgspec.json.decode(session.parameters)["margin_s"] for session in sessions] == [0.002, 0.007]


def test_messages_cross_cdr_unchanged() -> None:
    """Also numbers at their limits, lists without elements, and text of any alphabet; other bytes are refused."""
    cdr = Cdr()
    asked = Question(header=Header(Time(2**31 - 1, 999_999_999), "бас"), text="", choices=["左", ""], budget_s=5e-324)
    alone, other = scene(Header(), vehicles=[]), scene(Header(), vehicles=[Vehicle(255, -1e300, 0.1)])
    for message in (asked, alone, other, Time(3, 4)):
        assert cdr.decode(cdr.encode(message), type(message)) == message
    raw = cdr.encode(asked)
    for spoilt in (b"", raw[:3], raw[:-9], b"\xff" * 64):
        with pytest.raises(ValueError, match="are no anytime_msgs/msg/Question"):
            cdr.decode(spoilt, Question)


def test_steps_are_what_the_engine_did(make_reasoner: MakeReasoner, tmp_path: Path) -> None:
    """Each action with its tokens, context and duration, as the engine counted them."""
    reasoner, engine, clock = make_reasoner(turns_at(20))
    up = Rig(reasoner, clock, recorder=(kept := ListRecorder()), record="kept").up()
    before = len(engine.runs)
    began = clock.now()
    up.ask()
    (steps,) = [m for _, m, _ in kept.kept if isinstance(m, Steps)][4:]
    runs = engine.runs[before:]
    assert sum(n if kind == 2 else 1 for n, kind in zip(steps.actions_tokens, steps.actions, strict=True)) == len(runs)
    assert (steps.actions_tokens[0], steps.actions_context[0]) == runs[0]
    # All the time that passed is in them: the clock of a scripted engine stands still between its runs.
    assert sum(steps.actions_took_ns) + sum(steps.waits_ns) == clock.now() - began
    assert sum(steps.waits_ns) == 0


def test_mcap_ros2_support_reads_it(make_reasoner: MakeReasoner, tmp_path: Path) -> None:
    """A reader that has only what is in the file gets every field."""
    up = recorded(make_reasoner, tmp_path / "bag")
    with (tmp_path / "bag" / "bag.mcap").open("rb") as file:
        reader = make_reader(file, decoder_factories=[DecoderFactory()])
        found = [(channel.topic, message) for _, channel, _, message in reader.iter_decoded_messages()]
    decisions = [message for topic, message in found if topic == "/anytime/decision"]
    assert [m.answer for m in decisions] == [decision.answer for decision in up.decisions]
    assert [m.slack_s for m in decisions] == [decision.slack_s for decision in up.decisions]
    assert len(found) == len(read_bag(tmp_path / "bag").entries)


def test_rosbags_reads_it(make_reasoner: MakeReasoner, tmp_path: Path) -> None:
    """As a rosbag2 directory, with the hashes of all types and the qualities of service that were offered."""
    recorded(make_reasoner, tmp_path / "bag")
    with Reader(tmp_path / "bag") as reader:
        assert reader.message_count == len(read_bag(tmp_path / "bag").entries)
        by_topic = {connection.topic: connection for connection in reader.connections}
        assert {c.msgtype for c in reader.connections} <= set(ROS_TYPES.values())
        for connection in reader.connections:
            assert re.fullmatch(r"RIHS01_[0-9a-f]{64}", connection.digest)
        store = get_typestore(Stores.ROS2_JAZZY)
        known = by_topic["/diagnostics"]
        assert known.digest == store.hash_rihs01("diagnostic_msgs/msg/DiagnosticArray")
        (qos,) = by_topic["/anytime/decision"].ext.offered_qos_profiles
        assert qos.reliability.name == "RELIABLE"
        assert (qos.deadline.sec, qos.deadline.nsec) == (0, 100_000_000)
        times = [at for _, at, _ in reader.messages()]
        assert times == sorted(times)


def test_a_bag_that_is_there_is_left_alone(make_reasoner: MakeReasoner, tmp_path: Path) -> None:
    """A node that is started again records beside it."""
    recorded(make_reasoner, tmp_path / "bag")
    before = (tmp_path / "bag" / "bag.mcap").read_bytes()
    recorded(make_reasoner, tmp_path / "bag")
    assert (tmp_path / "bag" / "bag.mcap").read_bytes() == before
    assert read_bag(tmp_path / "bag_1").whole


class Filling(io.RawIOBase):
    """A file on a disk that is full after so many bytes; also as small as that when it is looked at."""

    def __init__(self, path: Path, room: int) -> None:
        self._file, self._room = path.open("xb", buffering=0), room

    def write(self, data: Any) -> int:
        left = self._room - self._file.tell()
        if left <= 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        return self._file.write(bytes(data)[:left])

    def tell(self) -> int:
        return self._file.tell()

    def truncate(self, size: int | None = None) -> int:
        return self._file.truncate(size)

    def close(self) -> None:
        self._file.close()


@pytest.mark.parametrize("room", [0, 100, 30_000])
def test_a_full_disk(make_reasoner: MakeReasoner, tmp_path: Path, room: int, caplog: pytest.LogCaptureFixture) -> None:
    """Diagnostics say so, the node decides on, and what was whole can be read."""
    recorder = BagRecorder(tmp_path / "bag", lambda path: BagFile(path, lambda file: Filling(file, room)))  # type: ignore[arg-type]
    reasoner, _, clock = make_reasoner(turns_at(20))
    up = Rig(reasoner, clock, recorder=recorder, record="bag").up()
    asked = 0
    while not recorder.trouble():
        up.ask()
        asked += 1
        assert asked < 2_000
    level, message = up.status("recording")
    assert level == 1
    assert "No space left on device" in message
    assert re.search(r"ended after \d+ messages .* [1-9]\d* messages since were not recorded", message)
    decided = len(up.decisions)
    assert decided == asked
    up.ask()
    assert len(up.decisions) == decided + 1
    up.node.shutdown()
    assert "the record is not complete: the recording" in caplog.text
    bag = tmp_path / "bag" / "bag.mcap"
    assert bag.stat().st_size <= room
    if room > 20_000:
        found = read_bag(bag)
        assert len(found.all(Steps)) > 4
        assert f"ended after {len(found.entries)} messages" in message
        assert not found.whole


@pytest.mark.parametrize("where", ["file/bag", "/proc/nothing/bag"])
def test_a_disk_that_takes_nothing(make_reasoner: MakeReasoner, tmp_path: Path, where: str) -> None:
    """A place where nothing can be written is told of, and the node runs."""
    (tmp_path / "file").write_text("in the way")
    reasoner, _, clock = make_reasoner(turns_at(20))
    up = Rig(reasoner, clock, record=str(tmp_path / where)).up()
    recorder: Any = up.node._recorder
    recorder._writer.join(10)
    assert "ended after 0 messages" in up.status("recording")[1]
    up.ask()
    assert len(up.decisions) == 1
    up.node.shutdown()


class Stuck:
    """A bag on a disk that does not come back."""

    count = written = 0

    def __init__(self) -> None:
        self.back = threading.Event()

    def write(self, topic: Topic, message: Kept, stamp: Time) -> None:
        self.back.wait(30)

    def close(self) -> None:
        pass


def test_a_disk_that_hangs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Handing over never waits, memory does not grow, what is lost is counted, and closing ends."""
    monkeypatch.setattr(recording, "_CLOSING_S", 0.01)
    stuck: Any = Stuck()
    recorder = BagRecorder(tmp_path / "bag", lambda path: stuck)
    for n in range(1_500):
        recorder.record(*question(n))
    lost = int(re.search(r"too slow: (\d+) messages", recorder.trouble()).group(1))  # type: ignore[union-attr]
    assert 499 <= lost <= 500
    recorder.close()
    stuck.back.set()
    recorder._writer.join(10)
    recorder.record(*question(0))  # of no effect


def written(path: Path, messages: int) -> bytes:
    bag = BagFile(path)
    for n in range(messages):
        bag.write(*question(n))
    bag.close()
    return (path / f"{path.name}.mcap").read_bytes()


def test_a_bag_cut_anywhere_is_read_up_to_there(tmp_path: Path) -> None:
    """However a process ends, all but the last 16 kB of messages are there, in their order."""
    whole = written(tmp_path / "bag", 200)
    file = tmp_path / "cut.mcap"
    texts = [question(n)[1].text for n in range(200)]
    had = 0
    for length in [*range(60, len(whole), len(whole) // 97), len(whole) - 20]:
        file.write_bytes(whole[:length])
        bag = read_bag(file)
        found = [m.text for m in bag.all(Question)]
        assert found == texts[: len(found)]
        assert not bag.whole
        assert len(found) >= had
        had = len(found)
    assert had == 200
    file.write_bytes(whole)
    assert read_bag(file).whole


def test_no_more_than_a_chunk_waits_in_memory(tmp_path: Path) -> None:
    """What a crash can take is less than 20 kB of messages."""
    bag = BagFile(tmp_path / "bag")
    sizes = []
    for n in range(200):
        bag.write(*question(n))
        held = sum(len(question(i)[1].text) for i in range(n + 1)) - sum(
            len(m.text) for m in read_bag(tmp_path / "bag").all(Question)
        )
        sizes.append(held)
    assert max(sizes) < 20_000
    bag.give_up()


@pytest.mark.parametrize(
    "spoil",
    [
        (lambda data: b"no record at all, but longer than one"),
        (lambda data: data[:8] + bytes([0x42]) * 64),
    ],
)
def test_what_is_no_bag_is_refused(tmp_path: Path, spoil: Callable[[bytes], bytes]) -> None:
    """Another file, or nonsense behind a bag's beginning."""
    file = tmp_path / "spoilt.mcap"
    file.write_bytes(spoil(written(tmp_path / "bag", 3)))
    with pytest.raises(RecordError, match="cannot be read"):
        read_bag(file)


def test_what_is_not_there_is_refused(tmp_path: Path) -> None:
    """No file, and a directory with none or several."""
    with pytest.raises(RecordError, match="cannot be read"):
        read_bag(tmp_path / "nothing.mcap")
    with pytest.raises(RecordError, match=r"there are 0 \.mcap files"):
        read_bag(tmp_path)
