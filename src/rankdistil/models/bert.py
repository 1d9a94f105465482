"""BERT cross-encoder: query and passage read together, a one-logit head on the pooled [CLS] gives the score.

Losses compare two traces and know nothing of the networks behind them. Only the layers that a loss needs are recorded, so a
trace stays small; keeping every layer of a 12-layer teacher costs more memory than the student itself.

The passages of a triple differ in length, so even in batches of similar length a sixth of all tokens is padding.

Distillation compares Q·Kᵀ/√d. The library's own outputs hold probabilities after softmax, and under SDPA an empty tuple.

The same function as transformers' ``BertModel``, on its weights. Padding is left out of all but attention, and of a last layer
that nobody compares only what [CLS] needs is computed: it is all that the head reads.

The network is exactly transformers' ``BertForSequenceClassification`` with one label, so an export loads in every tool that
reads that class; this wrapper only adds the trace.

Attention, and the laying out of tokens, stay as they are: their shapes change from batch to batch, and SDPA is fused already.
"""

from typing import TYPE_CHECKING, Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rankdistil.models.dropout import drop, use_dropout

if TYPE_CHECKING:
    from transformers import BertConfig, BertForSequenceClassification, BertModel


class Layers(NamedTuple):
    """Which layers of one network a trace holds.

    Attributes:
        hidden: indices of hidden states, ascending; 0 is the embedding output, m the output of layer m (1-based).
        attention: indices of attention layers, ascending, 0-based.
    """

    hidden: tuple[int, ...] = ()
    attention: tuple[int, ...] = ()


class Trace(NamedTuple):
    """What one network shows for one batch.

    Attributes:
        logits: relevance scores before any activation, (B,); (B, C) for a head with C classes.
        hidden_states: one (B, T, D) tensor for each of ``Layers.hidden``, in that order; without padding one (N, D) tensor, of
            the real tokens one after the other.
        attention_scores: one (B, H, T, T) tensor for each of ``Layers.attention``: Q·Kᵀ/√d before mask and softmax.
    """

    logits: Tensor
    hidden_states: tuple[Tensor, ...] = ()
    attention_scores: tuple[Tensor, ...] = ()


class Layout(NamedTuple):
    """How rows, one per token, and a batch of texts belong together.

    Attributes:
        texts: B.
        length: T.
        hidden: True where nothing may be looked at, (B, T); None where nothing is padding.
        kept: place of each row in the batch, 0..B·T-1, ascending, (N,); None where every place has a row.
        rows: row of each place, any for padding, (B·T,); None as well.
    """

    texts: int
    length: int
    hidden: Tensor | None
    kept: Tensor | None = None
    rows: Tensor | None = None

    @property
    def firsts(self) -> Tensor | slice:
        """Row of each text's first token, (B,)."""
        every = slice(None, None, self.length)
        return every if self.rows is None else self.rows[every]

    def take(self, batch: Tensor) -> Tensor:
        """Give each row its value in a batch, (B, T); returns (N,)."""
        flat = batch.reshape(-1)
        return flat if self.kept is None else flat[self.kept]

    def pad(self, rows: Tensor) -> Tensor:
        """Lay rows, (N, D), out as a batch, (B, T, D). Padding holds anything finite, and gives no gradient."""
        if self.kept is not None:
            rows = _Pad.apply(rows, self.kept, self.rows)
        return rows.view(self.texts, self.length, -1)

    def unpad(self, batch: Tensor) -> Tensor:
        """Give each row its part of a batch, (B, T, ...); returns (N, D)."""
        rows = batch.reshape(self.texts * self.length, -1)
        return rows if self.kept is None else _Unpad.apply(rows, self.kept)


def lay_out(attention_mask: Tensor, padding: bool) -> Layout:
    """Find out where the real tokens are.

    Args:
        attention_mask: 1 for a real token, 0 for the padding behind them, (B, T).
        padding: padding gets rows, too.
    """
    real = attention_mask.bool()
    kept = real.flatten().nonzero().squeeze(1)
    if len(kept) == real.numel():
        return Layout(*real.shape, None)
    if padding:
        return Layout(*real.shape, ~real)
    return Layout(*real.shape, ~real, kept, (real.flatten().cumsum(0) - 1).clamp(min=0))


