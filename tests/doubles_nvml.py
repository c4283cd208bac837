"""A double of ``pynvml``, the module of nvidia-ml-py: one GPU whose answers, or refusals, are set."""

from __future__ import annotations

from typing import Any


class NVMLError(Exception):
    """What the real module raises."""


class FakeNvml:
    """Functions and constants that the package uses, as in nvidia-ml-py 13; an Exception as an answer is raised."""

    NVML_CLOCK_SM, NVML_CLOCK_MEM = 1, 2

    def __init__(self, **answers: Any) -> None:
        self.answers: dict[str, Any] = {
            "init": None,
            "handle": "gpu 0",
            "name": "NVIDIA H200",
            "driver": "580.95.05",
            "clock": {1: 1980, 2: 3201},
            "most": {1: 1980, 2: 3201},
            "reasons": 0,
            **answers,
        }
        self.open = 0

    def _say(self, name: str, key: int | None = None) -> Any:
        found = self.answers[name]
        found = found[key] if key is not None and isinstance(found, dict) else found
        if isinstance(found, Exception):
            raise found
        return found

    def nvmlInit(self) -> None:
        self._say("init")
        self.open += 1

    def nvmlShutdown(self) -> None:
        self.open -= 1

    def nvmlDeviceGetHandleByIndex(self, index: int) -> Any:
        return self._say("handle")

    def nvmlDeviceGetName(self, handle: Any) -> Any:
        return self._say("name")

    def nvmlSystemGetDriverVersion(self) -> Any:
        return self._say("driver")

    def nvmlDeviceGetClockInfo(self, handle: Any, kind: int) -> Any:
        return self._say("clock", kind)

    def nvmlDeviceGetMaxClockInfo(self, handle: Any, kind: int) -> Any:
        return self._say("most", kind)

    def nvmlDeviceGetCurrentClocksEventReasons(self, handle: Any) -> Any:
        return self._say("reasons")


class OlderNvml(FakeNvml):
    """Before clocks event reasons had that name."""

    def __getattribute__(self, name: str) -> Any:
        if name == "nvmlDeviceGetCurrentClocksEventReasons":
            raise AttributeError(name)
        return super().__getattribute__(name)

    def nvmlDeviceGetCurrentClocksThrottleReasons(self, handle: Any) -> Any:
        return self._say("reasons")
