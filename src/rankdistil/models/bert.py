"""Forward pass of an encoder, and the cross-encoder on top of it, which learns, or teaches and is frozen.

Training, packed inference, exported graphs and the cut of a student run the same layers, on the weights of transformers'
classes for sequence classification, and compute what these compute. They differ in the layout of the rows (``models.layout``),
in what is recorded, and in their linear layers. Where a family of encoders keeps its parts, and in what it differs from others,
stands in one table (``models.families``).

Distillation compares Q·Kᵀ/√d; the library's own outputs hold probabilities after softmax, and under SDPA an empty tuple. Only
the layers that a loss needs are recorded: keeping every layer of a 12-layer teacher costs more memory than the student itself.
Of a last layer that nobody compares only what [CLS] needs is computed: it is all that the head reads.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn

from rankdistil.models.cpu_layers import prepack, use_dropout
from rankdistil.models.families import Encoder, Layer, add_dropouts, parts_of
from rankdistil.models.layout import NOWHERE, Padded, Places, lay_out, places

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel


def sum_embeddings(encoder: Encoder, input_ids: Tensor, token_type_ids: Tensor, positions: Tensor) -> Tensor:
    """Add up the embeddings of tokens; shapes that broadcast, returns (..., D)."""
    rows = encoder.words(input_ids)
    if encoder.types is not None:
        rows = rows + encoder.types(token_type_ids)
    if encoder.positions is not None:
        rows = rows + encoder.positions(positions + encoder.first if encoder.first else positions)
    return rows


def embed(encoder: Encoder, *tokens: Tensor) -> Tensor:
    """Return the embedding output of tokens, (..., D); see ``sum_embeddings``."""
    return encoder.projection(encoder.dropout(encoder.norm(sum_embeddings(encoder, *tokens))))


def project(layer: Layer, asking: Tensor, rows: Tensor, layout: Padded) -> tuple[Tensor, Tensor, Tensor]:
    """Compute queries of the rows that ask, all or first tokens, keys and values of all rows."""
    if layer.key is None:  # fused: ``query`` gives all three
        query, key, value = layer.query(rows).chunk(3, 1)
        return query if asking is rows else layout.first(query), key, value
    if layer.value is None:  # ``key`` gives both
        return layer.query(asking), *layer.key(rows).chunk(2, 1)
    return layer.query(asking), layer.key(rows), layer.value(rows)


def finish(layer: Layer, attended: Tensor, residual: Tensor) -> Tensor:
    """Run what follows a layer's attention, row by row, (N, D)."""
    rows = layer.out_norm(layer.out_dropout(layer.out(attended)) + residual)
    inner = layer.up(layer.up_norm(rows))
    if layer.gated:
        inner, gate = inner.chunk(2, -1)
        inner = layer.activation(inner) * gate
    else:
        inner = layer.activation(inner)
    return layer.down_norm(layer.down_dropout(layer.down(layer.inner_dropout(inner))) + rows)


Finish = Callable[[Layer, Tensor, Tensor], Tensor]  # ``finish``, compiled or not
Vectors = tuple[Tensor, Tensor, Tensor]  # queries, keys and values


def run_layer(
    layer: Layer, rows: Tensor, layout: Padded, alone: bool = False, record: bool = False, finish: Finish = finish,
    keep: bool = False, where: Places = NOWHERE,
) -> tuple[Tensor, Tensor | None, Vectors | None]:  # fmt: skip
    """Run one layer on rows, (N, D).

    Returns:
        The next rows, of first tokens ``alone`` (B, D); the attention scores, (B, H, T, T), where they are to be recorded; the
        queries, keys and values, (B, T, D) each, where they are to be kept; else None.
    """
    residual = layout.first(rows) if alone else rows
    asking = layer.in_norm(residual)
    rows = layer.in_norm(rows) if alone else asking
    p = layer.attention_dropout.p if layer.attention_dropout.training else 0.0
    vectors = project(layer, asking, rows, layout)
    attended, scores = layout.attend(*vectors, layer.heads, alone, p, record, where)
    kept = tuple(map(layout.pad, vectors)) if keep else None
    del vectors  # else they would lie beside what comes next
    return finish(layer, attended, residual), scores, kept


