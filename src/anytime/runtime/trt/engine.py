"""The engine on TensorRT: one model on one NVIDIA GPU. NOT RUN ON HARDWARE YET: its logic is tested on a double."""

from __future__ import annotations

from anytime.bundle import Bundle
from anytime.runtime.engine import EngineSpec
from anytime.runtime.gpu.consistent import check_consistent
from anytime.runtime.gpu.device import Device, open_device
from anytime.runtime.gpu.engine import GpuEngine, Ready
from anytime.runtime.gpu.memory import Memory, check_free
from anytime.runtime.trt.adapter import TensorRT, import_tensorrt
from anytime.runtime.trt.layout import layout_of
from anytime.runtime.trt.plan import Plan, find_plan
from anytime.runtime.trt.probe import probe
from anytime.runtime.trt.runs import Runs


def open_engine(bundle: Bundle) -> GpuEngine:
    """The engine on the first GPU of this machine, on the plan that was built of the bundle here.

    Raises:
        BundleError, DeviceError, EngineError: something is missing, too old, or belongs elsewhere, or there is not
            enough memory; the message says what to do.
    """
    found = probe()
    plan = find_plan(bundle, found.tensorrt, found.gpu.compute_capability)
    engine = trt_engine(bundle, plan, import_tensorrt(), open_device())
    check_consistent(
        engine, "build the plan again, with another version of TensorRT if that does not help, and report it"
    )
    return engine


def trt_engine(bundle: Bundle, plan: Plan, tensorrt: TensorRT, device: Device) -> GpuEngine:
    """The engine on a plan.

    Raises:
        EngineError: it cannot be loaded, or there is not enough memory.
    """

    def set_up() -> Ready:
        content = plan.read()
        check_free({"the plan's weights": len(content)}, device.free_bytes())
        model = tensorrt.load(content, host_code=plan.sidecar.options.version_compatible)
        del content  # as large as the weights, and on a Jetson the GPU's memory is the machine's
        layout = layout_of(model, bundle.manifest, plan.graph.update)
        memory = Memory(device, layout)
        runs = Runs(model, device, memory)
        spec = EngineSpec(
            name="tensorrt",
            version=tensorrt.version,
            provider=f"{device.package}, {plan.graph.update}, {'graphs' if runs.captured else 'no graphs'}",
            threads=1,
            precision=plan.graph.precision,
            vocab_size=layout.vocab,
            max_rows=layout.rows,
            max_context=layout.context,
            gpu=f"{device.name} {'.'.join(map(str, device.compute_capability))}",
        )
        return Ready(memory, runs, spec)

    return GpuEngine(device, set_up)