class _Pad(torch.autograd.Function):
    """Copies both ways, where torch's own gradient adds row by row."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, kept: Tensor, inverse: Tensor) -> Tensor:
        ctx.save_for_backward(kept)
        return rows.index_select(0, inverse)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        return gradient.index_select(0, *ctx.saved_tensors), None, None


class _Unpad(torch.autograd.Function):
    """The other way; padding gets a gradient of 0."""

    @staticmethod
    def forward(ctx: Any, batch: Tensor, kept: Tensor) -> Tensor:
        ctx.save_for_backward(kept)
        ctx.places = len(batch)
        return batch.index_select(0, kept)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        whole = gradient.new_zeros(ctx.places, gradient.size(1))
        return whole.index_copy_(0, *ctx.saved_tensors, gradient), None


def attend(
    query: Tensor, key: Tensor, value: Tensor, hidden: Tensor | None, p: float, record: bool
) -> tuple[Tensor, Tensor | None]:
    """Dropout(softmax(QKᵀ/√d))V.

    On a CPU, SDPA with dropout takes four times as long as the products written out, and in bfloat16 it is slower without
    dropout, too; where scores are recorded it would compute them twice.

    Args:
        query: (B, H, Q, d).
        key: (B, H, T, d).
        value: (B, H, T, d).
        hidden: True where nothing may be looked at, (B, T); None where nothing is hidden.
        p: dropout of the attention.
        record: whether to return the scores.

    Returns:
        (B, H, Q, d), and the scores before mask and softmax, (B, H, Q, T), or None.
    """
    on_cpu = query.device.type == "cpu"
    scores = query @ key.transpose(2, 3) * query.size(-1) ** -0.5 if record else None
    if not on_cpu or not (record or p or query.dtype == torch.bfloat16):
        mask = None if hidden is None else ~hidden[:, None, None]
        return F.scaled_dot_product_attention(query, key, value, attn_mask=mask, dropout_p=p), scores
    seen = query @ key.transpose(2, 3) * query.size(-1) ** -0.5 if scores is None else scores
    if hidden is not None:
        seen = seen + torch.zeros(hidden.shape).masked_fill(hidden, -torch.inf)[:, None, None]  # float32 from here
    shares = seen.softmax(-1, dtype=torch.float32).to(value.dtype)
    return (drop(shares, p) if p else shares) @ value, scores


class Encoded(NamedTuple):
    """What an encoder shows.

    Attributes:
        first: state of each text's first token behind the last layer, (B, D).
        hidden_states: those asked for, one row per row of the layout, (N, D).
        attention_scores: those asked for, (B, H, T, T).
    """

    first: Tensor
    hidden_states: tuple[Tensor, ...]
    attention_scores: tuple[Tensor, ...]


def encode(body: "BertModel", rows: Tensor, layout: Layout, layers: Layers) -> Encoded:
    """Run the layers.

    Args:
        body: the network.
        rows: embedding output of each row, (N, D).
        layout: of the rows.
        layers: what is recorded.

    Raises:
        IndexError: for a layer that the network doesn't have.
    """
    count = len(body.encoder.layer)
    if max((*layers.hidden, *(index + 1 for index in layers.attention)), default=0) > count:
        raise IndexError(f"{layers} asks for more than the network's {count} layers")
    states, scores, last = {0: rows}, [], count - 1
    for index, layer in enumerate(body.encoder.layer):
        record = index in layers.attention
        alone = index == last and not record and index + 1 not in layers.hidden
        rows, seen = run_layer(layer, rows, layout, record, alone)
        if index + 1 in layers.hidden:
            states[index + 1] = rows
        if record:
            scores.append(seen)
    first = rows if alone else rows[layout.firsts]
    return Encoded(first, tuple(states[index] for index in layers.hidden), tuple(scores))


def embed(body: "BertModel", input_ids: Tensor, token_type_ids: Tensor, positions: Tensor) -> Tensor:
    """Return the embedding output of rows, (N,) each; (N, D)."""
    rows = body.embeddings(input_ids[None], token_type_ids=token_type_ids[None], position_ids=positions[None])
    return rows.squeeze(0)


def run_layer(layer: nn.Module, rows: Tensor, layout: Layout, record: bool, alone: bool) -> tuple[Tensor, Tensor | None]:
    """Run one layer.

    Args:
        layer: of transformers.
        rows: (N, D).
        layout: of the rows.
        record: whether to return the attention scores.
        alone: for first tokens only.

    Returns:
        The next rows, (N, D) or (B, D); the scores, (B, H, T, T), or None.
    """
    own = layer.attention.self
    asking = rows[layout.firsts] if alone else rows
    query, key, value = own.query(asking), layout.pad(own.key(rows)), layout.pad(own.value(rows))
    query = query[:, None] if alone else layout.pad(query)
    heads = (part.unflatten(2, (own.num_attention_heads, -1)).transpose(1, 2) for part in (query, key, value))
    attended, scores = attend(*heads, layout.hidden, own.dropout.p if own.training else 0.0, record)
    attended = attended.transpose(1, 2)
    attended = attended.flatten(1) if alone else layout.unpad(attended)
    return layer.feed_forward_chunk(layer.attention.output(attended, asking)), scores


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


def compile_layers(ranker: CrossEncoder) -> None:
    """Compile bias, GELU, dropout, residual and LayerNorm of every layer, in place; weights and their names stay.

    The first steps take minutes: each part is compiled for training and for evaluation, once for all layers of one shape.

    Args:
        ranker: a student, or a frozen teacher.
    """
    for layer in ranker.bert.bert.encoder.layer:
        for part in layer.attention.output, layer.intermediate, layer.output:
            part.compile(dynamic=True)