class Layers(NamedTuple):
    """Which layers of one network a trace holds.

    Attributes:
        hidden: indices of hidden states, ascending; 0 is the embedding output, m the output of layer m (1-based).
        attention: indices of attention layers, ascending, 0-based.
        vectors: indices of attention layers whose queries, keys and values are held, ascending, 0-based.
    """

    hidden: tuple[int, ...] = ()
    attention: tuple[int, ...] = ()
    vectors: tuple[int, ...] = ()


NOTHING = Layers()


def encode(
    encoder: Encoder, rows: Tensor, layout: Padded, layers: Layers = NOTHING, finish: Finish = finish
) -> tuple[Tensor, tuple[Tensor, ...], tuple[Tensor, ...], tuple[Vectors, ...]]:
    """Run all layers on the embedding output, (N, D).

    Returns:
        What the head reads of each text, (B, D): its first token's state behind the last layer, or the mean of its tokens'; of
        the ``layers`` asked for the hidden states, (N, D) each, the attention scores, (B, H, T, T) each, and the queries, keys
        and values, (B, T, D) each.

    Raises:
        IndexError: for a layer that the network doesn't have.
    """
    last = len(encoder.layers) - 1
    if max((*layers.hidden, *(index + 1 for index in (*layers.attention, *layers.vectors))), default=0) > last + 1:
        raise IndexError(f"{layers} asks for more than the network's {last + 1} layers")
    alone, states, scores, vectors, where = False, {0: rows}, [], [], places(encoder, layout.length, rows.device)
    for index, layer in enumerate(encoder.layers):
        record, keep = index in layers.attention, index in layers.vectors
        alone = index == last and not (record or keep or encoder.mean) and index + 1 not in layers.hidden
        rows, seen, kept = run_layer(layer, rows, layout, alone, record, finish, keep, where.get(layer.kind, NOWHERE))
        if index == last:
            rows = encoder.last_norm(rows)
        if index + 1 in layers.hidden:
            states[index + 1] = rows
        if record:
            scores.append(seen)
        if keep:
            vectors.append(kept)
    read = rows if alone else layout.mean(rows) if encoder.mean else layout.first(rows)
    return read, tuple(states[index] for index in layers.hidden), tuple(scores), tuple(vectors)


def score(encoder: Encoder, first: Tensor) -> Tensor:
    """Run the head on states of texts, (B, D), in its own precision, for scores in bfloat16 would be equal; (B, C)."""
    pooled = encoder.pool_activation(encoder.pooler(encoder.pool_dropout(first.to(encoder.head.weight.dtype))))
    return encoder.head(encoder.head_dropout(encoder.pool_norm(pooled)))


class Trace(NamedTuple):
    """What one network shows for one batch.

    Attributes:
        logits: relevance scores before any activation, (B,); (B, C) for a head with C classes.
        hidden_states: one (B, T, D) tensor for each of ``Layers.hidden``, in that order; without padding one (N, D) tensor, of
            the real tokens one after the other.
        attention_scores: one (B, H, T, T) tensor for each of ``Layers.attention``: Q·Kᵀ/√d, and a learnt bias where there is
            one, before mask and softmax.
        vectors: queries, keys and values, three (B, T, D) tensors, for each of ``Layers.vectors``: heads side by side, as the
            linear layers give them. Padding holds anything finite.
    """

    logits: Tensor
    hidden_states: tuple[Tensor, ...] = ()
    attention_scores: tuple[Tensor, ...] = ()
    vectors: tuple[Vectors, ...] = ()


