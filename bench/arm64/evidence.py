"""What is done in the emulated root, step by step, and how it came out."""

from __future__ import annotations

import json
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from typing import Any

from anytime.deploy import Deployed, Plan, deploy
from anytime.deploy.wheels import Device, gather
from anytime.errors import AnytimeError
from bench.arm64.root import Root
from bench.report import ROOT, Figure

TARGET, ARCHITECTURE = "orin-nano-super", "aarch64"
JETPACK_6 = Device("3.10", ARCHITECTURE)
# An emulated processor is some twenty times slower, so that the budget is no measure of anything.
PARAMETERS = "/**: {ros__parameters: {budget_s: 120.0, warm_up: 3, isolated: true, fallback: SLOWER}}\n"
SCENE = "lane 2 of 4 at 27 m/s\nlane 2 ahead 14 m 18 m/s\nlane 3 behind 30 m 25 m/s"
ACTIONS = ["LANE_LEFT", "IDLE", "LANE_RIGHT", "FASTER", "SLOWER"]
MODEL = ("thought", "probe", "instant")
_SOCKET = "run/anytime.sock"


class Evidence:
    """What was tried, step by step, and how it came out."""

    def __init__(self, root: Root, work: Path, python: str) -> None:
        self.root, self.work, self.python = root, work, python
        self.figures: list[Figure] = []
        self.steps: list[dict[str, Any]] = []
        self._begun = time.monotonic()

    def step(self, name: str, outcome: str, holds: bool, target: str) -> None:
        """Note a step that is through."""
        now = time.monotonic()
        self.steps.append({"step": name, "outcome": outcome, "emulated seconds": round(now - self._begun, 1)})
        self._begun = now
        self.figures.append(Figure(name, outcome, target, holds))
        print(f"{name}: {outcome}", file=sys.stderr, flush=True)

    # -- the wheels

    def build(self) -> Path:
        """The package's wheel, built in the root from what git knows of the sources; the directory it is in."""
        device = Device(self.python, ARCHITECTURE)
        tools = self.work / "tools"
        tools.mkdir()
        gather(["setuptools>=77", "cython>=3.1,<4", "pip"], device, None, tools)
        source = self.root.path / "src/anytime"
        shutil.rmtree(source, ignore_errors=True)
        source.mkdir(parents=True)
        listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout
        kept = [
            name
            for name in listed.decode().split("\0")
            if name.startswith(("src/", "setup", "pyproject", "LIC", "READ"))
        ]
        for name in kept:
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, source / name)
        shutil.copytree(tools, source / "tools")
        self.root.run("rm", "-rf", "/build", "/wheels")
        self.root.run("python3", "-m", "venv", "--without-pip", "/build")
        pip = ["/build/bin/python", f"/src/anytime/tools/{next(tools.glob('pip-*')).name}/pip"]
        self.root.run(*pip, "install", "--no-index", "--find-links=/src/anytime/tools", "setuptools", "cython")
        self.root.run(
            *pip, "wheel", "--no-index", "--no-deps", "--no-build-isolation", "--wheel-dir=/wheels", "/src/anytime"
        )
        (wheel,) = (self.root.path / "wheels").glob("anytime-*.whl")
        kernels = sum(name.endswith(".so") for name in zipfile.ZipFile(wheel).namelist())
        wanted = len(list((ROOT / "src/anytime/ext").glob("*.pyx")))
        said = f"{kernels} of {wanted} Cython kernels, {wheel.name}"
        self.step("kernels built in the root", said, kernels == wanted, "all")
        return wheel.parent

    def resolve(self, wheels: Path) -> None:
        """The wheels of JetPack 6's Python, 3.10, which Debian does not have: only found, not installed."""
        renamed, scratch = self.work / "renamed", self.work / "scratch"
        renamed.mkdir()
        scratch.mkdir()
        (ours,) = wheels.glob("anytime-*.whl")
        theirs = ours.name.replace("cp" + self.python.replace(".", ""), "cp310")
        shutil.copyfile(ours, renamed / theirs)  # its requirements are the same
        try:
            found = gather(["anytime[cpu,grammar,node]", "pip"], JETPACK_6, renamed, scratch)
            said = f"{len(found) - 1} wheels beside our own"
        except AnytimeError as error:
            found, said = [], str(error)
        self.step("wheels for JetPack 6 (Python 3.10)", said, bool(found), "all found")

    # -- directories

    def directory(self, name: str, wheels: Path, **signing: Any) -> Deployed:
        """A deployed directory, copied into the root under its name."""
        params = self.work / f"{name}.yaml"
        params.write_text(f"# {name}\n{PARAMETERS}")
        plan = Plan(bundle=None, target=TARGET, python=self.python, params=params, wheels=wheels, **signing)
        made = deploy(plan, self.work / name)
        copy = self.root.path / name
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(made.path, copy)
        return made

    def install(self, name: str) -> subprocess.CompletedProcess[str]:
        """Run a directory's installer in the root."""
        return self.root.run("sh", f"/{name}/install.sh", "--quick", check=False)

    def interrupt(self, name: str, moment: str) -> int:
        """Run it until the first command with ``moment`` in it, and kill it there."""
        trap = f"case $BASH_COMMAND in *{shlex.quote(moment)}*) kill -KILL $$ ;; esac"
        script = f"set -T; trap {shlex.quote(trap)} DEBUG; . /{name}/install.sh"
        return self.root.run("bash", "-c", script, f"/{name}/install.sh", "--quick", check=False).returncode

    def answer(self) -> dict[str, Any]:
        """What the current version decides; nothing where there is none."""
        current = "/opt/anytime/current"
        asked = (self.root.path / "opt/anytime/current/question.json").read_text()
        done = self.root.run(
            f"{current}/venv/bin/anytime", "node", "--json", "--params", "/etc/anytime/anytime.yaml", "--bundle",
            f"{current}/bundle", stdin=asked, check=False, XDG_STATE_HOME=f"{current}/state",
        )  # fmt: skip
        return dict(json.loads(done.stdout)) if done.returncode == 0 and done.stdout else {"source": done.stderr[-500:]}

    def version(self) -> str:
        """What ``current`` points to."""
        link = self.root.path / "opt/anytime/current"
        return link.readlink().name if link.is_symlink() else "none"

    def serve(self) -> None:
        """Start the service of what is installed as systemd would, and ask it over its socket."""
        current = "/opt/anytime/current"
        heard = self.root.path / "run/notify"
        heard.unlink(missing_ok=True)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
            manager.bind(str(heard))
            manager.settimeout(600)
            service = self.root.start(
                f"{current}/venv/bin/anytime", "serve", "--params", "/etc/anytime/anytime.yaml", "--bundle",
                f"{current}/bundle", RUNTIME_DIRECTORY="/run", NOTIFY_SOCKET="/run/notify",
                XDG_STATE_HOME=f"{current}/state",
            )  # fmt: skip
            try:
                status = manager.recv(4096).decode().replace("\n", " ")
                decision = self._asked()
            finally:
                service.send_signal(signal.SIGTERM)
                service.wait(120)
        said = f"{status}; {decision.get('answer')} ({decision.get('source')}); ended with {service.returncode}"
        holds = "answering" in status and decision.get("source") in MODEL and service.returncode == 0
        self.step("the service answers over its socket", said, holds, "the model's answer")

    def _asked(self) -> dict[str, Any]:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as peer:
            peer.settimeout(300)
            peer.connect(str(self.root.path / _SOCKET))
            peer.sendall(json.dumps({"text": SCENE, "choices": ACTIONS, "budget_s": 120.0}).encode() + b"\n")
            return dict(json.loads(peer.makefile().readline()))
