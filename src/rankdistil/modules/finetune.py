"""Learning from judgments: the teacher ranker, and students that have no teacher."""

from rankdistil.data.batch import PairBatch
from rankdistil.losses import LossValue
from rankdistil.modules.stage import StageModule


class FinetuneModule(StageModule):
    """Trains a ranker on labels alone."""

    def loss(self, batch: PairBatch) -> LossValue:
        """Compute the label losses."""
        trace = self.ranker(batch.input_ids, batch.attention_mask, batch.token_type_ids)
        return self.losses(trace, None, batch)
