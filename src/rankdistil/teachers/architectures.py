"""Networks of any architecture that transformers knows, and their tokenizers, loaded as strictly as our own.

They only give scores: nothing here shows layers (see ``models.bert``), so one call of the library serves all of them.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from rankdistil.files import read_json
from rankdistil.models.checkpoints import COMPUTED_BY, named, read_raw, require_finite
from rankdistil.models.families import FAMILIES, max_positions
from rankdistil.models.locate import COPY, locate, require_whole, used

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerFast

SEQUENCE_CLASSIFICATION = "AutoModelForSequenceClassification"
ENCODER = "AutoModel"
MASKED = "AutoModelForMaskedLM"
CAUSAL = "AutoModelForCausalLM"
TOKENS = (
    "tokenizer.json",
    "vocab.txt",
    "vocab.json",
)  # one of them must be there: the library would make one of no words
OFFSET = ("camembert", "longformer", "xlm-roberta-xl")  # positions begin behind padding's id, as RoBERTa's do
UNUSED = ("pooler.",)  # of an encoder whose tokens are pooled by other rules: it may be missing, and is new then


def read_shape(path: str) -> "PreTrainedConfig":
    """Read a checkpoint's shape. How it asks to be computed is left out: the hub's kernels are code.

    Raises:
        FileNotFoundError: if there is none, here or on the hub.
        ValueError: if transformers doesn't know its architecture, it asks for code of its own, or is quantised.
    """
    from transformers import CONFIG_MAPPING, AutoConfig

    file, raw = read_raw(path)
    kind = raw.get("model_type")
    if not isinstance(kind, str) or kind not in CONFIG_MAPPING:
        raise ValueError(f"{file}: model_type is {kind!r}, which the installed transformers doesn't know.")
    values = {key: value for key, value in raw.items() if key != "model_type" and not key.endswith(COMPUTED_BY)}
    with used(file):
        return AutoConfig.for_model(kind, **values)


def load_network(path: str, task: str, dtype: torch.dtype) -> "PreTrainedModel":
    """Load a network in evaluation mode.

    Args:
        path: see ``locate``.
        task: one of the library's automatic classes.
        dtype: of the weights.

    Raises:
        FileNotFoundError: if there is no checkpoint.
        ValueError: if the architecture has no network for the task, weights are missing, belong to further layers, have another
            shape or aren't finite.
    """
    import transformers

    config, source, auto = read_shape(path), locate(path), getattr(transformers, task)
    if type(config) not in auto._model_mapping:
        raise ValueError(
            f"{path}: transformers has no {task} of the architecture {config.model_type!r}. Name another checkpoint, or "
            "another teacher.kind."
        )
    transformers.utils.logging.set_verbosity_error()  # what is missing is said below, once and exactly
    transformers.utils.logging.disable_progress_bar()
    if isinstance(source, Path):
        require_whole(source)
    with used(source, "network"):
        network, info = auto.from_pretrained(
            **named(source),
            config=config,
            dtype=dtype,
            use_safetensors=True,
            trust_remote_code=False,
            ignore_mismatched_sizes=True,  # reported and refused below, with the names of the keys
            output_loading_info=True,
        )
    _require_all(path, task, network, info)
    require_finite(path, network)
    return network.eval()


def _require_all(path: str, task: str, network: "PreTrainedModel", info: dict[str, Any]) -> None:
    """Refuse weights that aren't those of the network. Heads for other tasks, which it hasn't got, are left behind."""
    skipped = UNUSED if task == ENCODER else ()
    own = {name for part in (network, network.base_model) for name, _ in part.named_children()}
    prefix = f"{network.base_model_prefix}."
    missing = {key for key in info["missing_keys"] if not key.removeprefix(prefix).startswith(skipped)}
    further = {
        key for key in info["unexpected_keys"]
        if key.removeprefix(prefix).partition(".")[0] in own and "position_ids" not in key
        and not key.removeprefix(prefix).startswith(skipped)
    }  # fmt: skip
    mismatched = {str(key) for key in info["mismatched_keys"]}
    kinds = (("missing", missing), ("unexpected", further), ("of another shape", mismatched))
    if found := [f"{name} {sorted(keys)[:3]}" for name, keys in kinds if keys]:
        raise ValueError(f"{path}: expected the weights of a {type(network).__name__}; found keys {'; '.join(found)}.")


def load_tokens(path: str) -> "PreTrainedTokenizerFast":
    """Load a checkpoint's own tokenizer; it pads on the right.

    Raises:
        FileNotFoundError: if a folder has none: the library would make one of a few tokens.
        ValueError: if it asks for code of its own, or is none of the library's fast ones.
    """
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    source = locate(path)
    if isinstance(source, Path):
        if not any((source / name).is_file() for name in TOKENS):
            raise FileNotFoundError(f"{source} holds no tokenizer.json. Copy the checkpoint's tokenizer there.")
        config = source / "tokenizer_config.json"
        if config.is_file() and "auto_map" in read_json(config, COPY):
            raise ValueError(f"{config} asks for code of its own (auto_map); such checkpoints are refused.")
    with used(source, "tokenizer"):
        tokenizer = AutoTokenizer.from_pretrained(**named(source), trust_remote_code=False)
    if not isinstance(tokenizer, PreTrainedTokenizerFast):
        raise ValueError(f"{path}: its tokenizer is a {type(tokenizer).__name__}; expected one with a tokenizer.json.")
    tokenizer.padding_side = "right"
    return tokenizer


def as_text(tokenizer: "PreTrainedTokenizerFast", texts: Sequence[str]) -> list[str]:
    """Break what a tokenizer would read as its special tokens, by a blank: text is text, and ends no segment and no turn.

    ``split_special_tokens`` isn't enough: a vocabulary of sentence pieces holds them, and finds them in a text, too.
    """
    special = [token.content for token in tokenizer.added_tokens_decoder.values() if token.special]
    broken = [(token, f"{token[0]} {token[1:]}") for token in special if len(token) > 1]
    found = []
    for text in texts:
        for token, instead in broken:
            text = text.replace(token, instead)
        found.append(text)
    return found


def positions(config: "PreTrainedConfig") -> int | None:
    """Return how many tokens a network can read at once; None where nothing limits them."""
    if config.model_type in FAMILIES:
        return max_positions(config)
    text = config.get_text_config()
    most = getattr(text, "max_position_embeddings", None)
    if most is None or most < 1:  # T5's kind says -1
        return None
    return most - (text.pad_token_id or 0) - 1 if text.model_type in OFFSET else most
