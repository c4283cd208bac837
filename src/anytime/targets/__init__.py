"""Targets: devices and their settings, one TOML each, and what the host says it is."""

from anytime.targets.host import Host, available_bytes, detect, memory_bytes
from anytime.targets.target import Target, load_targets

__all__ = ["Host", "Target", "available_bytes", "detect", "load_targets", "memory_bytes"]
