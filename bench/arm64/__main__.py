"""``python -m bench.arm64 [--json FILE]``: the package on 64-bit ARM, in an emulated Debian, from its sources on.

The kernels are built there, ``anytime deploy`` makes a directory for ``orin-nano-super``, and its ``install.sh`` is run
there: once, again, half-copied, with signatures that do not do, interrupted, and as an upgrade. The service of what is
installed then answers over its socket. No figure is a time: an emulated processor says nothing about a real one.
"""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.table import Table

from bench.arm64.evidence import ARCHITECTURE, MODEL, TARGET, Evidence
from bench.arm64.root import SUITE, RootError, opened
from bench.report import Report, parser


def installed(evidence: Evidence) -> None:
    """From the sources to an installation that answers, half-copied first, and twice."""
    root, work = evidence.root, evidence.work
    shutil.rmtree(root.path / "opt/anytime", ignore_errors=True)
    shutil.rmtree(root.path / "etc/anytime", ignore_errors=True)
    wheels = evidence.build()
    evidence.resolve(wheels)
    key = work / "operator"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    made = evidence.directory("first", wheels)
    said = f"{TARGET}, {made.wheels} wheels for Python {evidence.python}, {made.bytes / 1e6:.0f} MB"
    evidence.step("directory for the target", said, made.wheels > 0, "made")
    evidence.directory("second", wheels, key=key, expires="2999-12-31")
    evidence.directory("expired", wheels, key=key, expires="2020-01-01")

    half = root.path / "half"
    shutil.rmtree(half, ignore_errors=True)
    shutil.copytree(root.path / "first", half)
    for wheel in list((half / "wheels").iterdir())[::2]:
        wheel.unlink()
    done = evidence.install("half")
    holds = done.returncode == 1 and "missing: wheels/" in done.stderr and evidence.version() == "none"
    evidence.step("a half-copied directory", done.stderr.strip()[:200], holds, "refused, nothing installed")

    done = evidence.install("first")
    decision = evidence.answer() if done.returncode == 0 else {"source": done.stderr[-500:]}
    said = f"{decision.get('answer')} ({decision['source']}), {decision.get('tokens_used')} tokens of thought"
    holds = done.returncode == 0 and decision["source"] in MODEL
    evidence.step("installed, it answers", said, holds, "the model's answer")

    before = evidence.version()
    done = evidence.install("first")
    said = f"exit {done.returncode}, {evidence.version()}"
    evidence.step("installed again", said, done.returncode == 0 and evidence.version() == before, "the same version")


def upgraded(evidence: Evidence) -> None:
    """With a key configured: what is not signed is refused, an upgrade is killed half-way, run again, and serves."""
    root, work, before = evidence.root, evidence.work, evidence.version()
    shutil.copyfile(work / "operator.pub", root.path / "etc/anytime/trusted.pub")
    for name, why in (("first", "is not signed"), ("expired", "expired on 2020-01-01")):
        done = evidence.install(name)
        holds = done.returncode == 1 and why in done.stderr and evidence.version() == before
        evidence.step(f"with a key configured, {why}", done.stderr.strip()[:200], holds, "refused")

    code = evidence.interrupt("second", "serve --calibrate")
    left = evidence.version()
    (root.path / "etc/anytime/trusted.pub").unlink()  # what is current now was not signed
    decision = evidence.answer()
    said = f"killed ({code}), current is {left}, {decision.get('answer')} ({decision['source']})"
    holds = code == -signal.SIGKILL and left == before and decision["source"] in MODEL
    evidence.step("an upgrade killed half-way", said, holds, "the version before answers")

    shutil.copyfile(work / "operator.pub", root.path / "etc/anytime/trusted.pub")
    done = evidence.install("second")
    decision = evidence.answer() if done.returncode == 0 else {"source": done.stderr[-500:]}
    kept = [path.name for path in (root.path / "opt/anytime/versions").iterdir()]
    said = f"{evidence.version()}, {decision.get('answer')} ({decision['source']}), {len(kept)} version kept"
    holds = done.returncode == 0 and evidence.version() != before and decision["source"] in MODEL and len(kept) == 1
    evidence.step("the upgrade run again, signed", said, holds, "the new version answers")
    evidence.serve()

    done = root.run("sh", "/opt/anytime/current/uninstall.sh", "--purge", check=False)
    left = [name for name in ("opt/anytime", "etc/anytime") if (root.path / name).exists()]
    said = f"exit {done.returncode}, left: {', '.join(left) or 'nothing'}"
    evidence.step("uninstalled", said, done.returncode == 0 and not left, "nothing left")


def main() -> int:
    options = parser("arm64", __doc__ or "")
    options.add_argument("--root", type=Path, default=Path(tempfile.gettempdir()) / "anytime-arm64", help="where it is")
    given = options.parse_args()
    report = Report("arm64", given.json)
    try:
        with opened(given.root) as root, tempfile.TemporaryDirectory() as work:
            version = root.run("python3", "-c", "import sys; print('%d.%d.%d' % sys.version_info[:3])").stdout.strip()
            evidence = Evidence(root, Path(work), version.rpartition(".")[0])
            said = f"Debian {SUITE}, {root.run('uname', '-m').stdout.strip()}, Python {version}"
            evidence.step("emulated root", said, ARCHITECTURE in said, ARCHITECTURE)
            try:
                installed(evidence)
                upgraded(evidence)
            except RootError as error:
                evidence.step("it went no further", str(error)[-2000:], False, "all steps")
    except RootError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    table = Table(title=f"On {said}, emulated by QEMU")
    for heading in ("step", "outcome", "s, emulated"):
        table.add_column(heading, justify="right" if heading.startswith("s,") else "left")
    for step in evidence.steps:
        table.add_row(step["step"], step["outcome"], f"{step['emulated seconds']:.0f}")
    notes = [
        f"Python {version} ran; JetPack 6 has 3.10, for which wheels were found but nothing was run.",
        "An emulated processor says nothing about the speed of a real one.",
    ]
    return report.finish(evidence.figures, evidence.steps, table, notes)


if __name__ == "__main__":
    sys.exit(main())
