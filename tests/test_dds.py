"""The transport over Cyclone DDS, on loopback: real discovery, bounded waits, everything else as in a robot."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("cyclonedds", reason="cyclonedds has no wheel for this machine: build it, docs/node.md says how")

from cyclonedds.builtin import BuiltinDataReader, BuiltinTopicDcpsPublication, BuiltinTopicDcpsSubscription
from cyclonedds.pub import DataWriter
from cyclonedds.qos import Policy
from cyclonedds.sub import DataReader
from cyclonedds.topic import Topic
from typer.testing import CliRunner

from anytime.cli.main import app
from anytime.errors import NodeError
from anytime.node.dds.qos import graph_policies
from anytime.node.dds.transport import Dds, domain_id
from anytime.node.dds.types import GRAPH, idl_of, to_idl, type_hash
from anytime.node.messages import DiagnosticArray, Header, Question, Scene, Time, Vehicle
from anytime.node.node import Node
from anytime.node.parameters import parameters_of
from bench.node.foreign import LOOPBACK
from tests.conftest import MS, MakeReasoner, turns_at
from tests.dds import CyclonePeer, KeepingHost, Open, decision, domain, eventually, node, opened, question  # noqa: F401
from tests.nodes import DEFAULTS

QUESTION = "anytime_msgs/msg/Question"


@pytest.fixture
def peer(domain: int) -> CyclonePeer:
    return CyclonePeer(domain)


def test_inputs_arrive_as_they_were_sent(opened: Open, peer: CyclonePeer) -> None:
    """Questions, scenes and, under simulated time, the clock."""
    _, host = opened(use_sim_time=True)
    assert host.topics.clock is not None
    sent = [
        (host.topics.question, question(choices=["left", "rechts ü"], budget_s=0.1)),
        (host.topics.scene, Scene(lanes=4, lane=2, speed_m_s=math.inf, vehicles=[Vehicle(2, -3.5, 21.0)])),
    ]
    for topic, message in sent:
        writer = peer.writer(topic)
        peer.matched(writer)
        writer.write(to_idl(message))
        host.until(lambda message=message: message in host.inputs)
    writer = peer.writer(host.topics.clock)
    peer.matched(writer)
    writer.write(idl_of("rosgraph_msgs/msg/Clock")(clock=to_idl(Time(5, 6))))
    host.until(lambda: Time(5, 6) in host.inputs)
    assert host.notes == []


def test_what_is_published_arrives(opened: Open, peer: CyclonePeer) -> None:
    """Decisions and diagnostics."""
    dds, host = opened()
    reader, statuses = peer.reader(host.topics.decision), peer.reader(host.topics.diagnostics)
    peer.matched(reader)
    peer.matched(statuses)
    dds.publish(decision())
    assert peer.decisions(reader) == [decision()]
    dds.publish(DiagnosticArray(Header(Time(1, 2)), []))
    assert peer.take(statuses)[0].header.stamp.nanosec == 2


def test_endpoints_are_as_ros_2_has_them(opened: Open, peer: CyclonePeer) -> None:
    """Names, type names, type hashes and the quality of service that is offered and asked for."""
    dds, host = opened(budget_s=0.15, period_s=0.25)
    writer, reader = peer.writer(host.topics.question), peer.reader(host.topics.decision)
    peer.matched(writer)
    peer.matched(reader)
    assert dds._connection is not None
    own = dds._connection._participant.guid  # those of a test before may not have gone yet
    ends = {
        end.topic_name: end
        for topic in (BuiltinTopicDcpsPublication, BuiltinTopicDcpsSubscription)
        for end in BuiltinDataReader(peer.participant, topic).take(100)
        if end.participant_key == own and not end.topic_name.startswith("DCPS")
    }
    names = ("question", "scene", "decision", "trace")
    assert {f"rt/anytime/{name}" for name in names} | {"rt/diagnostics", "ros_discovery_info"} == set(ends)
    for name in names:
        end = ends[f"rt/anytime/{name}"]
        assert end.type_name == f"anytime_msgs::msg::dds_::{name.capitalize()}_"
        told = f"typehash={type_hash(f'anytime_msgs/msg/{name.capitalize()}')};"
        assert bytes(end.qos[Policy.Userdata].data) == told.encode()
    offered, asked = ends["rt/anytime/decision"].qos, ends["rt/anytime/question"].qos
    assert (offered[Policy.Deadline].deadline, offered[Policy.Lifespan].lifespan) == (250 * MS, 150 * MS)
    assert isinstance(offered[Policy.Reliability], Policy.Reliability.Reliable)
    assert offered[Policy.Durability] == asked[Policy.Durability] == Policy.Durability.Volatile
    assert asked[Policy.Reliability] == Policy.Reliability.BestEffort
    assert asked[Policy.DataRepresentation] == Policy.DataRepresentation(use_cdrv0_representation=True)


def test_the_node_stands_in_the_ros_graph(opened: Open, peer: CyclonePeer) -> None:
    """Who comes later reads its name and endpoints in ros_discovery_info."""
    opened("/robot/anytime")

    topic = Topic(peer.participant, "ros_discovery_info", idl_of(GRAPH))
    reader: DataReader[Any] = DataReader(peer.participant, topic, graph_policies(GRAPH, offered=False))
    (heard,) = peer.take(reader)
    (node,) = heard.node_entities_info_seq
    assert (node.node_namespace, node.node_name) == ("/robot", "anytime")
    assert (len(node.reader_gid_seq), len(node.writer_gid_seq)) == (2, 3)
    assert bytes(heard.gid.data)[:12] == bytes(node.writer_gid_seq[0].data)[:12]


def test_strict_readers_match(opened: Open, peer: CyclonePeer) -> None:
    """Who asks for a reliable decision each period gets it; a deadline that passes is noted."""
    dds, host = opened(period_s=0.05, budget_s=0.05)
    reader = peer.reader(host.topics.decision, Policy.Deadline(50 * MS))
    peer.matched(reader)
    dds.publish(decision())
    assert peer.decisions(reader) == [decision()]
    assert "/anytime/decision" in host.noted("missed")


def test_a_decision_is_gone_after_its_lifespan(opened: Open, peer: CyclonePeer) -> None:
    """A reader that looks too late finds nothing."""
    dds, host = opened(period_s=0.05, budget_s=0.05)
    reader = peer.reader(host.topics.decision)
    peer.matched(reader)
    dds.publish(decision())
    host.noted("missed")  # 50 ms behind the first one
    host.until(lambda: len(host.notes) >= 2)
    assert reader.take(1) == []


def test_another_quality_of_service_is_noted(opened: Open, peer: CyclonePeer) -> None:
    """Who asks for more than is offered gets nothing, and diagnostics say over what, for as long as it lasts."""
    _, host = opened()
    _reader = peer.reader(host.topics.decision, Policy.Durability.TransientLocal)
    assert "durability" in host.noted("qos")
    host.until(lambda: len(host.notes) >= 2)
    assert {trouble for trouble, _ in host.notes} == {"qos"}


def test_another_type_hash_is_refused(opened: Open, peer: CyclonePeer) -> None:
    """Its writer's messages are not brought in: they may mean something else. Others are."""
    _, host = opened()
    wrong = peer.writer(host.topics.question, Policy.Userdata(b"typehash=RIHS01_00;"))
    right = peer.writer(host.topics.question)
    for writer in (wrong, right):
        peer.matched(writer)
    assert "RIHS01_00" in host.noted("wrong_type")
    before = len(host.notes)
    wrong.write(to_idl(question(request_id="wrong")))
    host.until(lambda: len(host.notes) > before)
    right.write(to_idl(question(request_id="right")))
    host.until(lambda: bool(host.inputs))
    assert [q.request_id for q in host.inputs if isinstance(q, Question)] == ["right"]


