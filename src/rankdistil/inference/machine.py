"""CPU features (AVX-512, VNNI, bfloat16), the processor's name, and the load of other processes.

Flags alone don't tell: a kernel may be held back (``ONEDNN_MAX_CPU_ISA`` for products, ``ATEN_CPU_CAPABILITY`` for torch's own
loops), or not be built in. So 8-bit products are tried out, in microseconds, with the largest sums that there can be; bfloat16,
which is right but slow where it is emulated, goes by the flags that are left after both variables.

Times that were measured beside others' work say as much about that work. The load average can't tell: it counts the timed
process too, over the last minute.
"""

import ctypes
import importlib.metadata
import os
import platform
import time
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

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


LEVELS = {8: 127, 7: 64}  # bits of a weight -> its largest value, either way: 2 * 64 * 255 still fits 16 bits
ZERO = 128  # what stands for 0 in the unsigned activations: oneDNN multiplies signed ones by its slow reference code
PROBE = 64  # inputs and outputs of the layer that is tried out
LIMITS = ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA")
BELOW_BFLOAT16 = ("SSE41", "AVX", "AVX2", "AVX2_VNNI", "AVX2_VNNI_2", "AVX512_CORE", "AVX512_CORE_VNNI")
SLOWER = 6.7  # times: bfloat16 over float32 on an AVX2 processor, packed inference


def weight_bits() -> int | None:
    """Return how many bits a weight may have for torch to multiply in 8-bit integers exactly here.

    Returns:
        8; 7 where two products are summed in 16 bits, as processors without 8-bit dot products (VNNI) do; None where torch has
        no such kernels or is inexact with either.
    """
    if not (torch.backends.mkldnn.is_available() and hasattr(torch.ops.onednn, "qlinear_pointwise")):
        return None
    return next((bits for bits in LEVELS if _exact(bits)), None)


def require_weight_bits() -> int:
    """Return ``weight_bits``.

    Raises:
        ValueError: if there is none.
    """
    bits = weight_bits()
    if bits is None:
        raise ValueError(
            "dtype=int8 needs a torch with oneDNN whose 8-bit products are exact; this build, or this processor, has none. "
            "Use dtype=float32."
        )
    return bits


def pack_int8(whole: torch.Tensor) -> torch.Tensor:
    """Lay weights out for ``multiply_int8``.

    Args:
        whole: whole numbers, (out, in).
    """
    return torch.ops.onednn.qlinear_prepack(whole.to(torch.int8), None)


def multiply_int8(rows: torch.Tensor, packed: torch.Tensor, scale: torch.Tensor, zero: torch.Tensor) -> torch.Tensor:
    """Multiply 8-bit rows by packed 8-bit weights, summed in 32 bits.

    Args:
        rows: unsigned, ``ZERO`` stands for 0, (N, in).
        packed: what ``pack_int8`` made of the weights, (out, in).
        scale: of each output, float32, (out,).
        zero: int32 zeros, (out,).

    Returns:
        float32, (N, out).
    """
    return torch.ops.onednn.qlinear_pointwise(rows, 1.0, ZERO, packed, scale, zero, None, 1.0, 0, torch.float32, "none", [], "")


@cache
def _exact(bits: int) -> bool:
    """Whether the largest sums of products of one sign, of neighbours and all along a row, come out as they are."""
    largest = LEVELS[bits]
    scale, zero = torch.ones(PROBE), torch.zeros(PROBE, dtype=torch.int32)
    for weight in (largest, -largest):
        packed = pack_int8(torch.full((PROBE, PROBE), weight))
        for activation in (0, 255):
            rows = torch.full((2, PROBE), activation, dtype=torch.uint8)
            expected = float(PROBE * weight * (activation - ZERO))
            if not bool((multiply_int8(rows, packed, scale, zero) == expected).all()):
                return False
    return True


def computes_bfloat16(device: torch.device | str = "cpu") -> bool:
    """Whether a device multiplies in bfloat16 by itself; elsewhere it is emulated, and slower than float32."""
    if torch.device(device).type == "cuda":
        return torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False)
    if any(os.environ.get(name, "").upper() in BELOW_BFLOAT16 for name in LIMITS):
        return False
    found: dict[str, Any] = torch.cpu.get_capabilities()
    if found.get("architecture") == "x86_64":
        by_itself = bool(found.get("avx512_bf16") or found.get("amx_bf16"))
        return by_itself and torch.backends.cpu.get_cpu_capability().startswith("AVX512")
    return bool(found.get("bf16") or found.get("arm_bf16") or found.get("sve_bf16"))


def require_bfloat16(key: str, instead: str) -> None:
    """See that this processor computes bfloat16 by itself.

    Args:
        key: the setting that asks for it, with its value.
        instead: what to use, for the message.

    Raises:
        ValueError: if it doesn't.
    """
    if not computes_bfloat16():
        raise ValueError(
            f"{key} needs a processor with bfloat16 (AVX512_BF16, AMX or ARM's BF16), and this one has none or is held back: "
            f"emulated, it takes {SLOWER} times as long as float32. Use {instead}."
        )


