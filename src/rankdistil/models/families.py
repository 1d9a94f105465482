"""Encoder families: where transformers' networks keep their parts, and in what the families differ, by ``model_type``.

The forward pass (``models.bert``) is one, and reads the parts from here. A part that a family lacks is the identity where rows
pass through it, None where it is added to them. DeBERTa is none of the families: each of its scores is a sum of three products
of content and relative position, with weights of their own, which the forward pass doesn't compute.
"""

from collections.abc import Mapping
from operator import attrgetter
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import nn

from rankdistil.models.cpu_layers import Dropout

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

NONE = nn.Identity()


class Encoder(NamedTuple):
    """The parts of a network; in ``FAMILIES`` their names.

    Attributes:
        words, types, positions: embeddings, which are added up; None for those that a family lacks.
        first: the row of ``positions`` that stands for the first place of a text.
        norm, dropout, projection: what follows the sum, in this order.
        layers: see ``Layer``.
        relative: learnt biases of relative positions, of all layers; None if there are none.
        rotary: turns queries and keys by position, in the way of each layer's kind; None if nothing does.
        last_norm: of the last layer's output.
        mean: whether the head reads the mean of all tokens rather than the first.
        pool_dropout, pooler, pool_activation, pool_norm, head_dropout, head: the head, in this order.
    """

    words: Any
    layers: Any
    pooler: Any
    head: Any
    types: Any = None
    positions: Any = None
    first: int = 0
    norm: Any = NONE
    dropout: Any = NONE
    projection: Any = NONE
    relative: Any = None
    rotary: Any = None
    last_norm: Any = NONE
    mean: Any = False
    pool_dropout: Any = NONE
    pool_activation: Any = torch.tanh
    pool_norm: Any = NONE
    head_dropout: Any = NONE


class Layer(NamedTuple):
    """The parts of a layer; in ``FAMILIES`` their names.

    Attributes:
        kind: what a network calls the layer's attention, where its layers differ.
        in_norm, up_norm: of what attention and feed-forward read.
        query, key, value: ``query`` gives all three where the others are None, ``key`` two where ``value`` is.
        attention_dropout, out, out_dropout: the rest of the attention.
        up, gated, activation, inner_dropout, down, down_dropout: the feed-forward layers; where ``gated``, the activation is of
            the first half of ``up``'s output, and is multiplied by the second.
        out_norm, down_norm: of what a residual connection adds up.
        heads: H.
    """

    query: Any
    attention_dropout: Any
    out: Any
    up: Any
    activation: Any
    down: Any
    key: Any = None
    value: Any = None
    kind: Any = None
    in_norm: Any = NONE
    out_dropout: Any = NONE
    out_norm: Any = NONE
    up_norm: Any = NONE
    gated: Any = False
    inner_dropout: Any = NONE
    down_dropout: Any = NONE
    down_norm: Any = NONE
    heads: int = 0


class Maybe(str):
    """The name of a part that some networks of a family lack."""

    __slots__ = ()


class Shape(NamedTuple):
    """Size of a network: layers, width D, heads H, width of the feed-forward layers. In ``FAMILIES`` the config's keys."""

    layers: Any = "num_hidden_layers"
    hidden_size: Any = "hidden_size"
    heads: Any = "num_attention_heads"
    intermediate_size: Any = "intermediate_size"


class Family(NamedTuple):
    """What is known of a family.

    Attributes:
        name: as people call it.
        ranker: transformers' class for sequence classification.
        encoder, layer: the names of the parts; whatever else stands there is meant as it is.
        shape: the config's keys of the size.
        each: config keys of lists with an entry for each layer.
        padding: row of the positions that stands for padding, or the config's key that names it: a text's first place is the
            next row. None where positions are counted from 0.
        left_behind: how names of weights begin that pretraining needed and rankers don't.
        numbers: dropouts of a layer that the library keeps as a number, ``attention_dropout`` of the config.
        uncut: starts of students that can't be cut out of such a network, and why.
    """

    name: str
    ranker: str
    encoder: Encoder
    layer: Layer
    shape: Shape = Shape()
    each: tuple[str, ...] = ()
    padding: int | str | None = None
    left_behind: tuple[str, ...] = ()
    numbers: tuple[str, ...] = ()
    uncut: Mapping[str, str] = MappingProxyType({})


