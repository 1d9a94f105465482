"""The Lightning module of tests and of teacher scoring: the packed network on as many processes as there are."""

import lightning as L
import torch

from rankdistil.data.batch import PairBatch, ScoredPairs
from rankdistil.inference.packed import pack_padded
from rankdistil.inference.packed_ranker import PackedRanker
from rankdistil.models.bert import CrossEncoder


class ScoringModule(L.LightningModule):
    """Scores the test's candidates with a finished ranker."""

    def __init__(self, ranker: CrossEncoder) -> None:
        super().__init__()
        self._packed = PackedRanker(ranker)

    def test_step(self, batch: PairBatch, batch_idx: int) -> ScoredPairs:
        """Score a batch of candidates, without their padding."""
        packed, order = pack_padded(batch.input_ids, batch.attention_mask, batch.token_type_ids)
        found = self._packed(packed)
        return batch.scored(torch.empty_like(found).index_copy_(0, order, found))
