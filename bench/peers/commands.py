"""Running what installs and converts."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence

from bench.peers.child import ContenderError
from bench.report import ROOT


def run(command: Sequence[str]) -> None:
    """Run a command to its end.

    Raises:
        ContenderError: it failed; its last line says why.
    """
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip() or done.stdout.strip() or "it says nothing").splitlines()[-1]
        raise ContenderError(f"{' '.join(command[1:4])} … failed: {last}")
