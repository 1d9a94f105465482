"""What a student minimises. Losses know tensors, traces and batches only."""

from rankdistil.losses.attention import AttentionLoss
from rankdistil.losses.hidden import EmbeddingLoss, HiddenLoss
from rankdistil.losses.labels import LabelLoss
from rankdistil.losses.logits import LogitLoss
from rankdistil.losses.weighted import LossValue, Projection, WeightedSum, gradient_shares

__all__ = [
    "AttentionLoss",
    "EmbeddingLoss",
    "HiddenLoss",
    "LabelLoss",
    "LogitLoss",
    "LossValue",
    "Projection",
    "WeightedSum",
    "gradient_shares",
]
