"""What one core can multiply, and what a ranker has to: the share of the limit that a measurement reaches."""

import time
from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import BertConfig

from rankdistil.inference.machine import LEVELS, multiply_int8, pack_int8, require_weight_bits

SHAPE = 1024, 1024, 1024  # rows, inputs, outputs
BURSTS = 20


def limits() -> dict[str, float]:
    """Measure the GFLOP/s of matrix products in each arithmetic: the best of some short bursts, a multiply-add counts twice.

    Weights of int8 have as many bits as this processor multiplies exactly; bfloat16 may be emulated.
    """
    rows, inner, outer = SHAPE
    left, right = torch.randn(rows, inner), torch.randn(outer, inner)
    halves = left.bfloat16(), right.bfloat16()
    whole, largest = torch.randint(0, 256, (rows, inner)).to(torch.uint8), LEVELS[require_weight_bits()]
    packed = pack_int8(torch.randint(-largest, largest + 1, (outer, inner)))
    scale, zero = torch.ones(outer), torch.zeros(outer, dtype=torch.int32)
    products: dict[str, Callable[[], torch.Tensor]] = {
        "float32": lambda: torch.nn.functional.linear(left, right),
        "bfloat16": lambda: torch.nn.functional.linear(*halves),
        "int8": lambda: multiply_int8(whole, packed, scale, zero),
    }
    return {name: 2 * rows * inner * outer / _fastest(product) / 1e9 for name, product in products.items()}


def _fastest(product: Callable[[], torch.Tensor]) -> float:
    product()
    taken = []
    for _ in range(BURSTS):
        start = time.process_time()
        product()
        product()
        taken.append((time.process_time() - start) / 2)
    return min(taken)


def gflop(config: BertConfig, tokens: NDArray[np.int64], last_for_first: bool) -> float:
    """Count the work of pairs: matrix products and attention; embeddings, norms and activations are left out.

    Args:
        config: shape of the network.
        tokens: real tokens of each pair, (N,).
        last_for_first: of the last layer, only what [CLS] needs is counted.
    """
    wide, inner, layers, length = config.hidden_size, config.intermediate_size, config.num_hidden_layers, tokens.astype(float)
    whole = length * 2 * (4 * wide**2 + 2 * wide * inner) + 4 * length**2 * wide
    first = length * 4 * wide**2 + 2 * (2 * wide**2 + 2 * wide * inner) + 4 * length * wide
    per_pair = layers * whole if not last_for_first else (layers - 1) * whole + first
    return float((per_pair + 2 * wide**2).sum()) / 1e9


def gpu_limits(precisions: Sequence[str]) -> dict[str, float]:
    """Measure the GFLOP/s of large matrix products on the GPU: the best of some bursts; float32 without TF32."""
    found, size = {}, 8192
    for name in precisions:
        left, right = (torch.randn(size, size, device="cuda", dtype=getattr(torch, name)) for _ in range(2))
        taken = []
        for _ in range(20):
            torch.cuda.synchronize()
            start = time.perf_counter()
            left @ right
            torch.cuda.synchronize()
            taken.append(time.perf_counter() - start)
        found[name] = 2 * size**3 / min(taken) / 1e9
    return found
