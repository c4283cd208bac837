"""The node as a service: fallbacks rather than silence, calibration on first boot, what systemd is told, the socket."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from anytime.bundle import MANIFEST, Bundle
from anytime.cli.main import app
from anytime.errors import BundleError, NodeError
from anytime.node import service
from anytime.node.inprocess import Bus, InProcess
from anytime.node.lines import input_of
from anytime.node.messages import ERROR, STATUS, Decision, DiagnosticArray, Question
from anytime.node.node import Node
from anytime.node.parameters import Parameters, parameters_of
from anytime.node.service import ANSWERING, STANDING_IN, calibrate, serve
from anytime.node.standin import StandIn
from anytime.node.systemd import Watched, notify
from anytime.runtime.loading import measure_profile, open_bundle
from anytime.runtime.reasoner import Reasoner
from anytime.scheduler.profile import LatencyProfile, state_dir
from anytime.signature import sign
from anytime.testing import MockClock
from tests.conftest import MakeReasoner, turns_at
from tests.doubles import PATIENCE_S
from tests.nodes import DEFAULTS
from tests.test_lines import Peer
from tests.test_signature import make_key

DOCUMENTED = Path(__file__).parents[1] / "docs" / "deploy.md"
SCENE = {"lanes": 4, "lane": 2, "speed_m_s": 27.0, "budget_s": 10.0}


class Manager:
    """What systemd is to a service: a socket that it says things to."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._socket.settimeout(PATIENCE_S)

    def heard(self) -> str:
        """The next thing that is said."""
        return self._socket.recv(4096).decode()

    def until(self, beginning: str) -> str:
        """The next status that begins so, with what it says."""
        while True:
            for line in (said := self.heard()).splitlines():
                if line.startswith(beginning):
                    return said

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Manager]:
    made = Manager(tmp_path / "notify")
    monkeypatch.setenv("NOTIFY_SOCKET", str(made.path))
    with contextlib.closing(made):
        yield made


@pytest.fixture
def unlocked(monkeypatch: pytest.MonkeyPatch) -> None:
    """The process of the tests keeps its memory as it is."""
    monkeypatch.setattr(service, "lock_memory", lambda: None)


# -- in place of the model


def test_a_stand_in_answers_with_the_fallback_at_once(manager: Manager) -> None:
    """A decision for every question, with why; and diagnostics call it an error."""
    bus, decisions, diagnostics = Bus(), list[Decision](), list[DiagnosticArray]()
    clock = MockClock(start_ns=10**9)
    node = Node(
        InProcess(bus),
        parameters_of(DEFAULTS),
        load=lambda _: StandIn("the bundle is damaged", clock),
        warm_up=lambda *_: None,
        clock=clock,
        threaded=False,
    )
    bus.subscribe("/anytime/decision", decisions.append)
    bus.subscribe("/diagnostics", diagnostics.append)
    node.configure()
    node.activate()
    bus.publish("/anytime/question", input_of('{"text": "what", "request_id": "mine"}'))
    node.diagnose()
    node.shutdown()
    (decision,) = decisions
    assert (decision.answer, decision.source, decision.status) == ("stop", "fallback", STATUS["error"])
    assert (decision.reason, decision.request_id, decision.late) == ("the bundle is damaged", "mine", False)
    (engine,) = [status for status in diagnostics[-1].status if status.name.endswith(": engine")]
    assert engine.level == ERROR


class Turns(MockClock):
    """Who waits for ``told`` to be set is back at once, as if the time had passed, for so many times."""

    def __init__(self, told: threading.Event, after: int) -> None:
        super().__init__(start_ns=10**9)
        self.told, self.left = told, after

    def wait_until(self, event: threading.Event, instant_ns: int) -> bool:
        if event is not self.told:
            return event.wait(PATIENCE_S)
        self.left -= 1
        if self.left < 0:
            event.set()
        return event.is_set()


def test_it_goes_on_with_fallbacks_until_the_model_can_be_had(
    manager: Manager, unlocked: None, make_reasoner: MakeReasoner
) -> None:
    """Each attempt is told to systemd; once one succeeds it answers, and the stand-in has left the transport."""
    told, attempts, bus = threading.Event(), list[Parameters](), Bus()
    clock = Turns(told, after=2)
    reasoner, _, _ = make_reasoner(turns_at(20), clock=clock)

    def load(parameters: Parameters) -> Reasoner:
        attempts.append(parameters)
        if len(attempts) < 3:
            raise BundleError(f"not yet ({len(attempts)})")
        return reasoner

    serving = threading.Thread(
        target=serve, args=(InProcess(bus), parameters_of(DEFAULTS), told), kwargs={"load": load, "clock": clock}
    )
    serving.start()
    said = [manager.until("READY=1") for _ in range(3)]
    told.set()
    assert manager.until("STOPPING=1")
    serving.join(PATIENCE_S)
    assert not serving.is_alive()
    assert said[0] == f"READY=1\nSTATUS={STANDING_IN}: not yet (1)"
    assert said[1] == f"READY=1\nSTATUS={STANDING_IN}: not yet (2)"
    assert said[2].startswith(f"READY=1\nSTATUS={ANSWERING}, bundle ")


