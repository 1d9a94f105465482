"""Embeddings: the student's embedding output learns the teacher's."""

from torch import Tensor, nn

from rankdistil.data.batch import PairBatch
from rankdistil.losses.hidden import hidden_mse
from rankdistil.models.trace import Trace


class EmbeddingLoss(nn.Module):
    """``hidden_mse`` of the embedding outputs (hidden state 0).

    Args:
        count_padding: see ``hidden_mse``.
        relative: see ``hidden_mse``.

    Source: Jiao et al. 2020, arXiv:1909.10351 (embedding-layer distillation).
    """

    needs = frozenset({"embedding"})
    asks_teacher = True

    def __init__(self, count_padding: bool = False, relative: bool = False) -> None:
        super().__init__()
        self.count_padding, self.relative = count_padding, relative

    def forward(self, student: Trace, teacher: Trace, batch: PairBatch) -> Tensor:
        """Compute the loss of a batch.

        Raises:
            RuntimeError: if a trace holds no hidden state.
        """
        if not student.hidden_states or not teacher.hidden_states:
            raise RuntimeError("embedding loss over a trace without hidden states")
        states = student.hidden_states[0], teacher.hidden_states[0]
        return hidden_mse(*states, batch.attention_mask, self.count_padding, self.relative)