def test_another_type_is_noted(opened: Open, peer: CyclonePeer) -> None:
    """A topic of our name that carries something else."""
    _, host = opened()
    other = peer.topic("/anytime/question", idl_of("std_msgs/msg/String"))
    _writer: DataWriter[Any] = DataWriter(peer.participant, other)
    assert "std_msgs::msg::dds_::String_" in host.noted("wrong_type")


def test_a_second_node_of_the_name_is_noted_by_both(opened: Open) -> None:
    """And by nobody else, nor once it is gone."""
    first_dds, first = opened("/anytime")
    _, other = opened("/other/anytime")
    second_dds, second = opened("/anytime")
    assert "/anytime" in first.noted("duplicate")
    assert "/anytime" in second.noted("duplicate")
    second_dds.close()
    connection = first_dds._connection
    assert connection is not None
    eventually(lambda: not list(connection._lasting_troubles()))
    assert other.notes == []


def test_text_that_is_no_utf_8_is_malformed(opened: Open, peer: CyclonePeer) -> None:
    """It is noted, and the next message is read."""
    _, host = opened()
    writer = peer.writer(host.topics.question)
    peer.matched(writer)
    good = question()
    kind: Any = idl_of(QUESTION)
    bad = to_idl(question(text="ABCD"))
    payload = kind.serialize(bad, use_version_2=False).replace(b"ABCD", b"\xff\xfe\xfd\xfc")
    bad.serialize = lambda **_: payload
    writer.write(bad)
    assert "utf-8" in host.noted("malformed")
    writer.write(to_idl(good))
    host.until(lambda: good in host.inputs)


def test_what_cannot_be_sent_is_noted(opened: Open) -> None:
    """Text with half a character in it; publishing raises nothing, and goes on."""
    dds, host = opened()
    dds.publish(decision(text="\ud800"))
    assert "/anytime/decision could not be sent" in host.noted("unsent")
    dds.publish(decision())
    assert len(host.notes) == 1


def test_ten_megabytes_arrive_and_do_no_harm(opened: Open, peer: CyclonePeer) -> None:
    """The message comes whole, which the node then refuses as too large, and the next one comes, too."""
    _, host = opened()
    writer = peer.writer(host.topics.question)
    peer.matched(writer)
    writer.write(to_idl(question(text="x" * 10_000_000)))
    host.until(lambda: bool(host.inputs))
    writer.write(to_idl(question(text="small")))
    host.until(lambda: len(host.inputs) == 2)
    assert [len(q.text) for q in host.inputs if isinstance(q, Question)] == [10_000_000, 5]