def test_told_to_end_while_standing_in_it_ends(manager: Manager, unlocked: None) -> None:
    """Without waiting for the next attempt."""
    told = threading.Event()

    def load(_: Parameters) -> Reasoner:
        raise BundleError("gone")

    serve(InProcess(Bus()), parameters_of(DEFAULTS), told, load=load, clock=Turns(told, after=0))
    assert manager.until("STOPPING=1")


def test_a_transport_that_cannot_be_opened_is_an_error(unlocked: None, make_reasoner: MakeReasoner) -> None:
    """There is nobody then whom fallbacks could reach; systemd starts the service again."""
    bus, told = Bus(), threading.Event()
    bus.join("/anytime")
    reasoner, _, clock = make_reasoner(turns_at(20))
    with pytest.raises(NodeError, match="there is a node /anytime"):
        serve(InProcess(bus), parameters_of(DEFAULTS), told, load=lambda _: reasoner, clock=clock)


# -- what systemd is told


def test_diagnostics_are_signs_of_life(manager: Manager) -> None:
    """One each, and none for other messages; they come only once the transport has returned."""

    class Stuck(InProcess):
        def publish(self, message: Any) -> None:
            raise RuntimeError("stuck")

    host: Any = None
    watched = Watched(InProcess(Bus()))
    watched.publish(DiagnosticArray(header=None, status=[]))  # type: ignore[arg-type]
    assert manager.heard() == "WATCHDOG=1"
    with pytest.raises(RuntimeError):
        Watched(Stuck(Bus())).publish(DiagnosticArray(header=host, status=[]))
    watched.publish(Question(text="what"))  # type: ignore[arg-type]
    notify("LAST=1")
    assert manager.heard() == "LAST=1"


@pytest.mark.parametrize("address", [None, "", "/nowhere/notify"])
def test_without_a_manager_nothing_is_told(address: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """No address, or nobody there: it goes on."""
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    if address is not None:
        monkeypatch.setenv("NOTIFY_SOCKET", address)
    notify("READY=1")


def test_a_manager_in_the_abstract_namespace_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """As systemd writes its address, with an @."""
    name = f"anytime-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind("\0" + name)
        manager.settimeout(PATIENCE_S)
        monkeypatch.setenv("NOTIFY_SOCKET", "@" + name)
        notify("READY=1")
        assert manager.recv(100) == b"READY=1"


# -- calibration


@pytest.fixture(scope="module")
def measured() -> LatencyProfile:
    """Of the reference on this machine, once."""
    return measure_profile(open_bundle(None), quick=True)


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, measured: LatencyProfile) -> Path:
    """An empty state directory, and a machine that is measured at once."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setattr(service, "measure_profile", lambda loaded, quick: measured)
    return state_dir()


def stored(state: Path) -> list[Path]:
    return list(state.rglob("*.json"))


def test_a_machine_that_does_is_measured_once(state: Path) -> None:
    """The profile is kept, so the second start does not measure; a damaged one is measured anew."""
    ample = parameters_of({"budget_s": 60.0, "warm_up": 3})
    p99_s = calibrate(ample, quick=True)
    assert p99_s is not None
    assert 0 < p99_s < 60
    (path,) = stored(state)
    assert calibrate(ample, quick=True) is None
    path.write_text("{")
    assert calibrate(ample, quick=True) is not None
    assert path.stat().st_size > 100


def test_a_machine_that_is_too_slow_is_refused_each_time(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The 99th percentile misses the budget: nothing is kept, so the next start does not pass it over."""
    scarce = parameters_of({"budget_s": 0.001, "margin_s": 0.0009, "warm_up": 3})
    for _ in range(2):
        with pytest.raises(NodeError, match=r"a first answer takes .* more than budget_s.*or a smaller model"):
            calibrate(scarce, quick=True)
        assert stored(state) == []
    done = CliRunner().invoke(app, ["serve", "--calibrate", "--quick", "--params", str(written(state, scarce))])
    assert done.exit_code == 1
    assert "a first answer takes" in done.stderr


def written(folder: Path, parameters: Parameters) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "params.yaml"
    path.write_text(f"/**: {{ros__parameters: {{budget_s: {parameters.budget_s}, margin_s: {parameters.margin_s}}}}}")
    return path


