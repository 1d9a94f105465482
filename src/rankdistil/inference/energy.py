"""Energy that a device has used, where the machine lets it be read; nothing is installed or asked for.

A whole device is read: a GPU's board through NVML, a machine's processors through RAPL, what they use when idle included. Both
counters move in steps (NVML's every 20 to 100 ms, RAPL's every ms), so only calls of a second or more mean something.
"""

import importlib
from collections.abc import Callable
from pathlib import Path

import torch

RAPL = Path("/sys/class/powercap")


def energy_meter(device: torch.device) -> Callable[[], float] | None:
    """Return a function that gives the joules used so far; None if the device's energy can't be read here."""
    return _nvml(device) if device.type == "cuda" else _rapl()


def _nvml(device: torch.device) -> Callable[[], float] | None:
    try:
        nvml = importlib.import_module("pynvml")
    except ImportError:
        return None
    try:
        nvml.nvmlInit()
        handle = nvml.nvmlDeviceGetHandleByUUID(f"GPU-{torch.cuda.get_device_properties(device).uuid}")
        nvml.nvmlDeviceGetTotalEnergyConsumption(handle)  # GPUs before Volta don't count
    except nvml.NVMLError:
        return None
    return lambda: nvml.nvmlDeviceGetTotalEnergyConsumption(handle) / 1e3


def _rapl() -> Callable[[], float] | None:
    try:
        zones = [zone for zone in sorted(RAPL.glob("intel-rapl:*")) if _text(zone / "name").startswith("package")]
        counters = [_Counter(zone) for zone in zones]
    except OSError:  # root alone may read them on most systems
        return None
    return (lambda: sum(counter.joules() for counter in counters)) if counters else None


class _Counter:
    """The counter of a processor, which starts again from 0 when it is full."""

    def __init__(self, zone: Path) -> None:
        self._file, self._full = zone / "energy_uj", int(_text(zone / "max_energy_range_uj"))
        self._last, self._sum = int(_text(self._file)), 0

    def joules(self) -> float:
        """Return the energy used since this object was made."""
        now = int(_text(self._file))
        self._sum += now - self._last if now >= self._last else now - self._last + self._full
        self._last = now
        return self._sum / 1e6


def _text(file: Path) -> str:
    return file.read_text(encoding="utf-8").strip()
