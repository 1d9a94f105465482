"""The machine that a time was measured on."""

import importlib.metadata
import os
import platform
from pathlib import Path
from typing import Any

import torch

THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS", "TOKENIZERS_PARALLELISM", "CUDA_VISIBLE_DEVICES")
RUNTIMES = ("torch", "transformers", "tokenizers", "onnxruntime", "openvino")


def processor() -> str:
    """Name the processor."""
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def device_name(device: torch.device) -> str:
    """Name a device and its kind, as in ``cpu (<processor>)``."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else processor()
    return f"{device.type} ({name})"


def describe_machine() -> dict[str, Any]:
    """Describe what else decides a time.

    Returns:
        ``threads`` of torch in this process, ``cores``, ``load`` (mean number of processes that wanted a core over the last
        minute; None where the system doesn't say), ``environment`` (variables that limit threads or devices, if set) and
        ``versions`` of the runtimes that are installed.
    """
    return {
        "threads": torch.get_num_threads(),
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "environment": {name: os.environ[name] for name in THREADS if name in os.environ},
        "versions": {name: version for name in RUNTIMES if (version := _version(name))} | {"torch": torch.__version__},
    }


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
