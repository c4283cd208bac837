"""The engines on ONNX Runtime's CUDA and TensorRT-RTX providers. NOT RUN ON HARDWARE YET.

They run the graph that returns new keys and values (``tensorrt.appended.onnx``): operators of plain ONNX, over a cache
of the full context that never moves. A step reads all of that cache, whatever the sequence's length.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from anytime.bundle import Bundle, Graph, Manifest, state_dir
from anytime.errors import BundleError, DeviceError, EngineError
from anytime.plans import PlanOptions, check_native
from anytime.runtime.engine import EngineSpec
from anytime.runtime.gpu.consistent import check_consistent
from anytime.runtime.gpu.device import UNIT, Device
from anytime.runtime.gpu.engine import GpuEngine, Ready
from anytime.runtime.gpu.memory import HALF, Layout, Memory, check_free
from anytime.runtime.ortgpu.provider import (
    CUDA,
    TENSORRT_RTX,
    Provider,
    check_driver,
    import_onnxruntime,
    load_plugin,
    plugin_version,
)
from anytime.runtime.ortgpu.runs import OrtRuns, tensor_names
from anytime.runtime.ortgpu.session import RunFailed, Session, open_session
from anytime.targets.gpu import Gpu, probe

_ROWS = PlanOptions().rows
_CHUNK = 256  # tokens of a prompt in one run; scores over the full context take memory for each of them


def open_cuda(bundle: Bundle) -> GpuEngine:
    """The engine on ONNX Runtime's CUDA provider, on the first GPU of this machine.

    Raises:
        BundleError, DeviceError, EngineError: something is missing, too old, or there is not enough memory; the message
            says what to do.
    """
    graph, module = graph_of(bundle), import_onnxruntime(CUDA)
    check_driver(module, probe())
    with contextlib.redirect_stdout(sys.stderr):  # it prints what it does not find
        module.preload_dlls()  # from nvidia's packages, where pip has brought them
    device = _open_device(CUDA)
    file, options = bundle.file(graph.file), cuda_options(device.stream)
    return _checked(ort_engine(bundle, graph, device, lambda: open_session(module, CUDA, file, options)))


def open_tensorrt_rtx(bundle: Bundle) -> GpuEngine:
    """The engine on the TensorRT-RTX plug-in, on the first GPU that it takes.

    Raises:
        BundleError, DeviceError, EngineError: as ``open_cuda``.
        SignatureError: a key is trusted, and others can have written the kernels that it keeps.
    """
    graph, module, gpu = graph_of(bundle), import_onnxruntime(TENSORRT_RTX), probe()
    devices = load_plugin(module, gpu)
    device = _open_device(TENSORRT_RTX)
    options = {
        "has_user_compute_stream": "1",
        "user_compute_stream": str(device.stream),
        "enable_cuda_graph": "1",
        "nv_runtime_cache_path": str(_kernels(gpu)),
    }
    file = bundle.file(graph.file)
    return _checked(
        ort_engine(
            bundle, graph, device, lambda: open_session(module, TENSORRT_RTX, file, options, devices), plugin_version()
        )
    )


def cuda_options(stream: int) -> dict[str, str]:
    """What the CUDA provider is told."""
    return {
        "device_id": "0",
        "user_compute_stream": str(stream),
        "enable_cuda_graph": "1",
        "arena_extend_strategy": "kSameAsRequested",
    }


def graph_of(bundle: Bundle) -> Graph:
    """The bundle's graph that these engines run.

    Raises:
        BundleError: it has none.
    """
    for graph in bundle.manifest.graphs:
        if graph.update == "appended":
            return graph
    raise BundleError(
        f"bundle {bundle.path} has no graph for a GPU: export its checkpoint again, "
        "'anytime export CHECKPOINT OUT --engine tensorrt', which writes the graph that this engine runs, too"
    )


def ort_engine(
    bundle: Bundle, graph: Graph, device: Device, opened: Callable[[], Session], plugin: str = ""
) -> GpuEngine:
    """The engine on a graph, whose session is opened once there is memory enough.

    Raises:
        DeviceError, EngineError: it cannot be opened, or there is not enough memory.
    """

    def set_up() -> Ready:
        layout = layout_of(bundle.manifest)
        check_free({"the model's weights": _weights(bundle, graph), **layout.sizes}, device.free_bytes())
        session = opened()
        past, returned = tensor_names(layout.layers)
        session.check({"input_ids", "past_length", "first_logit", *past}, {"logits", *returned})
        memory = Memory(device, layout)
        runs = OrtRuns(session, device, memory)
        spec = EngineSpec(
            name="onnxruntime",
            version=f"{session.version}, plug-in {plugin}" if plugin else session.version,
            provider=f"{session.provider.name}, {device.package}, {graph.update}, graphs",
            threads=1,
            precision=graph.precision,
            vocab_size=layout.vocab,
            max_rows=layout.rows,
            max_context=layout.context,
            gpu=f"{device.name} {'.'.join(map(str, device.compute_capability))}",
        )
        return Ready(memory, runs, spec, (RunFailed,))

    try:
        return GpuEngine(device, set_up)
    except RunFailed as error:
        raise EngineError(
            f"ONNX Runtime cannot run {graph.file} on the GPU ({error}): end other programs that use its memory, "
            "export with a smaller --max-context, or use another engine"
        ) from error


def layout_of(manifest: Manifest) -> Layout:
    """Sizes of an engine for this model.

    Raises:
        EngineError: its heads cannot be copied on the GPU.
    """
    kv = manifest.kv
    if kv.head_dim * HALF % UNIT:
        raise EngineError(
            f"a head has {kv.head_dim} channels, and this engine takes multiples of {UNIT // HALF}: use another engine"
        )
    return Layout(
        rows=_ROWS,
        chunk=min(_CHUNK, manifest.max_context),
        layers=kv.layers,
        heads=kv.heads,
        context=manifest.max_context,
        channels=kv.head_dim,
        vocab=manifest.vocab_size,
        appended=True,
        scratch_bytes=0,  # ONNX Runtime takes its own
    )


def _weights(bundle: Bundle, graph: Graph) -> int:
    files = bundle.manifest.files
    return sum(files[name].size for name in (graph.file, graph.weights) if name is not None)


def _checked(engine: GpuEngine) -> GpuEngine:
    check_consistent(engine, "try another version of onnxruntime, use another engine, and report it")
    return engine


def _open_device(provider: Provider) -> Device:
    """The first GPU through ``cuda.core``, which has the context that ONNX Runtime uses, too."""
    if find_spec("cuda") is None or find_spec("cuda.core") is None:
        raise DeviceError(f"cuda-core is not installed: pip install 'anytime[{provider.extra}]'")
    module: Any = import_module("anytime.runtime.gpu.device_cuda")
    device: Device = module.open_gpu()
    return device


def _kernels(gpu: Gpu) -> Path:
    """Where TensorRT-RTX keeps the kernels that it has compiled for a GPU.

    They are native code without a signature. Where a key is trusted, nobody but this user and root may write there.
    """
    folder = state_dir() / f"tensorrt-rtx-{gpu.compute_capability}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        kept = list(folder.iterdir())
    except OSError as error:
        raise EngineError(
            f"{folder} cannot be made or read ({error.strerror}): set XDG_STATE_HOME to a directory you may write to"
        ) from error
    check_native(folder, *kept)
    return folder
