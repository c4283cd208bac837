"""The node is killed under traffic and started again, by its command line: what peers see of that."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, NamedTuple

from anytime.scheduler.clock import NS_PER_S
from bench.node.foreign import LOOPBACK, Foreign
from bench.report import ROOT

PERIOD_S, BUDGET_S = 0.1, 0.08
_TEXT = "lane 2 of 4 at 27 m/s\nlane 2 ahead 34 m 21 m/s"
_LONG_S = 60.0
_BEFORE_S = 1.0
_AFTER_S = 2.0


class Restart(NamedTuple):
    """Seconds from SIGKILL until the node said that it is active again, and from then to the first decision."""

    active_s: float
    decided_s: float


class Started:
    """``anytime node --transport dds`` and when it was active."""

    def __init__(self, domain: int, params: Path) -> None:
        command = [sys.executable, "-m", "anytime.cli.main", "node", "--transport", "dds", "--params", str(params)]
        self._process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=os.environ | {"CYCLONEDDS_URI": LOOPBACK, "ROS_DOMAIN_ID": str(domain)},
            stderr=subprocess.PIPE,
            text=True,
        )
        self.active_ns = 0
        self._listening = threading.Thread(target=self._listen, daemon=True)
        self._listening.start()

    def _listen(self) -> None:
        assert self._process.stderr is not None
        with self._process.stderr as lines:
            for line in lines:
                if "is active" in line:
                    self.active_ns = time.monotonic_ns()
                else:
                    print(line, end="", file=sys.stderr)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()
        self._listening.join()


def measure(domain: int, restarts: int, scratch: Path) -> tuple[list[Restart], list[dict[str, Any]]]:
    """Restarts, and every decision that the peer received from before the first to behind the last."""
    params = scratch / "params.yaml"
    choices = "[LANE_LEFT, IDLE, LANE_RIGHT, FASTER, SLOWER]"
    params.write_text(f"/**:\n  ros__parameters:\n    choices: {choices}\n    fallback: SLOWER\n", encoding="utf-8")
    peer, node = Foreign(domain, "/anytime"), Started(domain, params)
    found = []
    try:
        _ask_until_decided(peer, node)
        for _ in range(restarts):
            _ask_for(peer, _BEFORE_S)
            killed_ns = time.monotonic_ns()
            node.kill()
            node = Started(domain, params)
            decided_ns = _ask_until_decided(peer, node)
            found.append(Restart((node.active_ns - killed_ns) / NS_PER_S, (decided_ns - node.active_ns) / NS_PER_S))
        _ask_for(peer, _AFTER_S)
    finally:
        node.kill()
        peer.close()
    return found, [said for said in peer.heard if "decision" in said]


def _ask_for(peer: Foreign, span_s: float) -> None:
    for _ in range(round(span_s / PERIOD_S)):
        peer.ask(0, f"{time.monotonic_ns()}", BUDGET_S, _TEXT)
        peer.listen_until(time.monotonic() + PERIOD_S)


def _ask_until_decided(peer: Foreign, node: Started) -> int:
    """When the first decision came after the node was active."""
    for _ in range(round(_LONG_S / PERIOD_S)):
        _ask_for(peer, PERIOD_S)
        if node.active_ns:
            for said in peer.heard:
                if "decision" in said and said["steady_ns"] >= node.active_ns - round(PERIOD_S * NS_PER_S):
                    return max(said["steady_ns"], node.active_ns)
    raise SystemExit(f"no decision within {_LONG_S:.0f} s of starting the node")
