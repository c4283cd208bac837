"""Building a plan: a bundle's graph, compiled by the TensorRT of this machine for the GPU of this machine.

The calls used here are the same from TensorRT 10.3 to 11.4, which ``tests/test_trt_bindings.py`` holds to NVIDIA's own
Python bindings. It needs TensorRT and a GPU, but neither torch nor Optimum.
"""

from __future__ import annotations

import hashlib
import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from anytime.bundle import Bundle, Graph, state_dir, write_whole
from anytime.errors import DeviceError, ExportError, SignatureError
from anytime.plans import (
    LEAST_ROWS,
    MOST_ROWS,
    PlanOptions,
    Sidecar,
    graph_sha256,
    plans_dir,
    tensorrt_graph,
    trusted_plan,
)
from anytime.targets.gpu import probe

INPUT_IDS, FIRST_LOGIT = "input_ids", "first_logit"


def build_plan(
    bundle: Bundle,
    options: PlanOptions,
    timing_cache: Path | None = None,
    progress: Callable[[str], None] = lambda step: None,
) -> Path:
    """Build a plan of the bundle's graph for this machine, or find the one that was built; its file.

    Args:
        bundle: one exported for TensorRT.
        options: how; see ``PlanOptions``.
        timing_cache: a file of what earlier builds measured, read if it exists and written, so that the next build is
            shorter and chooses alike; by default one for this GPU and TensorRT in the state directory.
        progress: told what is being done.

    Raises:
        DeviceError: no GPU, driver or TensorRT here.
        BundleError: the bundle has no graph that this TensorRT can build.
        ExportError: TensorRT refuses the graph, the options make no sense, or a file cannot be written.
    """
    options = _fitting(options, bundle)
    progress("looking for a GPU and TensorRT")
    gpu = probe()
    trt = load_tensorrt()
    graph = tensorrt_graph(bundle, trt.__version__)
    sidecar = Sidecar(
        tensorrt=trt.__version__,
        compute_capability=gpu.compute_capability,
        graph_sha256=graph_sha256(bundle.manifest, graph),
        bundle=bundle.id,
        options=options,
        plan_sha256="",
    )
    file = plans_dir(bundle) / f"{sidecar.key()}.plan"
    if _is_there(file):
        return file
    cache = timing_cache or state_dir() / f"timing-{trt.__version__}-{gpu.compute_capability}.cache"
    progress(f"building a plan with TensorRT {trt.__version__} for {gpu.gpu}, which takes minutes")
    plan, timings = compile_graph(trt, bundle, graph, options, _read(cache))
    digest = hashlib.sha256(plan).hexdigest()
    _write(file, plan)
    _write(file.with_suffix(".json"), msgspec.json.encode(msgspec.structs.replace(sidecar, plan_sha256=digest)))
    _write(cache, timings)
    return file


def load_tensorrt() -> Any:
    """NVIDIA's Python module.

    Raises:
        DeviceError: it is not installed, or its libraries are not.
    """
    try:
        return importlib.import_module("tensorrt")
    except (ImportError, OSError) as error:
        raise DeviceError(
            f"TensorRT cannot be loaded ({error}): install it (JetPack brings it as python3-libnvinfer; elsewhere "
            "pip install tensorrt from NVIDIA's index), or build the plan on the device"
        ) from error


