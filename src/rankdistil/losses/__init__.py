"""What a student minimises. Losses know tensors, traces and batches only."""

from rankdistil.losses.attention import AttentionLoss
from rankdistil.losses.embedding import EmbeddingLoss
from rankdistil.losses.hidden import HiddenLoss
from rankdistil.losses.labels import LabelLoss
from rankdistil.losses.logits import LogitLoss
from rankdistil.losses.projection import Projection
from rankdistil.losses.shares import gradient_shares
from rankdistil.losses.weighted import LossValue, WeightedSum

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
