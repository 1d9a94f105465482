"""A ranker on torch: the default network of the engine, on CPUs and GPUs."""

import numpy as np
import torch
from numpy.typing import NDArray

from rankdistil.data.assemble import Segment
from rankdistil.data.encode import SPECIAL_TOKENS, PairEncoder
from rankdistil.inference.packed import PackedBatch, cut, pack
from rankdistil.inference.packed_ranker import PackedRanker
from rankdistil.inference.processor import require_bfloat16
from rankdistil.models.bert import CrossEncoder

BUDGET = {"cpu": 1024, "cuda": 32_768}  # tokens of a batch: what fits a CPU's cache, and what fills a GPU


class TorchNetwork:
    """Scores packed batches.

    Args:
        ranker: moved to the device.
        encoder: says which token stands for [CLS] and [SEP].
        device: where it runs.
        precision: see ``PackedRanker``.
        budget: tokens of a batch; by default what suits the device.
        weight_bits: of int8, see ``Int8Linear``.

    Raises:
        ValueError: for a precision that the device can't compute.
    """

    def __init__(
        self,
        ranker: CrossEncoder,
        encoder: PairEncoder,
        device: torch.device,
        precision: str = "float32",
        budget: int | None = None,
        weight_bits: int | None = None,
    ) -> None:
        if precision == "int8" and device.type != "cpu":
            raise ValueError(f"dtype=int8 runs on CPUs only, not on {device}. Use bfloat16 there.")
        if precision == "bfloat16" and device.type == "cpu":
            require_bfloat16("dtype=bfloat16", "dtype=float32 or int8")
        self.ranker = PackedRanker(ranker, precision, weight_bits).to(device)
        self.device, self.precision = device, precision
        self._special = encoder.tokenizer.cls_token_id, encoder.tokenizer.sep_token_id
        self.budget = budget or BUDGET.get(device.type, BUDGET["cpu"])

    @torch.inference_mode()
    def __call__(self, first: Segment, second: Segment) -> NDArray[np.float32]:
        """Score pairs in ascending order of length, (B,); the scores are fetched from the device once."""
        batches = list(cut(first.lengths + second.lengths + SPECIAL_TOKENS, self.budget))
        sizes = [batch.stop - batch.start for batch in batches]
        parts = zip(first.parts(sizes), second.parts(sizes), strict=True)
        found = [self.ranker(self._on_device(pack(*pair, *self._special))) for pair in parts]
        return torch.cat(found).cpu().numpy()

    def _on_device(self, batch: PackedBatch) -> PackedBatch:
        if self.device.type == "cpu":
            return batch
        tensors = (tensor.pin_memory().to(self.device, non_blocking=True) for tensor in batch[:4])
        return PackedBatch(*tensors, batch.runs)
