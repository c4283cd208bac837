"""``anytime deploy``: a directory that installs on a device without a network."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from anytime.cli.common import err, out, reported
from anytime.errors import UsageError


@reported
def deploy(
    bundle: Annotated[
        Path | None, typer.Argument(metavar="BUNDLE", help="A bundle; default: the reference.", show_default=False)
    ] = None,
    target: Annotated[str, typer.Option(help="The device, as 'anytime targets' lists it.")] = "",
    out_dir: Annotated[
        Path | None, typer.Option("--out", help="The directory to write; must not exist.", show_default=False)
    ] = None,
    wheels: Annotated[
        Path | None, typer.Option(help="Take wheels from this directory; what it lacks is downloaded.")
    ] = None,
    python: Annotated[str | None, typer.Option(help="The device's Python, like 3.10; default: the target's.")] = None,
    params: Annotated[Path | None, typer.Option(help="A ROS 2 parameter file for the node.")] = None,
    key: Annotated[Path | None, typer.Option(help="Sign with this private key of OpenSSH.")] = None,
    expires: Annotated[str | None, typer.Option(help="Until this day, like 2027-06-30.")] = None,
) -> None:
    """Write a directory that installs BUNDLE and the runtime on a device without a network.

    In it are the bundle, wheels for the device's Python and architecture, a systemd unit, install.sh and uninstall.sh,
    and the checksums of them all. Copy it to the device and run install.sh there.
    """
    try:
        from anytime.deploy import Plan
        from anytime.deploy import deploy as write
    except ImportError as error:
        raise UsageError(f"anytime deploy takes {error.name}: pip install 'anytime[deploy]'") from error
    if not target or out_dir is None:
        raise UsageError("--target and --out are needed: 'anytime targets' lists targets, OUT must not exist yet")
    plan = Plan(bundle=bundle, target=target, python=python, params=params, wheels=wheels, key=key, expires=expires)
    with err.status("gathering wheels"):
        made = write(plan, out_dir)
    where = f"Python {made.device.python} on {made.device.architecture}"
    out.print(
        f"{made.path}: bundle {made.bundle_id[:16]}, {made.wheels} wheels for {where}, {made.bytes / 1e6:.0f} MB",
        soft_wrap=True,
    )
    out.print(f"copy it to the device, and run there: sudo {made.path.name}/install.sh", soft_wrap=True)
