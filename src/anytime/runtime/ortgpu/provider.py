"""Which of ONNX Runtime's providers runs the model, and whether the installed packages and the driver let it."""

from __future__ import annotations

from importlib import import_module, metadata
from typing import Any

import msgspec

from anytime.errors import DeviceError
from anytime.targets.gpu import Gpu

_PACKAGES = ("onnxruntime", "onnxruntime-gpu")  # which own the same files
_PLUGIN = "onnxruntime_ep_nv_tensorrt_rtx"
_PLUGINS_SINCE = (1, 24)  # the plug-in's own requirement


class Provider(msgspec.Struct, frozen=True):
    """An execution provider, and what pip installs it with. ``graph_option`` names a run's captured graph."""

    name: str
    extra: str
    graph_option: str

    @property
    def remedy(self) -> str:
        return f"pip uninstall onnxruntime onnxruntime-gpu, then pip install 'anytime[{self.extra}]'"


CUDA = Provider("CUDAExecutionProvider", "cuda", "gpu_graph_id")
TENSORRT_RTX = Provider("NvTensorRTRTXExecutionProvider", "tensorrt-rtx", "cuda_graph_annotation_id")


def import_onnxruntime(provider: Provider) -> Any:
    """The onnxruntime package, one that has the provider.

    Raises:
        DeviceError: it is not installed, is another one, or is there twice.
    """
    installed = [name for name in _PACKAGES if _installed(name)]
    if len(installed) > 1:
        raise DeviceError(
            f"{' and '.join(installed)} are both installed, and have overwritten each other's files: {provider.remedy}"
        )
    try:
        module = import_module("onnxruntime")
    except (ImportError, OSError) as error:
        raise DeviceError(f"onnxruntime cannot be imported ({error}): {provider.remedy}") from error
    if provider is CUDA and CUDA.name not in module.get_available_providers():
        raise DeviceError(
            f"onnxruntime {module.__version__} is the package for the CPU: it has no {CUDA.name}: {provider.remedy}"
        )
    if provider is TENSORRT_RTX and _numbers(module.__version__) < _PLUGINS_SINCE:
        oldest = ".".join(map(str, _PLUGINS_SINCE))
        raise DeviceError(
            f"onnxruntime {module.__version__} does not take {provider.name}, a plug-in that needs {oldest}: "
            f"{provider.remedy}"
        )
    return module


def check_driver(module: Any, gpu: Gpu) -> None:
    """Raises: DeviceError: the driver does not know the CUDA that onnxruntime is made for."""
    made_for = getattr(module, "cuda_version", "")
    if made_for and _numbers(made_for)[0] > _numbers(gpu.cuda)[0]:
        raise DeviceError(
            f"onnxruntime {module.__version__} is made for CUDA {made_for}, and the driver of the {gpu.gpu} knows CUDA "
            f"up to {gpu.cuda}: update the driver, or install an onnxruntime-gpu made for its CUDA version"
        )


def load_plugin(module: Any, gpu: Gpu) -> list[Any]:
    """The devices of the TensorRT-RTX plug-in, which this process then has.

    Raises:
        DeviceError: it is not installed, cannot be loaded, or takes no GPU of this machine.
    """
    name = TENSORRT_RTX.name
    try:
        plugin = import_module(_PLUGIN)
    except (ImportError, OSError) as error:
        raise DeviceError(f"the plug-in {_PLUGIN} cannot be imported ({error}): {TENSORRT_RTX.remedy}") from error
    if not _devices(module):
        try:
            module.register_execution_provider_library(name, plugin.get_library_path())
        except Exception as error:  # ONNX Runtime's exceptions have no common base
            raise DeviceError(
                f"onnxruntime {module.__version__} cannot load the plug-in {_PLUGIN} {plugin.__version__} ({error}): "
                "install the CUDA libraries that are missing, or update the driver"
            ) from error
    found = _devices(module)
    if not found:
        raise DeviceError(
            f"{name} takes no GPU of this machine (the {gpu.gpu} has compute capability {gpu.compute_capability}): it "
            "is for RTX cards from 8.6 on; use the engine tensorrt or cuda"
        )
    return found


def plugin_version() -> str:
    return str(import_module(_PLUGIN).__version__)


def _devices(module: Any) -> list[Any]:
    return [device for device in module.get_ep_devices() if device.ep_name == TENSORRT_RTX.name]


def _installed(package: str) -> bool:
    try:
        metadata.version(package)
    except metadata.PackageNotFoundError:
        return False
    return True


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
