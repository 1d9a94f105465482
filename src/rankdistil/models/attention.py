"""Attention scores before softmax, recorded at chosen layers while SDPA computes the attention itself.

Distillation compares Q·Kᵀ/√d. The library's own outputs hold probabilities after softmax, and under SDPA an empty tuple.
Eager attention at all layers would give probabilities too and is slower. So an attention function is registered that calls
SDPA and, where a recorder is attached, also keeps the scores. The mask function must be registered under the same name,
otherwise padding is silently attended to.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import sdpa_mask

ATTENTION = "rankdistil_sdpa"


def _attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    **_: object,
) -> tuple[Tensor, None]:
    scaling = query.size(-1) ** -0.5 if scaling is None else scaling
    recorder = getattr(module, "score_recorder", None)
    if recorder is not None:
        recorder.append((query @ key.transpose(2, 3)) * scaling)
    attended = F.scaled_dot_product_attention(query, key, value, attn_mask=attention_mask, dropout_p=dropout, scale=scaling)
    return attended.transpose(1, 2).contiguous(), None


AttentionInterface.register(ATTENTION, _attend)
AttentionMaskInterface.register(ATTENTION, sdpa_mask)


@contextmanager
def recorded_scores(layers: nn.ModuleList, wanted: tuple[int, ...]) -> Iterator[list[Tensor]]:
    """Record the scores of the wanted layers during one forward pass.

    Args:
        layers: the encoder's layers, each with ``attention.self``.
        wanted: indices of the layers to record, ascending, 0-based.

    Yields:
        A list that holds one (B, H, T, T) tensor per wanted layer after the pass, in layer order.
    """
    scores: list[Tensor] = []
    modules = [layers[index].attention.self for index in wanted]
    try:
        for module in modules:
            module.score_recorder = scores
        yield scores
    finally:
        for module in modules:
            del module.score_recorder
