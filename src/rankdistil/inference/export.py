"""Writing a ranker as a Hugging Face folder that transformers and sentence-transformers load as it is."""

import json
from pathlib import Path

from transformers import PreTrainedTokenizerFast

from rankdistil.files import built, share, write_json
from rankdistil.models.bert import CrossEncoder

IDENTITY = "torch.nn.modules.linear.Identity"


def write_export(
    folder: Path, ranker: CrossEncoder, tokenizer: PreTrainedTokenizerFast, max_length: int, with_head: bool = True
) -> None:
    """Write config, safetensors and tokenizer; the folder appears in one step, an old one is replaced last.

    Args:
        folder: the export folder.
        ranker: a ranker with one logit.
        tokenizer: its tokenizer.
        max_length: tokens of a pair at most: written as ``model_max_length``, where all tools cut pairs.
        with_head: False for a student whose head nothing has trained: it is written as the language model that it is.
    """
    with built(folder) as place:
        (ranker.bert if with_head else ranker.bert.bert).save_pretrained(place)
        tokenizer.save_pretrained(place)
        _edit(place / "tokenizer_config.json", model_max_length=max_length)
        if with_head:  # one label without this entry would be scored through a sigmoid, which saturates on raw logits
            _edit(place / "config.json", sentence_transformers={"activation_fn": IDENTITY})
        special = {key: str(value) for key, value in tokenizer.special_tokens_map.items()}
        write_json(place / "special_tokens_map.json", special)
        share(place)


def _edit(file: Path, **values: object) -> None:
    write_json(file, json.loads(file.read_text(encoding="utf-8")) | values)
