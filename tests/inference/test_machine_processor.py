"""What a processor computes by itself is found out by trying, within what the environment allows the libraries."""

import os
import platform
import subprocess
import sys
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from rankdistil.inference import machine
from rankdistil.inference.machine import computes_bfloat16, require_weight_bits, resolve_precision, weight_bits

ZEN4 = {"architecture": "x86_64", "avx512_bf16": True}
HELD_BACK = {"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2"}


@pytest.fixture(autouse=True)
def _afresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Forget what was found out, before and after; let the environment hold nothing back."""
    for name in HELD_BACK:
        monkeypatch.delenv(name, raising=False)
    machine._exact.cache_clear()
    yield
    machine._exact.cache_clear()


@pytest.mark.parametrize(("most", "expected"), [(2**31, 8), (2**15 - 1, 7), (2**14, None)])
def test_weights_have_as_many_bits_as_pairs_of_products_allow(
    monkeypatch: pytest.MonkeyPatch, most: int, expected: int | None
) -> None:
    def multiply(rows: Tensor, packed: Tensor, scale: Tensor, zero: Tensor) -> Tensor:
        products = rows.long()[:, None] * packed.long()
        pairs = products.unflatten(2, (-1, 2)).sum(3).clamp(-most - 1, most)
        return (pairs.sum(2) - machine.ZERO * packed.long().sum(1)).float()

    monkeypatch.setattr(machine, "pack_int8", lambda whole: whole)
    monkeypatch.setattr(machine, "multiply_int8", multiply)
    assert weight_bits() == expected


def test_a_build_without_8_bit_kernels_is_told_what_to_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    assert weight_bits() is None
    with pytest.raises(ValueError) as caught:
        require_weight_bits()
    assert str(caught.value) == (
        "dtype=int8 needs a torch with oneDNN whose 8-bit products are exact; this build, or this processor, has none. "
        "Use dtype=float32."
    )


@pytest.mark.skipif(platform.machine() != "x86_64", reason="AVX2 is of x86_64")
def test_a_processor_held_back_to_avx2_is_one_with_avx2() -> None:
    line = "from rankdistil.inference.machine import *; print(weight_bits(), computes_bfloat16())"
    done = subprocess.run([sys.executable, "-c", line], capture_output=True, text=True, env={**os.environ, **HELD_BACK})
    assert (done.stdout, done.returncode) == ("7 False\n", 0), done.stderr


@pytest.mark.parametrize(
    ("found", "level", "limit", "expected"),
    [
        (ZEN4, "AVX512", "", True),
        (ZEN4, "AVX512", "AVX512_CORE_AMX", True),
        (ZEN4, "AVX512", "avx512_core_vnni", False),
        (ZEN4, "AVX2", "", False),
        ({"architecture": "x86_64", "avx512_bf16": False}, "AVX512", "", False),
        ({"architecture": "aarch64", "bf16": True}, "DEFAULT", "", True),
        ({"architecture": "aarch64"}, "DEFAULT", "", False),
    ],
)
def test_bfloat16_needs_flags_that_the_environment_leaves(
    monkeypatch: pytest.MonkeyPatch, found: dict[str, object], level: str, limit: str, expected: bool
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: found)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: level)
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", limit)
    assert computes_bfloat16() is expected


def test_automatic_precision_asks_the_device_that_trains(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(machine, "computes_bfloat16", lambda device: asked.append(device) or device == "cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert [resolve_precision("auto", where) for where in ("gpu", "cpu")] == ["bf16-mixed", "32-true"]
    assert asked == ["cuda", "cpu"]
    assert resolve_precision("16-true", "cpu") == "16-true"