def test_a_bundle_that_cannot_be_used_is_left_to_the_service(
    state: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """There is nothing to measure, which is said; the service then answers with fallbacks."""
    assert calibrate(parameters_of({"bundle": str(tmp_path / "gone")}), quick=True) is None
    assert "no bundle at" in caplog.text


def test_a_first_boot_measures_the_engine_that_will_serve(caplog: pytest.LogCaptureFixture) -> None:
    """TensorRT where the parameters ask for it; on a machine without, that is said, and fallbacks are served."""
    assert calibrate(parameters_of({"engine": "tensorrt"}), quick=True) is None
    assert "nothing to measure" in caplog.text
    assert "onnxruntime" not in caplog.text


# -- the whole service, as a process


@contextlib.contextmanager
def running(tmp_path: Path, manager: Manager, *args: str, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    """``anytime serve`` with its socket in ``tmp_path``; it ends by SIGTERM, and well."""
    given = {"XDG_RUNTIME_DIR": str(tmp_path), "XDG_STATE_HOME": str(tmp_path / "state"), **environment}
    env = {**os.environ, "NOTIFY_SOCKET": str(manager.path), **given}
    command = [sys.executable, "-c", "from anytime.cli.main import main; main()", "serve", *args]
    with subprocess.Popen(command, env=env, stderr=subprocess.PIPE) as process:
        try:
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(PATIENCE_S)
    assert process.returncode == 0


def params(tmp_path: Path, **values: Any) -> str:
    path = tmp_path / "robot.yaml"
    path.write_text(json.dumps({"/**": {"ros__parameters": values}}))
    return str(path)


def test_the_service_answers_with_the_model(tmp_path: Path, manager: Manager, state: Path) -> None:
    """Ready once it answers; peers on the socket get every decision, as documented; alive once a second."""
    assert calibrate(parameters_of({"budget_s": 10.0, "warm_up": 3}), quick=True)
    given = params(tmp_path, budget_s=10.0, warm_up=3, isolated=True, fallback="SLOWER")
    with running(tmp_path, manager, "--params", given):
        assert "STATUS=answering, bundle" in manager.until("READY=1")
        peer, other = Peer(tmp_path / "anytime.sock"), Peer(tmp_path / "anytime.sock")
        decision = peer.ask(**SCENE, request_id="first")
        assert decision["source"] in ("thought", "probe", "instant")
        assert decision["request_id"] == "first"
        assert other.ask(**SCENE, request_id="second")["request_id"] in ("first", "second")
        assert manager.until("WATCHDOG=1")
        (example,) = re.findall(r"```python\n(.*?)```", DOCUMENTED.read_text(encoding="utf-8"), re.DOTALL)
        example = example.replace("/run/anytime/anytime.sock", str(tmp_path / "anytime.sock"))
        done = subprocess.run([sys.executable, "-c", example], capture_output=True, text=True, check=True)
        assert done.stdout.strip() in ("FASTER", "SLOWER")
        peer.close()
        other.close()
    assert not (tmp_path / "anytime.sock").exists()


@pytest.mark.parametrize("trouble", ["damaged", "expired"])
def test_a_service_whose_bundle_does_not_verify_gives_its_safe_answer(
    tmp_path: Path, manager: Manager, trouble: str
) -> None:
    """Started again with a damaged bundle, or after its signature's last day: every question gets the fallback."""
    bundle = Path(shutil.copytree(Bundle.reference().path, tmp_path / "bundle"))
    environment = {}
    if trouble == "damaged":
        (bundle / "model.onnx").write_bytes(b"")
    else:
        sign(bundle / MANIFEST, make_key(tmp_path / "operator"), "2020-01-01")
        environment["ANYTIME_TRUSTED"] = str(tmp_path / "operator.pub")
    given = params(tmp_path, isolated=True, fallback="SLOWER")
    with running(tmp_path, manager, "--params", given, "--bundle", str(bundle), **environment):
        assert "STATUS=only fallbacks" in manager.until("READY=1")
        peer = Peer(tmp_path / "anytime.sock")
        decision = peer.ask(**SCENE)
        peer.close()
    assert (decision["answer"], decision["source"]) == ("SLOWER", "fallback")
    assert ("is damaged" if trouble == "damaged" else "expired on 2020-01-01") in decision["reason"]


def test_a_service_takes_no_pipes(tmp_path: Path) -> None:
    """There is nobody at its standard input: a transport that is one is refused."""
    done = CliRunner().invoke(app, ["serve", "--transport", "inprocess"])
    assert done.exit_code == 2
    assert "there are socket and dds" in done.stderr