_POST_NORM = Layer(
    query="attention.self.query", key="attention.self.key", value="attention.self.value",
    attention_dropout="attention.self.dropout", out="attention.output.dense", out_dropout="attention.output.dropout",
    out_norm="attention.output.LayerNorm", up="intermediate.dense", activation="intermediate.intermediate_act_fn",
    down="output.dense", down_dropout="output.dropout", down_norm="output.LayerNorm",
)  # fmt: skip


def _embedded(base: str) -> dict[str, str]:
    return {
        "words": f"{base}.embeddings.word_embeddings",
        "types": f"{base}.embeddings.token_type_embeddings",
        "positions": f"{base}.embeddings.position_embeddings",
        "norm": f"{base}.embeddings.LayerNorm",
        "dropout": f"{base}.embeddings.dropout",
        "layers": f"{base}.encoder.layer",
    }


_DENSE_HEAD = {
    "pool_dropout": "classifier.dropout", "pooler": "classifier.dense", "head_dropout": "classifier.dropout",
    "head": "classifier.out_proj",
}  # fmt: skip

FAMILIES = {
    "bert": Family(
        "BERT", "BertForSequenceClassification",
        Encoder(
            **_embedded("bert"), pooler="bert.pooler.dense", pool_activation="bert.pooler.activation", head_dropout="dropout",
            head="classifier",
        ),
        _POST_NORM, left_behind=("cls.",),
    ),
    "electra": Family(
        "ELECTRA", "ElectraForSequenceClassification",
        Encoder(
            **_embedded("electra"), projection=Maybe("electra.embeddings_project"), **_DENSE_HEAD,
            pool_activation="classifier.activation",
        ),
        _POST_NORM, left_behind=("discriminator_predictions.", "generator_predictions.", "generator_lm_head."),
    ),
    "roberta": Family(
        "RoBERTa", "RobertaForSequenceClassification",
        Encoder(**_embedded("roberta"), **_DENSE_HEAD),
        _POST_NORM, padding="pad_token_id", left_behind=("lm_head.", "pooler.", "roberta.pooler."),
    ),
    "xlm-roberta": Family(
        "XLM-RoBERTa", "XLMRobertaForSequenceClassification",
        Encoder(**_embedded("roberta"), **_DENSE_HEAD),
        _POST_NORM, padding="pad_token_id", left_behind=("lm_head.", "pooler.", "roberta.pooler."),
    ),
    "distilbert": Family(
        "DistilBERT", "DistilBertForSequenceClassification",
        Encoder(
            **_embedded("distilbert") | {"types": None, "layers": "distilbert.transformer.layer"}, pooler="pre_classifier",
            pool_activation=torch.relu, head_dropout="dropout", head="classifier",
        ),
        Layer(
            query="attention.q_lin", key="attention.k_lin", value="attention.v_lin", attention_dropout="attention.dropout",
            out="attention.out_lin", out_norm="sa_layer_norm", up="ffn.lin1", activation="ffn.activation", down="ffn.lin2",
            down_dropout="ffn.dropout", down_norm="output_layer_norm",
        ),
        shape=Shape("n_layers", "dim", "n_heads", "hidden_dim"), left_behind=("vocab_",),
    ),
    "mpnet": Family(
        "MPNet", "MPNetForSequenceClassification",
        Encoder(**_embedded("mpnet") | {"types": None}, relative="mpnet.encoder.relative_attention_bias", **_DENSE_HEAD),
        _POST_NORM._replace(
            query="attention.attn.q", key="attention.attn.k", value="attention.attn.v",
            attention_dropout="attention.attn.dropout", out="attention.attn.o", out_dropout="attention.dropout",
            out_norm="attention.LayerNorm",
        ),
        padding=1, left_behind=("lm_head.", "pooler.", "mpnet.pooler."),
        uncut={"subclone": "its heads have biases by position, which all layers share"},
    ),
    "modernbert": Family(
        "ModernBERT", "ModernBertForSequenceClassification",
        Encoder(
            words="model.embeddings.tok_embeddings", norm="model.embeddings.norm", dropout="model.embeddings.drop",
            layers="model.layers", rotary="model.rotary_emb", last_norm="model.final_norm",
            pooler="head.dense", pool_activation="head.act", pool_norm="head.norm", head_dropout="drop", head="classifier",
        ),
        Layer(
            kind="attention_type", in_norm="attn_norm", query="attn.Wqkv", attention_dropout="attn.scores_drop", out="attn.Wo",
            out_dropout="attn.out_drop", up_norm="mlp_norm", up="mlp.Wi", gated=True, activation="mlp.act",
            inner_dropout="mlp.drop", down="mlp.Wo",
        ),
        each=("layer_types",), numbers=("attn.scores_drop", "attn.out_drop"), left_behind=("decoder.",),
        uncut=dict.fromkeys(
            ("subclone", "teacher_layers"), "its first layer has no norm, and some layers see but a window, by their place"
        ),
    ),
}  # fmt: skip