class CrossEncoder(nn.Module):
    """A ranker that reads query and passage together, and shows a ``Trace``.

    It is exactly the library's class with one label and a trace, so an export loads in every tool that reads that class.

    Args:
        bert: of one of the ``FAMILIES``.
    """

    def __init__(self, bert: "PreTrainedModel") -> None:
        super().__init__()
        self.bert = bert
        self.finish = finish
        add_dropouts(bert)
        use_dropout(bert)

    @property
    def config(self) -> "PretrainedConfig":
        """The shape of the network."""
        return self.bert.config

    @property
    def encoder(self) -> Encoder:
        """The parts of the network."""
        return parts_of(self.bert)

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        token_type_ids: Tensor,
        layers: Layers = NOTHING,
        padding: bool = True,
        tokens: int | None = None,
    ) -> Trace:
        """Score a batch of pairs.

        Args:
            input_ids: token ids, (B, T).
            attention_mask: 1 for a real token, 0 for padding, (B, T).
            token_type_ids: 0 for query tokens, 1 for passage tokens, (B, T).
            layers: what to record beside the logits; nothing by default.
            padding: whether what is recorded holds padding, too; see ``Trace``. Without it, padding costs nothing.
            tokens: how many are real; None asks the device, see ``lay_out``.

        Returns:
            The trace, with exactly the layers asked for.
        """
        encoder, layout = self.encoder, lay_out(attention_mask, padding and layers != NOTHING, tokens)
        positions = torch.arange(layout.length, device=input_ids.device).expand(layout.texts, -1)
        rows = embed(encoder, *(layout.take(part) for part in (input_ids, token_type_ids, positions)))
        first, states, scores, vectors = encode(encoder, rows, layout, layers, self.finish)
        if padding:
            states = tuple(state.view(layout.texts, layout.length, -1) for state in states)
        with torch.autocast(first.device.type, enabled=False):
            logits = score(encoder, first)
        return Trace(logits.squeeze(-1) if logits.size(-1) == 1 else logits, states, scores, vectors)


def parameter_count(ranker: nn.Module) -> int:
    """Number of weights, embeddings and head included."""
    return sum(parameter.numel() for parameter in ranker.parameters())


def compile_layers(ranker: CrossEncoder) -> None:
    """Compile bias, GELU, dropout, residual and LayerNorm of every layer; weights and their names stay.

    Attention and the layout stay as they are: shapes change there from batch to batch, and SDPA is fused already. The first
    steps take minutes: it is compiled for training and for evaluation, once for all layers of one shape.

    Args:
        ranker: a student, or a frozen teacher.
    """
    ranker.finish = torch.compile(finish, dynamic=True)


class FrozenTeacher(CrossEncoder):
    """A ranker that can't be trained: ``train()`` leaves it in evaluation mode, so its dropout stays off.

    The first pass under autocast converts its weights, its head aside, to autocast's type for good: nothing updates them, so
    they need neither a float32 copy nor to be cast again at every step.
    """

    def __init__(self, ranker: CrossEncoder) -> None:
        super().__init__(ranker.bert)
        self.requires_grad_(False)
        self.eval()
        self._converted = False

    def _convert(self, dtype: torch.dtype) -> None:
        """Convert all weights but the head's; buffers keep their precision: angles of positions need it."""
        head = {part for each in (self.encoder.pooler, self.encoder.pool_norm, self.encoder.head) for part in each.modules()}
        for part in self.bert.modules():
            for parameter in () if part in head else part.parameters(recurse=False):
                parameter.data = parameter.data.to(dtype)

    def train(self, mode: bool = True) -> "FrozenTeacher":
        """Stay in evaluation mode: a teacher with dropout gives other answers at every step."""
        return super().train(False)

    @torch.no_grad()
    def forward(self, input_ids: Tensor, *inputs: object, **settings: object) -> Trace:
        """Score a batch of pairs; see ``CrossEncoder``."""
        device = input_ids.device.type
        if not torch.is_autocast_enabled(device):
            return super().forward(input_ids, *inputs, **settings)
        if not self._converted:
            self._converted = True
            self._convert(torch.get_autocast_dtype(device))
            prepack(self.bert)
        with torch.autocast(device, enabled=False):
            return super().forward(input_ids, *inputs, **settings)
