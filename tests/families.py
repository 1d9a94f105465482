"""Tiny rankers of every family with random weights, and tokenizers as theirs are, made on the spot."""

import functools
import json

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from rankdistil.models.bert import CrossEncoder
from rankdistil.models.families import FAMILIES

NAMES = tuple(FAMILIES)
TEXT = (
    "how do bees fly in spring", "wings beat fast and the air moves", "honey and nectar of flowers",
    "pollen is carried on legs", "a bridge has four arches of stone",
    "where do apples grow and why", "queens live for years, workers die in six weeks",
)  # fmt: skip
WORDS = sorted({word for line in TEXT for word in line.replace(",", "").split()})
LETTERS = [chr(code) for code in range(ord("a"), ord("z") + 1)]
SIZES = {"vocab_size": 420, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
CONFIGS = {
    "bert": {}, "electra": {"embedding_size": 24}, "roberta": {"type_vocab_size": 1, "pad_token_id": 1},
    "xlm-roberta": {"type_vocab_size": 1, "pad_token_id": 1}, "distilbert": {"hidden_dim": 48},
    "mpnet": {"pad_token_id": 1}, "modernbert": {"local_attention": 8, "num_hidden_layers": 4, "pad_token_id": 1},
}  # fmt: skip
POSITIONS = 66


def tiny(name: str, labels: int = 1, **settings: object) -> CrossEncoder:
    """Make a ranker of a family, whose scores differ, in evaluation mode."""
    network = getattr(transformers, FAMILIES[name].ranker)
    values = SIZES | {"max_position_embeddings": POSITIONS, "num_labels": labels} | CONFIGS[name] | settings
    torch.manual_seed(7)
    ranker = CrossEncoder(network(network.config_class(**values))).eval()
    with torch.no_grad():
        for key, value in ranker.named_parameters():
            if "norm" not in key.lower():
                value.normal_(std=0.3)
            elif key.endswith("weight"):
                value.normal_(1, 0.2)
    return ranker


@functools.cache
def tokenizer_of(name: str) -> PreTrainedTokenizerFast:
    """Make the tokenizer of a family."""
    if name in ("bert", "electra", "distilbert"):
        kind = transformers.DistilBertTokenizer if name == "distilbert" else transformers.BertTokenizer
        return kind(vocab=_pieces("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"), model_max_length=POSITIONS - 2)
    if name == "mpnet":
        return transformers.MPNetTokenizer(
            vocab=_pieces("<s>", "<pad>", "</s>", "[UNK]", "<mask>"), model_max_length=POSITIONS - 2
        )
    if name == "xlm-roberta":
        pieces = [("<s>", 0.0), ("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -3.0)]
        pieces += [(f"▁{word}", -4.0 - at / 9) for at, word in enumerate(WORDS)] + [(letter, -9.0) for letter in LETTERS]
        return transformers.XLMRobertaTokenizer(vocab=[*pieces, ("<mask>", 0.0)], model_max_length=POSITIONS - 2)
    return _byte_level(name)


def _pieces(*special: str) -> dict[str, int]:
    pieces = [*special, *LETTERS, *(f"##{letter}" for letter in LETTERS), ",", ".", "?", "[", "]", *WORDS]
    return {piece: at for at, piece in enumerate(dict.fromkeys(pieces))}


def _byte_level(name: str) -> PreTrainedTokenizerFast:
    special = (
        ["<s>", "<pad>", "</s>", "<unk>", "<mask>"] if name == "roberta" else ["[CLS]", "[PAD]", "[SEP]", "[UNK]", "[MASK]"]
    )
    own = Tokenizer(models.BPE())
    own.pre_tokenizer, own.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=340, special_tokens=special, initial_alphabet=alphabet, show_progress=False)
    own.train_from_iterator(TEXT, trainer)
    cls, pad, sep, unk, mask = special
    names = {"cls_token": cls, "pad_token": pad, "sep_token": sep, "unk_token": unk, "mask_token": mask}
    if name == "roberta":
        held = json.loads(own.to_str())["model"]
        merges = [tuple(pair) for pair in held["merges"]]
        return transformers.RobertaTokenizer(vocab=held["vocab"], merges=merges, model_max_length=POSITIONS - 2)
    ids = [(token, own.token_to_id(token)) for token in (cls, sep)]
    own.post_processor = processors.TemplateProcessing(
        single=f"{cls}:0 $A:0 {sep}:0", pair=f"{cls}:0 $A:0 {sep}:0 $B:1 {sep}:1", special_tokens=ids
    )
    settings = names | {"model_input_names": ["input_ids", "attention_mask"], "model_max_length": POSITIONS - 2}
    return PreTrainedTokenizerFast(tokenizer_object=own, **settings)