def family_of(config: "PretrainedConfig") -> Family:
    """Return the family of a config that ``checkpoints.read_config`` has let pass."""
    return FAMILIES[config.model_type]


def parts_of(network: "PreTrainedModel") -> Encoder:
    """Find the parts of a network of one of the ``FAMILIES``."""
    config, family = network.config, family_of(network.config)
    encoder = Encoder(*(_found(network, part) for part in family.encoder))
    layers = (Layer(*(_found(layer, part) for part in family.layer)) for layer in encoder.layers)
    own = tuple(layer._replace(heads=config.num_attention_heads) for layer in layers)
    mean = getattr(config, "classifier_pooling", None) == "mean"
    return encoder._replace(layers=own, first=first_position(config), mean=mean)


def _found(network: nn.Module, part: Any) -> Any:
    if isinstance(part, Maybe):
        place, _, name = part.rpartition(".")
        return getattr(attrgetter(place)(network), name, NONE)
    return attrgetter(part)(network) if isinstance(part, str) else part


def first_position(config: "PretrainedConfig") -> int:
    """Return which row of the position embeddings stands for the first place of a text."""
    padding = family_of(config).padding
    if padding is None:
        return 0
    return (getattr(config, padding) if isinstance(padding, str) else padding) + 1


def max_positions(config: "PretrainedConfig") -> int:
    """Return how many tokens a network can place."""
    return config.max_position_embeddings - first_position(config)


def shape_of(config: "PretrainedConfig") -> Shape:
    """Return the size of a network."""
    return Shape(*(getattr(config, key) for key in family_of(config).shape))


def resized(config: "PretrainedConfig", shape: Shape) -> "PretrainedConfig":
    """Return a config of another size, everything else as it is: vocabulary, positions, dropout, kinds of layers in turn."""
    family, values = family_of(config), config.to_dict()
    values |= zip(family.shape, shape, strict=True)
    for key in family.each:
        values[key] = [values[key][layer % len(values[key])] for layer in range(shape.layers)]
    return type(config).from_dict(values)


def add_dropouts(network: "PreTrainedModel") -> None:
    """Give layers the dropouts that the library keeps as a number, so that there is one way to set and to run them."""
    family = family_of(network.config)
    for layer in attrgetter(family.encoder.layers)(network) if family.numbers else ():
        for name in family.numbers:
            place, _, own = name.rpartition(".")
            setattr(attrgetter(place)(layer), own, Dropout(network.config.attention_dropout).train(layer.training))
