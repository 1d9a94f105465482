"""What a figure was measured on."""

import os
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

PACKAGES = ("numpy", "torch", "tokenizers", "transformers", "ir_datasets")
MIB = 1 << 20


def describe() -> dict[str, Any]:
    """Return processor, cores and versions."""
    models = [line.partition(":")[2].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")]
    return {
        "processor": models[0] if models else platform.machine(),
        "cores": os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "kernel": platform.release(),
        "python": platform.python_version(),
        **{name: version(name) for name in PACKAGES},
    }


def memory() -> dict[str, float]:
    """Return resident memory in MiB: VmRSS, of which RssAnon is the process's own, RssFile of mapped files; VmHWM the most."""
    rows = (line.split() for line in _lines("/proc/self/status"))
    return {row[0][:-1]: int(row[1]) / 1024 for row in rows if row and row[0] in ("VmRSS:", "RssAnon:", "RssFile:", "VmHWM:")}


def resident(folder: Path) -> dict[str, float]:
    """Return how much of each mapped file of a folder is resident in this process, in MiB, by ``folder/file``."""
    found: dict[str, float] = {}
    name = ""
    for line in _lines("/proc/self/smaps"):
        words = line.split()
        if not words[0].endswith(":"):
            path = Path(words[-1])
            name = f"{path.parent.name}/{path.name}" if path.is_relative_to(folder.resolve()) else ""
        elif name and words[0] == "Rss:":
            found[name] = found.get(name, 0) + int(words[1]) / 1024
    return found


def _lines(path: str) -> list[str]:
    return Path(path).read_text(encoding="utf-8").splitlines()
