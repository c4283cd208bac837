"""From a bundle on disk to a machine ready to run: engine, tokenizer and the latency profile that belongs to them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import msgspec
import numpy as np

from anytime.bundle import Bundle
from anytime.errors import ProfileError, UsageError
from anytime.runtime.engine import Engine, EngineName, Snapshot
from anytime.runtime.forecast import CALIBRATION, Forecast, read_calibration
from anytime.runtime.ort.engine import OrtEngine
from anytime.runtime.prefixes import Prefix
from anytime.runtime.prompt import Codec
from anytime.scheduler.clock import MONOTONIC
from anytime.scheduler.profile import LatencyProfile, ProfileKey, find, read, store
from anytime.targets import Host, detect

if TYPE_CHECKING:
    from anytime.runtime.stopwatch import Progress

_MOST_THREADS = 1024


class Loaded(msgspec.Struct, frozen=True):
    """A bundle opened on this host."""

    bundle: Bundle
    engine: Engine
    codec: Codec
    host: Host
    key: ProfileKey


def open_bundle(
    bundle: str | os.PathLike[str] | None, threads: int | None = None, engine: EngineName = "onnxruntime"
) -> Loaded:
    """Open a bundle, by default the reference, with ONNX Runtime on the CPU, or on a GPU.

    Raises:
        BundleError, EngineError: it cannot be opened.
        UsageError: there cannot be that many threads, or there is no such engine.
    """
    if engine not in get_args(EngineName):
        raise UsageError(f"engine is {engine!r}: it must be one of {', '.join(get_args(EngineName))}")
    if threads is not None and not 1 <= threads <= _MOST_THREADS:
        raise UsageError(f"threads is {threads}: it must be between 1 and {_MOST_THREADS}")
    opened = Bundle.load(bundle) if bundle is not None else Bundle.reference()
    host = detect()
    made = _engine(engine, opened, threads or host.threads())
    spec = made.spec
    key = ProfileKey(
        bundle=opened.id,
        engine=spec.name,
        version=spec.version,
        provider=spec.provider,
        threads=spec.threads,
        precision=spec.precision,
        max_rows=spec.max_rows,
        max_context=spec.max_context,
        processor=host.processor,
        gpu=spec.gpu,
        power_mode=host.power_mode,
    )
    return Loaded(opened, made, Codec(opened), host, key)


def _engine(name: EngineName, bundle: Bundle, threads: int) -> Engine:
    if name == "onnxruntime":
        return OrtEngine(bundle, threads)
    # Who has no GPU loads nothing of these.
    if name == "tensorrt":
        from anytime.runtime.trt.engine import open_engine

        return open_engine(bundle)
    from anytime.runtime.ortgpu.engine import open_cuda, open_tensorrt_rtx

    return open_cuda(bundle) if name == "cuda" else open_tensorrt_rtx(bundle)


def forecast_of(bundle: Bundle) -> Forecast | None:
    """What a calibrated bundle knows of its own answers; None where it is not calibrated.

    Raises:
        BundleError: its calibration is another version's.
    """
    if CALIBRATION not in bundle.manifest.files:
        return None
    return Forecast(read_calibration(bundle.file(CALIBRATION)))


def shipped_prefix(bundle: Bundle) -> Prefix | None:
    """The beginning of a prompt that comes with the bundle, already run."""
    shipped = bundle.manifest.prefix
    if shipped is None:
        return None
    cache = np.load(bundle.file(shipped.file), allow_pickle=False)
    return Prefix(shipped.tokens, Snapshot(len(shipped.tokens), cache))


def measure_profile(loaded: Loaded, quick: bool, progress: Progress = lambda what, done: None) -> LatencyProfile:
    """Measure a profile of what was opened; nothing is stored."""
    from anytime.runtime.measure import measure  # rarely needed: profiles are stored

    return measure(loaded.engine, loaded.key, loaded.host, MONOTONIC, quick, progress)


def find_profile(
    loaded: Loaded, file: Path | None, estimate: bool, progress: Progress = lambda what, done: None
) -> LatencyProfile:
    """The profile in ``file``, else the stored one, else one measured quickly now and stored if possible.

    Raises:
        ProfileError: the file cannot be used here.
    """
    if file is not None:
        return read(file, loaded.key, estimate)
    stored = find(loaded.key)
    if stored is not None:
        return stored
    import logging

    log = logging.getLogger("anytime")
    log.warning(
        "no latency profile of this bundle on this machine: measuring a quick one ('anytime profile' does it well)"
    )
    profile = measure_profile(loaded, quick=True, progress=progress)
    for warning in profile.warnings:
        log.warning("%s", warning)
    try:
        store(profile)
    except ProfileError as error:
        log.warning("%s; it is used for this process only", error)
    return profile
