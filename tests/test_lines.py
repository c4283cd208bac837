"""The service's socket: a JSON object a line, whoever writes it and whoever does not read."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from anytime.errors import NodeError
from anytime.node.lines import Lines
from anytime.node.messages import Decision
from tests.doubles import PATIENCE_S


class Peer:
    """A program that asks over the socket."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(PATIENCE_S)
        self._socket.connect(str(path))
        self._lines = self._socket.makefile("rb")

    def say(self, line: bytes) -> None:
        self._socket.sendall(line)

    def ask(self, **fields: Any) -> Any:
        self.say(json.dumps(fields).encode() + b"\n")
        return self.decision()

    def decision(self) -> Any:
        line = self._lines.readline()
        return json.loads(line) if line else None

    def close(self) -> None:
        self._lines.close()
        self._socket.close()


class Host:
    """A node's side of the transport."""

    name = "/anytime"
    topics: Any = None

    def __init__(self) -> None:
        self.heard: list[object] = []
        self.notes: list[tuple[str, str]] = []
        self.changed = threading.Condition()

    def _take(self, what: object) -> None:
        with self.changed:
            self.heard.append(what)
            self.changed.notify_all()

    on_question = on_scene = on_clock = _take

    def note(self, trouble: str, reason: str) -> None:
        with self.changed:
            self.notes.append((trouble, reason))
            self.changed.notify_all()

    def wait(self, heard: int = 0, notes: int = 0) -> None:
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.heard) >= heard and len(self.notes) >= notes, PATIENCE_S)


@pytest.fixture
def host() -> Host:
    return Host()


@pytest.fixture
def lines(tmp_path: Path, host: Host) -> Iterator[Lines]:
    made = Lines(tmp_path / "s")
    made.open(host)
    yield made
    made.close()


@pytest.mark.parametrize(
    "line",
    [b"not json", b"[]", b'{"text": 1}', b'{"lane": 2}', b"\xff\xfe", b'{"text":' + b"[" * 100_000, b'"x"', b"1"],
)
def test_a_line_that_is_no_message_is_counted(tmp_path: Path, lines: Lines, host: Host, line: bytes) -> None:
    """As malformed, with why; the next line of the same peer is heard."""
    peer = Peer(tmp_path / "s")
    peer.say(line + b'\n\n{"text": "what"}\n')
    host.wait(heard=1, notes=1)
    ((trouble, reason),) = host.notes
    assert trouble == "malformed"
    assert "no Question and no Scene" in reason
    peer.close()


def test_a_line_without_end_is_cut_off(tmp_path: Path, lines: Lines, host: Host) -> None:
    """A peer cannot fill the memory: a mebibyte without a newline ends its connection."""
    peer = Peer(tmp_path / "s")
    with contextlib.suppress(OSError):
        peer.say(b"x" * (2 << 20))
    host.wait(notes=1)
    assert host.notes[0][0] == "too_large"
    with contextlib.suppress(ConnectionError):
        assert peer.decision() is None
    peer.close()


def decision(text: str = "left") -> Decision:
    blank: dict[str, Any] = dict.fromkeys(Decision.__struct_fields__, 0)
    return Decision(**{**blank, "answer": text})


def test_a_peer_that_does_not_read_delays_nobody(tmp_path: Path, lines: Lines, host: Host) -> None:
    """Its decisions are dropped and counted; another peer gets all of its own."""
    deaf, eager = Peer(tmp_path / "s"), Peer(tmp_path / "s")
    for peer in (deaf, eager):
        peer.say(b'{"text": "what"}\n')
    host.wait(heard=2)
    long = decision("x" * 10_000)
    for _ in range(100):
        lines.publish(long)
        assert eager.decision()["answer"] == long.answer
    assert {trouble for trouble, _ in host.notes} == {"unsent"}
    deaf.close()
    eager.close()


def test_a_socket_that_was_left_behind_is_taken_over(tmp_path: Path, host: Host) -> None:
    """By a process that died; one that lives keeps it, and so does a file that is none."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as dead:
        dead.bind(str(tmp_path / "s"))
    first, second = Lines(tmp_path / "s"), Lines(tmp_path / "s")
    first.open(host)
    with pytest.raises(NodeError, match="end the node that has it"):
        second.open(host)
    Peer(tmp_path / "s").close()
    first.close()
    second.open(host)
    second.close()
    (tmp_path / "s").write_text("mine")
    with pytest.raises(NodeError, match="cannot be opened"):
        first.open(host)
    assert (tmp_path / "s").read_text() == "mine"


def test_closed_it_lets_go_of_everybody(tmp_path: Path, lines: Lines, host: Host) -> None:
    """Peers see the end, the socket is gone, and closing again is nothing."""
    peer = Peer(tmp_path / "s")
    peer.say(b'{"text": "what"}\n')
    host.wait(heard=1)
    lines.close()
    assert peer.decision() is None
    assert not (tmp_path / "s").exists()
    lines.close()
    lines.publish(decision())
    peer.close()