def test_nothing_comes_in_after_close(opened: Open, peer: CyclonePeer) -> None:
    """Neither messages nor notes nor threads are left; it can be opened again, and peers find it."""
    dds, host = opened()
    writer = peer.writer(host.topics.question)
    peer.matched(writer)
    dds.close()
    assert not any(thread.name == "anytime-dds" for thread in threading.enumerate())
    writer.write(to_idl(question(request_id="unheard")))
    dds.publish(decision())
    dds.close()
    dds.open(host)
    peer.matched(writer)
    writer.write(to_idl(question(request_id="heard")))
    host.until(lambda: bool(host.inputs))
    assert [q.request_id for q in host.inputs if isinstance(q, Question)] == ["heard"]
    assert host.notes == []


def test_a_node_decides_over_dds(node: Node, peer: CyclonePeer) -> None:
    """Question in, decision out, of the same request."""
    writer, reader = peer.writer(node.topics.question), peer.reader(node.topics.decision)
    peer.matched(writer)
    peer.matched(reader)
    writer.write(to_idl(question()))
    (got,) = peer.decisions(reader)
    assert (got.request_id, got.answer, got.source) == ("q", "right", "thought")


def test_a_flood_does_no_harm(node: Node, peer: CyclonePeer) -> None:
    """Thousands of questions as fast as they can be sent: the node decides on the latest."""
    writer, reader = peer.writer(node.topics.question), peer.reader(node.topics.decision)
    peer.matched(writer)
    peer.matched(reader)
    for number in range(3_000):
        writer.write(to_idl(question(request_id=str(number), budget_s=0.01)))
    last = question(request_id="last")
    writer.write(to_idl(last))
    while peer.decisions(reader)[-1].request_id != "last":
        pass


@pytest.mark.parametrize("given", ["x", "-1", "233", "1.5"])
def test_a_domain_that_is_none_is_refused(given: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message names the variable, its value and the range."""
    monkeypatch.setenv("ROS_DOMAIN_ID", given)
    with pytest.raises(NodeError, match=f"ROS_DOMAIN_ID is '{given}': set it to a number from 0 to 232"):
        domain_id()


def test_the_domain_is_ros_2_s(monkeypatch: pytest.MonkeyPatch) -> None:
    """ROS_DOMAIN_ID, or 0 where there is none."""
    monkeypatch.setenv("ROS_DOMAIN_ID", "42")
    assert domain_id() == 42
    monkeypatch.setenv("ROS_DOMAIN_ID", "")
    assert domain_id() == 0


def test_a_network_that_is_not_there_is_refused(domain: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """configure fails with the remedy, and the node can be configured later."""
    monkeypatch.setenv("CYCLONEDDS_URI", LOOPBACK.replace('name="lo"', 'name="nowhere0"'))
    with pytest.raises(NodeError, match=r"cannot join domain .* Check CYCLONEDDS_URI and its network interface"):
        Dds(domain).open(KeepingHost())


@pytest.fixture
def _signals() -> Iterator[None]:
    """What the command does with signals ends with the test."""
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.getsignal(number) for number in numbers]
    yield
    for number, handler in zip(numbers, before, strict=True):
        signal.signal(number, handler)


@pytest.mark.usefixtures("_signals")
def test_the_command_serves_until_a_signal(
    domain: int, peer: CyclonePeer, make_reasoner: MakeReasoner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On the domain of ROS_DOMAIN_ID; then it ends as it should."""
    reasoner, _, clock = make_reasoner(turns_at(20))

    def simulated(transport: Dds, parameters: object, name: str) -> Node:
        return Node(transport, parameters_of(DEFAULTS), name=name, load=lambda _: reasoner, clock=clock, threaded=False)

    monkeypatch.setattr("anytime.cli.node.Node", simulated)
    monkeypatch.setenv("ROS_DOMAIN_ID", str(domain))
    topics = KeepingHost("/robot/anytime").topics
    writer, reader = peer.writer(topics.question), peer.reader(topics.decision)
    decided: list[str] = []

    def answered() -> bool:  # not before the node is active
        writer.write(to_idl(question()))
        decided.extend(sample.answer for sample in reader.take(100))
        return bool(decided)

    def ask_and_end() -> None:
        try:
            eventually(answered)
        finally:
            os.kill(os.getpid(), signal.SIGTERM)

    asking = threading.Thread(target=ask_and_end)
    asking.start()
    result = CliRunner().invoke(app, ["node", "--transport", "dds", "--name", "/robot/anytime"])
    asking.join()
    assert (result.exit_code, set(decided)) == (0, {"right"})
    assert "/robot/anytime is active: /robot/anytime/question -> /robot/anytime/decision" in result.stderr


def test_without_cyclone_the_command_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Exit code 2, and the extra by its name."""
    code = (
        "import sys; sys.modules['cyclonedds'] = None; "
        "from anytime.cli.main import main; sys.argv[1:] = ['node', '--transport', 'dds']; main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "pip install 'anytime[dds]'" in done.stderr
