"""The node as a system service: it calibrates on first boot, and answers with its fallback rather than not at all."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable

import msgspec

from anytime.errors import AnytimeError, BundleError, DeviceError, EngineError, ProfileError
from anytime.ext.process import lock_memory
from anytime.node.node import Node, load_reasoner
from anytime.node.parameters import Parameters
from anytime.node.standin import StandIn
from anytime.node.systemd import Watched, notify
from anytime.node.transport import Transport
from anytime.node.warmup import warm_up
from anytime.runtime.isolation import Isolation
from anytime.runtime.loading import measure_profile, open_bundle
from anytime.runtime.reasoner import Reasoner
from anytime.scheduler.clock import MONOTONIC, NS_PER_S, Clock
from anytime.scheduler.profile import find, store

RETRY_NS = 60 * NS_PER_S  # from one attempt to have the model to the next
ANSWERING, STANDING_IN = "answering", "only fallbacks"  # how the status that systemd shows begins


def calibrate(parameters: Parameters, quick: bool) -> float | None:
    """On the first boot with this bundle on this machine: measure its latency profile, and keep it if it will do.

    It will do if the 99th percentile of the time to a first answer, with ``margin_s``, is within ``budget_s``. Returns
    that in seconds; None where there is a profile already, or no bundle or GPU that can be used, which ``serve`` copes
    with.

    Raises:
        NodeError: it will not do; nothing is stored, so the next start measures and refuses again.
        ProfileError: it cannot be stored.
    """
    if os.sched_getscheduler(0) in (os.SCHED_FIFO, os.SCHED_RR):  # it keeps every core busy for a while
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
    try:
        loaded = open_bundle(parameters.bundle or None, parameters.threads or None, parameters.engine)
    except (BundleError, DeviceError, EngineError) as error:
        logging.getLogger("anytime").error("nothing to measure: %s", error)
        return None
    try:
        if find(loaded.key) is not None:
            return None
    except ProfileError:  # of an older version, or damaged: measured anew
        pass
    profile = measure_profile(loaded, quick)
    with Reasoner(loaded.engine, loaded.codec, profile, loaded.bundle) as reasoner:
        p99_s = warm_up(reasoner, parameters)
    store(profile)
    return p99_s


def load_service(parameters: Parameters) -> Reasoner:
    """The reasoner that the parameters ask for, warmed up; its memory is locked, where that is allowed.

    Raises:
        AnytimeError: it cannot be had, or its first answers take longer than the budget.
    """
    reasoner = load_reasoner(parameters, Isolation(lock_memory=True))
    try:
        warm_up(reasoner, parameters)
    except BaseException:
        reasoner.close()
        raise
    return reasoner


def serve(
    transport: Transport,
    parameters: Parameters,
    told: threading.Event,
    *,
    name: str = "/anytime",
    load: Callable[[Parameters], Reasoner] = load_service,
    clock: Clock = MONOTONIC,
) -> None:
    """Serve until ``told``.

    Where the model cannot be had (a bundle that is damaged, whose signature has expired, that has become too slow),
    every question gets the parameter ``fallback``, and another attempt is made every minute.

    Raises:
        AnytimeError: the transport cannot be opened.
    """
    _lock_memory()
    watched = Watched(transport)
    node: Node | None = None
    while not told.is_set():
        try:
            reasoner = load(parameters)
        except AnytimeError as error:
            if node is None:
                logging.getLogger("anytime").error("%s; every question gets the fallback until it is mended", error)
                plain = msgspec.structs.replace(parameters, record="")
                node = _up(watched, plain, name, StandIn(str(error), clock), clock)
            notify(f"READY=1\nSTATUS={STANDING_IN}: {error}")
            clock.wait_until(told, clock.now() + RETRY_NS)
            continue
        if node is not None:
            node.shutdown()
        node = _up(watched, parameters, name, reasoner, clock)
        notify(f"READY=1\nSTATUS={ANSWERING}, bundle {reasoner.bundle.id[:16]}")
        told.wait()
    notify("STOPPING=1")
    if node is not None:
        node.shutdown()


def _up(transport: Transport, parameters: Parameters, name: str, reasoner: Reasoner, clock: Clock) -> Node:
    """A node with this reasoner, active."""
    node = Node(
        transport,
        parameters,
        name=name,
        load=lambda _: reasoner,
        warm_up=lambda reasoner, parameters: None,
        clock=clock,
    )
    try:
        node.configure()
        node.activate()
    except BaseException:
        node.shutdown()
        raise
    return node


def _lock_memory() -> None:
    try:
        lock_memory()
    except OSError as error:
        logging.getLogger("anytime").warning(
            "memory is not locked (%s): set LimitMEMLOCK=infinity in the unit, or its pages may have to be read again",
            error,
        )