def compile_graph(
    trt: Any, bundle: Bundle, graph: Graph, options: PlanOptions, timings: bytes
) -> tuple[memoryview, memoryview]:
    """The plan, and the timing cache with what was measured for it, built with the given TensorRT module.

    Raises:
        ExportError: TensorRT refuses the graph.
        DeviceError: it does not start.
    """
    logger = trt.Logger(trt.Logger.ERROR)
    try:
        builder = trt.Builder(logger)
    except TypeError as error:  # what the bindings say where the library gives no builder
        raise DeviceError(
            f"TensorRT {trt.__version__} does not start on this driver: update it, or install the TensorRT made for it"
        ) from error
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse_from_file(str(bundle.file(graph.file))):
        errors = "; ".join(parser.get_error(index).desc() for index in range(parser.num_errors))
        raise ExportError(f"TensorRT {trt.__version__} cannot parse {graph.file} ({errors}): please report it")
    if graph.update == "in-place":
        _let_attention_be_decomposed(trt, network)
    config = builder.create_builder_config()
    config.max_aux_streams = 0  # one stream, so that a step is one captured graph whose order does not vary
    if options.version_compatible:
        config.set_flag(trt.BuilderFlag.VERSION_COMPATIBLE)
    if options.hardware_compatible:
        config.hardware_compatibility_level = trt.HardwareCompatibilityLevel.AMPERE_PLUS
    for rows, tokens in ((options.rows, 1), (1, options.chunk)):
        config.add_optimization_profile(_profile(builder, network, rows, tokens))
    cache = config.create_timing_cache(timings)
    if not config.set_timing_cache(cache, False):  # another GPU's or version's
        cache = config.create_timing_cache(b"")
        config.set_timing_cache(cache, False)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise ExportError(f"TensorRT {trt.__version__} cannot build {graph.file}: it says why above")
    return memoryview(plan), memoryview(cache.serialize())


def _let_attention_be_decomposed(trt: Any, network: Any) -> None:
    """Where TensorRT has no kernel for a whole attention layer it takes several, instead of refusing to build."""
    for index in range(network.num_layers):
        layer = network.get_layer(index)
        if layer.type == trt.LayerType.ATTENTION_INPUT:
            layer.__class__ = trt.IAttentionInputLayer  # how the bindings cast
            layer.attention.decomposable = True


def _profile(builder: Any, network: Any, rows: int, tokens: int) -> Any:
    """Shapes from one row with one token to ``rows`` rows with ``tokens`` tokens, best for one row with all of them."""
    profile = builder.create_optimization_profile()
    for index in range(network.num_inputs):
        tensor = network.get_input(index)
        if tensor.name == FIRST_LOGIT:  # its value decides a shape
            profile.set_shape_input(tensor.name, [0], [tokens - 1], [tokens - 1])
            continue
        least, most = [1, *tensor.shape[1:]], [rows, *tensor.shape[1:]]
        if tensor.name == INPUT_IDS:
            least, most = [1, 1], [rows, tokens]
        profile.set_shape(tensor.name, least, [1, *most[1:]], most)
    return profile


def _fitting(options: PlanOptions, bundle: Bundle) -> PlanOptions:
    if not LEAST_ROWS <= options.rows <= MOST_ROWS:
        raise ExportError(f"rows is {options.rows}: a plan takes {LEAST_ROWS} to {MOST_ROWS}")
    if options.chunk < 1:
        raise ExportError(f"chunk is {options.chunk}: a run of a prompt has at least one token")
    return msgspec.structs.replace(options, chunk=min(options.chunk, bundle.manifest.max_context))


def _is_there(file: Path) -> bool:
    """Whether the plan was built already, is whole, and may be loaded here."""
    try:
        trusted_plan(file)
        sidecar = msgspec.json.decode(file.with_suffix(".json").read_bytes(), type=Sidecar)
        return hashlib.sha256(file.read_bytes()).hexdigest() == sidecar.plan_sha256
    except (OSError, SignatureError, msgspec.DecodeError):
        return False


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except FileNotFoundError:
        return b""
    except OSError as error:
        raise ExportError(f"the timing cache {file} cannot be read ({error.strerror}): name another file") from error


def _write(file: Path, content: memoryview | bytes) -> None:
    """Write a file, whole or not at all."""
    try:
        write_whole(file, content)
    except OSError as error:
        raise ExportError(
            f"{file.name} cannot be stored under {file.parent} ({error.strerror}): "
            "set XDG_STATE_HOME to a directory you may write to"
        ) from error
