"""Writing a ranker as a Hugging Face folder that transformers and sentence-transformers load as it is."""

import json
import os
import shutil
from pathlib import Path

from transformers import PreTrainedTokenizerFast

from rankdistil.files import share, write_json
from rankdistil.models.bert import CrossEncoder

IDENTITY = "torch.nn.modules.linear.Identity"


def write_export(
    folder: Path, ranker: CrossEncoder, tokenizer: PreTrainedTokenizerFast, max_tokens: int, with_head: bool = True,
    query_tokens: int | None = None,
) -> None:  # fmt: skip
    """Write config, safetensors and tokenizer; the folder appears in one step, an old one is replaced last.

    Args:
        folder: the export folder.
        ranker: a ranker with one logit.
        tokenizer: its tokenizer.
        with_head: False for a student whose head nothing has trained: it is written as the language model that it is.
        max_tokens: written as ``model_max_length``; other tools cut inputs there.
        query_tokens: that queries were cut to in training; ``Reranker`` cuts them there again.
    """
    temporary = folder.with_name(f".{folder.name}.tmp{os.getpid()}")
    temporary.mkdir(parents=True)
    try:
        (ranker.bert if with_head else ranker.bert.bert).save_pretrained(temporary)
        tokenizer.save_pretrained(temporary)
        _edit(temporary / "tokenizer_config.json", model_max_length=max_tokens)
        if with_head:  # one label without this entry would be scored through a sigmoid, which saturates on raw logits
            _edit(temporary / "config.json", sentence_transformers={"activation_fn": IDENTITY})
        if query_tokens is not None:
            _edit(temporary / "config.json", rankdistil={"query_tokens": query_tokens})
        special = {key: str(value) for key, value in tokenizer.special_tokens_map.items()}
        write_json(temporary / "special_tokens_map.json", special)
        share(temporary)
        if folder.exists():
            shutil.rmtree(folder)
        temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _edit(file: Path, **values: object) -> None:
    write_json(file, json.loads(file.read_text(encoding="utf-8")) | values)
