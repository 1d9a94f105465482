"""The cross-encoder: BERT reads query and passage together, a one-logit head on the pooled [CLS] gives the score.

The network is exactly transformers' ``BertForSequenceClassification`` with one label, so an export loads in every tool that
reads that class; this wrapper only adds the trace.
"""

from torch import Tensor, nn
from transformers import BertConfig, BertForSequenceClassification

from rankdistil.models.attention import ATTENTION, recorded_scores
from rankdistil.models.trace import Layers, Trace


class CrossEncoder(nn.Module):
    """A BERT ranker that shows a ``Trace``."""

    def __init__(self, bert: BertForSequenceClassification) -> None:
        super().__init__()
        self.bert = bert
        self.bert.set_attn_implementation(ATTENTION)

    @property
    def config(self) -> BertConfig:
        """The shape of the network."""
        return self.bert.config

    def forward(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor, layers: Layers | None = None) -> Trace:
        """Score a batch of pairs.

        Args:
            input_ids: token ids, (B, T).
            attention_mask: 1 for a real token, 0 for padding, (B, T).
            token_type_ids: 0 for query tokens, 1 for passage tokens, (B, T).
            layers: what to record beside the logits; nothing by default.

        Returns:
            The trace, with exactly the layers asked for.

        Raises:
            RuntimeError: if the network recorded fewer layers than were asked for.
        """
        layers = layers or Layers()
        with recorded_scores(self.bert.bert.encoder.layer, layers.attention) as scores:
            output = self.bert.bert(
                input_ids,
                attention_mask=attention_mask,
                token_type_ids=token_type_ids,
                output_hidden_states=bool(layers.hidden),
            )
        if len(scores) != len(layers.attention):
            raise RuntimeError(f"attention scores of {len(layers.attention)} layers were asked for, {len(scores)} recorded")
        states = output.hidden_states or ()
        if layers.hidden and len(states) != self.config.num_hidden_layers + 1:
            raise RuntimeError(f"expected {self.config.num_hidden_layers + 1} hidden states, the network gave {len(states)}")
        logits = self.bert.classifier(self.bert.dropout(output.pooler_output))
        return Trace(
            logits=logits.squeeze(-1) if logits.size(-1) == 1 else logits,
            hidden_states=tuple(states[index] for index in layers.hidden),
            attention_scores=tuple(scores),
        )


def parameter_count(ranker: nn.Module) -> int:
    """Number of weights, embeddings and head included."""
    return sum(parameter.numel() for parameter in ranker.parameters())
