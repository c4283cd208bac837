"""What a service tells systemd (sd_notify): that it is ready, how it is, and that it is alive."""

from __future__ import annotations

import contextlib
import os
import socket

from anytime.node.messages import DiagnosticArray, Output
from anytime.node.transport import Host, Transport


def notify(state: str) -> None:
    """Send a line like ``READY=1`` to the service manager; without one, nothing happens."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    if address.startswith("@"):  # in the abstract namespace
        address = "\0" + address[1:]
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as manager,
        contextlib.suppress(OSError),
    ):
        manager.sendto(state.encode(), address)


class Watched:
    """A transport whose every message of /diagnostics is also a sign of life to the watchdog.

    They come once a second, by way of the node's counts, its reasoner's health and the transport; so a service in which
    one of these does not return is started again, and one whose engine alone is lost goes on with fallbacks.
    """

    def __init__(self, inner: Transport) -> None:
        self._inner = inner

    def open(self, host: Host) -> None:
        self._inner.open(host)

    def publish(self, message: Output) -> None:
        self._inner.publish(message)
        if isinstance(message, DiagnosticArray):
            notify("WATCHDOG=1")

    def close(self) -> None:
        self._inner.close()
