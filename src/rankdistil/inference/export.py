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
        max_length: tokens of a pair at most.
        with_head: False for a student whose head nothing has trained: it is written as the language model that it is.
    """
    with built(folder) as place:
        (ranker.bert if with_head else ranker.bert.bert).save_pretrained(place)
        _write_tokenizer(place, tokenizer, max_length)
        if with_head:  # one label without this entry would be scored through a sigmoid, which saturates on raw logits
            _edit(place / "config.json", sentence_transformers={"activation_fn": IDENTITY})
        share(place)


def _write_tokenizer(folder: Path, tokenizer: PreTrainedTokenizerFast, max_length: int) -> None:
    """Write a tokenizer that cuts pairs by the one rule wherever it is read, and takes ``[SEP]`` in a text for text.

    transformers and sentence-transformers hear ``model_max_length``, readers of ``tokenizer.json`` alone the truncation in it,
    Text Embeddings Inference and vLLM ``sentence_bert_config.json``.
    """
    own = tokenizer.backend_tokenizer
    own.no_padding()  # which its last caller may have left
    own.enable_truncation(max_length, strategy="longest_first", direction=tokenizer.truncation_side)
    tokenizer.save_pretrained(folder)
    _edit(folder / "tokenizer_config.json", model_max_length=max_length, split_special_tokens=True)
    write_json(folder / "sentence_bert_config.json", {"max_seq_length": max_length, "do_lower_case": False})
    special = {key: str(value) for key, value in tokenizer.special_tokens_map.items()}
    write_json(folder / "special_tokens_map.json", special)


def _edit(file: Path, **values: object) -> None:
    write_json(file, json.loads(file.read_text(encoding="utf-8")) | values)
