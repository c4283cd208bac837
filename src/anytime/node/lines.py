"""Topics on a Unix socket: JSON objects, one a line, for programs on the same machine and without any middleware.

Who connects sends questions and scenes with the fields of the messages, and is sent every decision, as a subscriber of
the topic would be. A peer that does not read loses decisions, and delays nobody.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from pathlib import Path
from typing import Any

import msgspec

from anytime.errors import NodeError
from anytime.node.messages import Decision, Header, Input, Output, Question, Scene
from anytime.node.stamps import time_of
from anytime.node.transport import Host
from anytime.scheduler.clock import system_ns

_LONGEST_LINE = 1 << 20
_MOST_PEERS = 64


def input_of(line: str | bytes) -> Input:
    """The message of a line: a Scene where it has a ``lane``, else a Question; stamped now if it has no header.

    Raises:
        msgspec.DecodeError: it is neither.
    """
    fields = msgspec.json.decode(line, type=dict[str, Any])
    if "header" not in fields:
        fields["header"] = msgspec.to_builtins(Header(time_of(system_ns())))
    return msgspec.convert(fields, Scene) if "lane" in fields else msgspec.convert(fields, Question)


def default_path() -> Path:
    """``anytime.sock`` in the directory that systemd made for the service, or in the user's own."""
    home = os.environ.get("RUNTIME_DIRECTORY") or os.environ.get("XDG_RUNTIME_DIR") or "/tmp"
    return Path(home) / "anytime.sock"


class Lines:
    """The transport on a socket. Whoever may write to ``path`` may ask."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._host: Host | None = None
        self._server: socket.socket | None = None
        self._lock = threading.Lock()
        self._peers: set[socket.socket] = set()

    def open(self, host: Host) -> None:
        server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            _take(self._path, server)
            server.listen()
        except OSError as error:
            server.close()
            raise NodeError(
                f"the socket {self._path} cannot be opened ({error.strerror or error}): end the node that has it, or "
                "set XDG_RUNTIME_DIR to a directory you may write to"
            ) from error
        self._host, self._server = host, server
        threading.Thread(target=self._accept, args=(server, host), name="anytime-socket", daemon=True).start()

    def publish(self, message: Output) -> None:
        if not isinstance(message, Decision):
            return
        line = msgspec.json.encode(message) + b"\n"
        with self._lock:
            peers = list(self._peers)
        for peer in peers:
            try:
                sent = peer.send(line, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
            except BlockingIOError:
                self._note("unsent", "a peer does not read its decisions")
            except OSError:
                self._drop(peer)
            else:
                if sent < len(line):  # what follows would not be whole lines
                    self._note("unsent", "a peer does not read its decisions, and is disconnected")
                    self._drop(peer)

    def close(self) -> None:
        server, self._server, self._host = self._server, None, None
        if server is None:
            return
        self._path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            server.shutdown(socket.SHUT_RDWR)  # which ends the accept
        server.close()
        with self._lock:
            peers = list(self._peers)
        for peer in peers:
            self._drop(peer)

    def _note(self, trouble: str, reason: str) -> None:
        if self._host is not None:
            self._host.note(trouble, reason)

    def _drop(self, peer: socket.socket) -> None:
        with self._lock:
            self._peers.discard(peer)
        with contextlib.suppress(OSError):
            peer.shutdown(socket.SHUT_RDWR)  # its reader closes it

    def _accept(self, server: socket.socket, host: Host) -> None:
        while True:
            try:
                peer, _ = server.accept()
            except OSError:  # closed
                return
            with self._lock:
                full = len(self._peers) >= _MOST_PEERS
                if not full:
                    self._peers.add(peer)
            if full:
                host.note("unsent", f"{_MOST_PEERS} peers are connected already, and another one was turned away")
                peer.close()
                continue
            threading.Thread(target=self._read, args=(peer, host), name="anytime-peer", daemon=True).start()

    def _read(self, peer: socket.socket, host: Host) -> None:
        with peer, peer.makefile("rb") as lines, contextlib.suppress(OSError):
            while line := lines.readline(_LONGEST_LINE):
                if not line.endswith(b"\n") and len(line) == _LONGEST_LINE:
                    host.note("too_large", f"a line is longer than {_LONGEST_LINE} bytes: its peer is disconnected")
                    break
                if line.strip():
                    _bring(line, host)
        self._drop(peer)


def _bring(line: bytes, host: Host) -> None:
    try:
        message = input_of(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        host.note("malformed", f"a line is no Question and no Scene: {error}")
        return
    if isinstance(message, Scene):
        host.on_scene(message)
    else:
        host.on_question(message)


def _take(path: Path, server: socket.socket) -> None:
    """Bind, also where a process that died left its socket behind.

    Raises:
        OSError: it cannot be bound; or a node that lives has it.
    """
    if path.is_socket():
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as there:
            try:
                there.connect(str(path))
            except ConnectionRefusedError:
                path.unlink()
            else:
                raise OSError("a node that runs listens there")
    server.bind(str(path))
