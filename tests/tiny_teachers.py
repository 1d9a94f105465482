"""Teachers of all kinds, with random weights, in folders as the libraries write them; their tokenizers know a few sentences."""

from collections.abc import Iterable
from pathlib import Path

import torch
import yaml
from support import CONF
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertModel,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen3Config,
    Qwen3ForCausalLM,
    XLMRobertaConfig,
    XLMRobertaForSequenceClassification,
)

from rankdistil.teachers.answers import QWEN3
from tests.data.conftest import FILES

TEXT = [*(line for file in ("corpus.tsv", "queries.tsv") for line in FILES[file].splitlines()), QWEN3, "yes no", "Größe über"]
INSTRUCTION = yaml.safe_load((CONF / "base/teacher.yaml").read_text())["instruction"]
TINY = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 3, "intermediate_size": 48}
SPECIALS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]


def causal_lm(folder: Path) -> Path:
    """Write a Qwen3-shaped language model with a byte-level tokenizer."""
    own = Tokenizer(models.BPE())
    own.pre_tokenizer, own.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    own.train_from_iterator(TEXT * 3, trainers.BpeTrainer(vocab_size=600, special_tokens=SPECIALS, initial_alphabet=alphabet))
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=own, eos_token="<|im_end|>", pad_token="<|endoftext|>", additional_special_tokens=SPECIALS[1:2],
        model_max_length=400,
    )  # fmt: skip
    config = Qwen3Config(
        vocab_size=len(tokenizer) + 8, **TINY, num_key_value_heads=1, head_dim=8, max_position_embeddings=500,
        tie_word_embeddings=True, dtype="bfloat16",
    )  # fmt: skip
    return _save(folder, lively(Qwen3ForCausalLM(config)), tokenizer)


def cross_encoder(folder: Path, labels: dict[int, str] | None = None) -> Path:
    """Write an XLM-R-shaped ranker of one label, or of those named, with a Unigram tokenizer as sentencepiece makes them."""
    own = Tokenizer(models.Unigram())
    own.normalizer, own.pre_tokenizer, own.decoder = normalizers.NFKC(), pre_tokenizers.Metaspace(), decoders.Metaspace()
    specials = ["<s>", "<pad>", "</s>", "<unk>"]
    own.train_from_iterator(TEXT, trainers.UnigramTrainer(vocab_size=160, special_tokens=specials, unk_token="<unk>"))
    pair = {"single": "<s> $A </s>", "pair": "<s> $A </s> </s> $B </s>", "special_tokens": [("<s>", 0), ("</s>", 2)]}
    own.post_processor = processors.TemplateProcessing(**pair)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=own, bos_token="<s>", cls_token="<s>", eos_token="</s>", sep_token="</s>", unk_token="<unk>",
        pad_token="<pad>", model_max_length=512,
    )  # fmt: skip
    tokenizer.model_input_names = ["input_ids", "attention_mask"]
    names = (
        {"num_labels": 1} if labels is None else {"id2label": labels, "label2id": {name: key for key, name in labels.items()}}
    )
    config = XLMRobertaConfig(
        vocab_size=len(tokenizer), **TINY, max_position_embeddings=102, pad_token_id=1, type_vocab_size=1, **names
    )
    return _save(folder, lively(XLMRobertaForSequenceClassification(config)), tokenizer)


def encoder(folder: Path) -> Path:
    """Write a BERT that ranks nothing, in a plain folder."""
    tokenizer = word_pieces()
    config = BertConfig(vocab_size=len(tokenizer), **TINY, max_position_embeddings=64)
    return _save(folder, lively(BertModel(config)), tokenizer)


def sparse(folder: Path) -> Path:
    """Write a masked language model, of whose logits about half are positive."""
    tokenizer = word_pieces()
    config = BertConfig(vocab_size=len(tokenizer), **TINY, max_position_embeddings=64)
    return _save(folder, lively(BertForMaskedLM(config)), tokenizer)


def word_pieces() -> PreTrainedTokenizerFast:
    """Train a tokenizer as BERT's, of few words."""
    own = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    own.normalizer, own.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    own.train_from_iterator(TEXT, trainers.WordPieceTrainer(vocab_size=200, special_tokens=specials))
    pair = {"single": "[CLS] $A [SEP]", "pair": "[CLS] $A [SEP] $B:1 [SEP]:1", "special_tokens": [("[CLS]", 2), ("[SEP]", 3)]}
    own.post_processor = processors.TemplateProcessing(**pair)
    named = {"unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]", "pad_token": "[PAD]", "mask_token": "[MASK]"}
    return PreTrainedTokenizerFast(tokenizer_object=own, model_max_length=64, **named)


def lively(network: PreTrainedModel) -> PreTrainedModel:
    """Give a network weights so large that all of its parts change what passes through them."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.copy_(1 + 0.2 * noise if parameter.dim() == 1 and name.endswith("weight") else 0.2 * noise)
    return network.float()


MAKE = {"cross_encoder": cross_encoder, "bi_encoder": encoder, "sparse": sparse, "causal_lm": causal_lm}


def collection(folder: Path, kinds: Iterable[str] = MAKE) -> Path:
    """Write five passages, three questions and their triples; and a teacher of each kind, ``tiny-<kind>``."""
    for name, text in FILES.items():
        (folder / name).write_text(text)
    for kind in kinds:
        MAKE[kind](folder / f"tiny-{kind}")
    return folder


def _save(folder: Path, network: PreTrainedModel, tokenizer: PreTrainedTokenizerFast) -> Path:
    network.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
