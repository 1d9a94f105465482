"""The forward pass of a BERT encoder, as much of it as is asked for.

The same function as transformers' ``BertModel``, on its weights. Padding is left out of all but attention, and of a last layer
that nobody compares only what [CLS] needs is computed: it is all that the head reads.
"""

from typing import TYPE_CHECKING, NamedTuple

from torch import Tensor, nn

from rankdistil.models.attention import attend
from rankdistil.models.layout import Layout
from rankdistil.models.trace import Layers

if TYPE_CHECKING:
    from transformers import BertModel


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