def resolve_precision(precision: Any, accelerator: str | None) -> Any:
    """Return the precision that ``trainer.precision`` means here.

    Args:
        precision: as configured; ``auto`` is bf16-mixed where the device computes bfloat16 by itself, else 32-true.
        accelerator: as configured.
    """
    if precision != "auto":
        return precision
    device = "cuda" if accelerator != "cpu" and torch.cuda.is_available() else "cpu"
    return "bf16-mixed" if computes_bfloat16(device) else "32-true"


def on_cpu(accelerator: str) -> bool:
    """Whether ``trainer.accelerator`` means the processor here."""
    return accelerator == "cpu" or (accelerator == "auto" and not torch.cuda.is_available())


class Fetched:
    """A number on its way from a GPU, which isn't waited for; from a CPU it is there at once.

    Args:
        value: scalar.
    """

    def __init__(self, value: Tensor) -> None:
        self._there = None
        if value.device.type == "cuda":
            self._there = torch.cuda.Event(blocking=True)
            value = torch.empty_like(value, device="cpu", pin_memory=True).copy_(value, non_blocking=True)
            self._there.record()
        self._value = value

    def there(self) -> bool:
        """Whether it has come."""
        return self._there is None or self._there.query()

    def number(self) -> float:
        """Return it; wait for it, but for nothing that the GPU was told since."""
        if self._there is not None:
            self._there.synchronize()
        return self._value.item()


def trim_heap() -> None:
    """Give memory that is free inside of the C library's heap back to the system; it takes milliseconds.

    No two batches are of equal shape, so what one leaves free seldom fits the next. glibc gives whole pages back wherever they
    lie; other C libraries aren't asked.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


M_MMAP_THRESHOLD, MAPPED = -3, 2 << 20  # of glibc's malloc.h; bytes: the matrices of a batch are larger


def map_large_blocks() -> None:
    """Let each block of 2 MiB or more lie on pages of its own, which go back to the system when it is freed.

    By itself glibc takes blocks of up to 32 MiB from its heap once one of them was freed, and leaves gaps there that grow with
    the variety of shapes. Smaller blocks are worth keeping: from 512 KiB on a small ranker's service was a quarter slower.
    ``MALLOC_MMAP_THRESHOLD_`` in the environment has the last word; other C libraries aren't asked.
    """
    choose = getattr(ctypes.CDLL(None), "mallopt", None)
    if choose is not None and "MALLOC_MMAP_THRESHOLD_" not in os.environ:
        choose(M_MMAP_THRESHOLD, MAPPED)


COUNTERS = Path("/proc/stat")


class Usage(NamedTuple):
    """What was used of a machine in a while.

    Attributes:
        node: name of the machine.
        cores: it has.
        wall: seconds that passed.
        own: CPU seconds of this process and of those that it started and that have ended.
        all: CPU seconds of all processes, and what a host of this machine gave to its others; None where it isn't told.
    """

    node: str
    cores: int
    wall: float
    own: float
    all: float | None


def counters() -> tuple[float, int] | None:
    """Return the CPU seconds that all processes have used so far, and the cores; None where the system doesn't count them."""
    if not COUNTERS.is_file():
        return None
    lines = [line.split() for line in COUNTERS.read_text(encoding="ascii").splitlines() if line.startswith("cpu")]
    user, nice, system, _, _, interrupt, soft, stolen, *_ = map(int, lines[0][1:])
    return (user + nice + system + interrupt + soft + stolen) / os.sysconf("SC_CLK_TCK"), len(lines) - 1


class Meter:
    """Measures what is used from now on.

    Args:
        read: gives the counters of all processes, see ``counters``.
    """

    def __init__(self, read: Callable[[], tuple[float, int] | None] = counters) -> None:
        self._read = read
        self._start = self._now()

    def usage(self) -> Usage:
        """Return what has been used since the start."""
        (total, cores, own, wall), (total0, _, own0, wall0) = self._now(), self._start
        every = None if total is None or total0 is None else total - total0
        return Usage(platform.node(), cores, wall - wall0, own - own0, every)

    def share(self) -> float | None:
        """Return the share of the cores that others have used since the start, see ``others_share``."""
        return others_share([self.usage()])

    def _now(self) -> tuple[float | None, int, float, float]:
        total, cores = self._read() or (None, os.cpu_count() or 1)
        return total, cores, sum(os.times()[:4]), time.monotonic()


def others_share(usages: Sequence[Usage]) -> float | None:
    """Return the largest share of a machine's cores that others used.

    Args:
        usages: of the processes that worked together, over the same while; those of one machine aren't others to each other.

    Returns:
        From 0 (nothing else ran) to 1 (all cores); None where it isn't known: a system without counters, or one whose counters
        miss the process's own work, as those of some sandboxes do.
    """
    nodes: dict[str, list[Usage]] = {}
    for usage in usages:
        nodes.setdefault(usage.node, []).append(usage)
    shares = [_share(usages) for usages in nodes.values()]
    return None if None in shares else max(shares)


def shown_share(share: float | None) -> str:
    """Write a share for a reader."""
    return "an unknown share" if share is None else f"{share:.0%}"


def _share(usages: Sequence[Usage]) -> float | None:
    own, first = sum(usage.own for usage in usages), usages[0]
    if first.all is None or first.all < own / 2 or first.wall <= 0:
        return None
    return max(0.0, first.all - own) / (first.wall * first.cores)
