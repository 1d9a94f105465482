"""The cross-encoder: BERT reads query and passage together, a one-logit head on the pooled [CLS] gives the score.

The network is exactly transformers' ``BertForSequenceClassification`` with one label, so an export loads in every tool that
reads that class; this wrapper only adds the trace.
"""

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from rankdistil.models.dropout import use_dropout
from rankdistil.models.encoder import embed, encode
from rankdistil.models.layout import lay_out
from rankdistil.models.trace import Layers, Trace

if TYPE_CHECKING:
    from transformers import BertConfig, BertForSequenceClassification

NOTHING = Layers()


class CrossEncoder(nn.Module):
    """A BERT ranker that shows a ``Trace``."""

    def __init__(self, bert: "BertForSequenceClassification") -> None:
        super().__init__()
        self.bert = bert
        use_dropout(bert)

    @property
    def config(self) -> "BertConfig":
        """The shape of the network."""
        return self.bert.config

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        token_type_ids: Tensor,
        layers: Layers = NOTHING,
        padding: bool = True,
    ) -> Trace:
        """Score a batch of pairs.

        Args:
            input_ids: token ids, (B, T).
            attention_mask: 1 for a real token, 0 for padding, (B, T).
            token_type_ids: 0 for query tokens, 1 for passage tokens, (B, T).
            layers: what to record beside the logits; nothing by default.
            padding: whether what is recorded holds padding, too; see ``Trace``. Without it, padding costs nothing.

        Returns:
            The trace, with exactly the layers asked for.
        """
        layout = lay_out(attention_mask, padding and layers != NOTHING)
        positions = torch.arange(layout.length, device=input_ids.device).expand(layout.texts, -1)
        rows = embed(self.bert.bert, *(layout.take(part) for part in (input_ids, token_type_ids, positions)))
        first, states, scores = encode(self.bert.bert, rows, layout, layers)
        if padding:
            states = tuple(state.view(layout.texts, layout.length, -1) for state in states)
        logits = self._score(first)
        return Trace(logits.squeeze(-1) if logits.size(-1) == 1 else logits, states, scores)

    def _score(self, first: Tensor) -> Tensor:
        """Run the head on the states of [CLS], (B, D): in its own precision, for scores in bfloat16 would be equal."""
        head = self.bert.classifier
        with torch.autocast(first.device.type, enabled=False):
            return head(self.bert.dropout(self.bert.bert.pooler(first.to(head.weight.dtype)[:, None])))


def parameter_count(ranker: nn.Module) -> int:
    """Number of weights, embeddings and head included."""
    return sum(parameter.numel() for parameter in ranker.parameters())
