"""Loss functions: what a student minimises. They know tensors, traces and batches only."""

from rankdistil.losses.attention import AttentionLoss, RelationLoss
from rankdistil.losses.hidden import EmbeddingLoss, FirstTokenLoss, HiddenLoss
from rankdistil.losses.labels import GBCELoss, LabelLoss
from rankdistil.losses.lists import ADRMSELoss, ListMLELoss, ListNetLoss
from rankdistil.losses.logits import LogitLoss, LogitMSELoss
from rankdistil.losses.pairs import LambdaLoss, MarginMSELoss, RankNetLoss
from rankdistil.losses.weighted import LossValue, Projection, WeightedSum, gradient_shares

__all__ = [
    "ADRMSELoss",
    "AttentionLoss",
    "EmbeddingLoss",
    "FirstTokenLoss",
    "GBCELoss",
    "HiddenLoss",
    "LabelLoss",
    "LambdaLoss",
    "ListMLELoss",
    "ListNetLoss",
    "LogitLoss",
    "LogitMSELoss",
    "LossValue",
    "MarginMSELoss",
    "Projection",
    "RankNetLoss",
    "RelationLoss",
    "WeightedSum",
    "gradient_shares",
]
