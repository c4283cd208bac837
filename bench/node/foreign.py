"""A peer of the node that nobody here wrote the DDS of: a small C++ program on Fast DDS, built when it is needed."""

from __future__ import annotations

import hashlib
import json
import queue
import shutil
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.report import ROOT

SOURCE = ROOT / "tests/interop/fastdds_peer/main.cpp"
# Everything stays on this machine, without multicast.
LOOPBACK = (
    '<CycloneDDS><Domain Id="any"><General><Interfaces><NetworkInterface name="lo" multicast="false"/></Interfaces>'
    "<AllowMulticast>false</AllowMulticast></General><Discovery><ParticipantIndex>auto</ParticipantIndex>"
    '<MaxAutoParticipantIndex>20</MaxAutoParticipantIndex><Peers><Peer Address="127.0.0.1"/></Peers></Discovery>'
    "</Domain></CycloneDDS>"
)
_LEAVING_S = 5.0


class ForeignError(Exception):
    """Why there is no such peer."""


def built() -> Path:
    """The program, compiled if it was not yet.

    Raises:
        ForeignError: it cannot be.
    """
    compiler = shutil.which("g++")
    if compiler is None:
        raise ForeignError("there is no g++: apt-get install g++")
    if not Path("/usr/include/fastrtps").is_dir():
        raise ForeignError("there is no Fast DDS: apt-get install libfastrtps-dev")
    name = hashlib.sha256(SOURCE.read_bytes()).hexdigest()[:16]
    program = ROOT / "build" / f"fastdds_peer-{name}"
    if not program.exists():
        program.parent.mkdir(exist_ok=True)
        fresh = program.with_suffix(".new")
        command = [compiler, "-std=c++17", "-O1", "-o", str(fresh), str(SOURCE), "-lfastrtps", "-lfastcdr"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise ForeignError(f"{SOURCE.name} does not compile: {done.stderr[-2000:]}")
        fresh.replace(program)
    return program


class Foreign:
    """The peer's process: what it is told to ask, and what it says. ``close`` it."""

    def __init__(self, domain: int, *nodes: str, type_hash: str = "-") -> None:
        """``nodes``: full names of those to ask, by their place from 0 on."""
        self._process = subprocess.Popen(
            [str(built()), str(domain), type_hash, *nodes],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._said: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        self.heard: list[dict[str, Any]] = []
        self._listening = threading.Thread(target=self._listen, daemon=True)
        self._listening.start()

    def ask(self, node: int, name: str, budget_s: float, text: str) -> None:
        """Publish a question, stamped by the peer just before it is sent."""
        self._tell(f"ask {node} {name} {budget_s} {text}".replace("\n", "\\n"))

    def raw(self, node: int, payload: bytes) -> None:
        """Publish these bytes as a question, encapsulation and all."""
        self._tell(f"raw {node} {payload.hex()}")

    def wait_for(self, wanted: Callable[[dict[str, Any]], bool], limit_s: float = 10.0) -> dict[str, Any]:
        """The next thing it says that is wanted; what comes before is kept in ``heard``, too.

        Raises:
            ForeignError: it did not say so in time.
        """
        until = time.monotonic() + limit_s
        while True:
            try:
                said = self._said.get(timeout=max(0.0, until - time.monotonic()))
            except queue.Empty:
                raise ForeignError(f"the peer did not say so within {limit_s:g} s; it said {self.heard[-5:]}") from None
            if said is None:
                raise ForeignError(f"the peer ended with status {self._process.wait(_LEAVING_S)}")
            self.heard.append(said)
            if wanted(said):
                return said

    def listen_until(self, instant_s: float) -> None:
        """Keep what it says in ``heard`` until this instant of ``time.monotonic``."""
        while (left_s := instant_s - time.monotonic()) > 0.0:
            try:
                said = self._said.get(timeout=left_s)
            except queue.Empty:
                return
            if said is None:
                raise ForeignError(f"the peer ended with status {self._process.wait(_LEAVING_S)}")
            self.heard.append(said)

    def matched(self, *nodes: int) -> None:
        """Wait until it says that it is matched with both topics of these nodes."""
        missing = {(what, node) for node in nodes for what in ("readers", "writers")}

        def found(said: dict[str, Any]) -> bool:
            for what in ("readers", "writers"):
                if said.get(what):
                    missing.discard((what, said["node"]))
            return not missing

        self.wait_for(found)

    def _tell(self, line: str) -> None:
        assert self._process.stdin is not None
        print(line, file=self._process.stdin, flush=True)

    def _listen(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as lines:
            for line in lines:
                self._said.put(json.loads(line))
        self._said.put(None)

    def close(self) -> None:
        """End it."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(_LEAVING_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._listening.join()
