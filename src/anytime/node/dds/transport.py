"""The transport over Cyclone DDS. ``CYCLONEDDS_URI`` and ``ROS_DOMAIN_ID`` count, as everywhere in ROS 2."""

from __future__ import annotations

import os
import threading

from cyclonedds.core import DDSException

from anytime.errors import NodeError
from anytime.node.dds.connection import Connection
from anytime.node.dds.types import to_idl
from anytime.node.messages import Output
from anytime.node.transport import Host

_MOST_DOMAIN = 232


class Dds:
    """The transport. ``domain``: default ``ROS_DOMAIN_ID``, or 0."""

    def __init__(self, domain: int | None = None) -> None:
        self._domain = domain
        self._connection: Connection | None = None
        self._thread: threading.Thread | None = None

    def open(self, host: Host) -> None:
        domain = domain_id() if self._domain is None else self._domain
        try:
            connection = Connection(host, domain)
        except DDSException as error:
            raise NodeError(
                f"Cyclone DDS cannot join domain {domain}: {error} Check CYCLONEDDS_URI and its network interface"
            ) from error
        self._thread = threading.Thread(target=connection.work, name="anytime-dds", daemon=True)
        self._connection = connection
        self._thread.start()

    def publish(self, message: Output) -> None:
        connection = self._connection
        if connection is None:
            return
        writer = connection.writers[type(message)]
        try:
            writer.entity.write(to_idl(message))
        except Exception as error:  # a full writer, or text that is no Unicode
            connection.host.note("unsent", f"a message on {writer.name} could not be sent: {error!r}")

    def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is None:
            return
        connection.stop()
        assert self._thread is not None
        self._thread.join()
        self._thread = None


def domain_id() -> int:
    """The domain that ``ROS_DOMAIN_ID`` names, or 0.

    Raises:
        NodeError: it is no domain.
    """
    given = os.environ.get("ROS_DOMAIN_ID", "") or "0"
    if not given.isdecimal() or int(given) > _MOST_DOMAIN:
        raise NodeError(f"ROS_DOMAIN_ID is {given!r}: set it to a number from 0 to {_MOST_DOMAIN}, or not at all")
    return int(given)
