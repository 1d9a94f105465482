"""Loading networks and tokenizers strictly: safetensors only, no remote code, no silently random weights.

The library is imported by the functions that read with it: it takes seconds, which ``import rankdistil`` need not.
"""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from rankdistil.data.encode import PairLayout
from rankdistil.files import read_json
from rankdistil.models.bert import CrossEncoder
from rankdistil.models.families import FAMILIES, family_of, max_positions
from rankdistil.models.locate import COPY, PROBE, hub_id, locate, require_whole, used, weight_files

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedTokenizerFast

SIZES = ("hidden_size", "num_hidden_layers", "num_attention_heads", "vocab_size")
LAYERS, LABELS = 1000, 1 << 16  # that a checkpoint may have
QUANTISED = ("quantization_config", "compression_config")
COMPUTED_BY = ("attn_implementation", "attn_implementation_internal", "experts_implementation")  # the hub's kernels among them
DEBERTA = (
    " A DeBERTa gives scores to learn from: +experiment=score_teacher teacher.kind=cross_encoder teacher.path=<checkpoint>."
)
SCORES_ONLY = {"deberta": DEBERTA, "deberta-v2": DEBERTA}  # which transformers computes
# Names of two labels that say which of them is relevance, in any case; blanks and hyphens count as underscores.
RELEVANT = {
    "label_1": {"label_0"}, "1": {"0"}, "yes": {"no"}, "true": {"false"}, "entailment": {"not_entailment"},
    "relevant": {"not_relevant", "non_relevant", "nonrelevant", "irrelevant"},
}  # fmt: skip
FIXED_ANGLES = ("default", "linear", "yarn", "llama3")  # kinds of rotary positions that are the same for every length
TOKENISERS = ("WordPiece", "BPE", "Unigram")


def read_config(path: str) -> "PretrainedConfig":
    """Read a checkpoint's shape. How it asks to be computed is left out: attention is ours (see ``models.layout``).

    Raises:
        FileNotFoundError: if there is none, here or on the hub.
        ValueError: if it is of no family that can be computed here, asks for code of its own, or is quantised.
    """
    file, raw = read_raw(path)
    if (kind := raw.get("model_type")) not in [*FAMILIES]:
        instead = SCORES_ONLY.get(str(kind), "")
        raise ValueError(f"{file}: model_type is {kind!r}, expected one of {', '.join(FAMILIES)}.{instead}")
    for name, most in ((FAMILIES[kind].shape.layers, LAYERS), ("num_labels", LABELS)):
        if isinstance(raw.get(name), int) and raw[name] > most:  # making so many would take hours
            raise ValueError(f"{file}: {name} is {raw[name]}; expected at most {most}. {COPY}")
    with used(file):
        config = _classes(kind).config_class.from_dict({k: value for k, value in raw.items() if not k.endswith(COMPUTED_BY)})
        sizes = {name: getattr(config, name) for name in SIZES} | {"max_position_embeddings": max_positions(config)}
    for name, value in sizes.items():
        if not isinstance(value, int) or value < 1:
            raise ValueError(f"{file}: {name} is {value}; expected a whole number of at least 1. {COPY}")
    for rope in (getattr(config, "rope_parameters", None) or {}).values():
        if isinstance(rope, dict) and rope.get("rope_type") not in FIXED_ANGLES:
            raise ValueError(
                f"{file}: rope_type is {rope.get('rope_type')!r}, expected one of {', '.join(FIXED_ANGLES)}: a text's score "
                "must not depend on the length of others."
            )
    return config


def _classes(kind: str) -> type:
    """Return transformers' class for sequence classification of a family, by ``model_type``."""
    import transformers

    return getattr(transformers, FAMILIES[kind].ranker)


def read_raw(path: str) -> tuple[Path | str, dict[str, Any]]:
    """Read what the config.json of a checkpoint says, of whatever architecture.

    Returns:
        The file, or how messages call it, and its values.

    Raises:
        FileNotFoundError: if there is none, here or on the hub.
        ValueError: if it asks for code of its own, or is quantised.
    """
    source = locate(path)
    if isinstance(source, Path):
        file: Path | str = source / "config.json"
        if not file.is_file():
            raise FileNotFoundError(f"{source} holds no config.json: it is no checkpoint folder.")
        raw = read_json(file, COPY)
    else:
        file, raw = f"{path} (config.json)", _hub_config(path)
    names = raw.get("architectures") or []
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError(f"{file}: architectures is {names!r}; expected a list of names. {COPY}")
    if "auto_map" in raw:
        raise ValueError(f"{file} asks for code of its own (auto_map); such checkpoints are refused.")
    if quantised := [key for key in QUANTISED if raw.get(key) is not None]:
        raise ValueError(
            f"{file}: its weights are quantised ({quantised[0]}); expected plain floats. Take the checkpoint that it was made "
            "from; Reranker(dtype='int8') quantises by itself."
        )
    return file, raw


def _hub_config(path: str) -> dict[str, Any]:
    from transformers import PretrainedConfig

    try:
        return PretrainedConfig.get_config_dict(**named(path))[0]
    except OSError as error:
        raise FileNotFoundError(
            f"{path!r} is no folder here, and no checkpoint came from the Hugging Face hub ({str(error).splitlines()[0]}) "
            "Give a folder with config.json, or a hub id owner/name."
        ) from None


def load_tokenizer(path: str) -> "PreTrainedTokenizerFast":
    """Load the tokenizer of a checkpoint.

    Raises:
        FileNotFoundError: if a folder has no vocabulary: the library would make one of five tokens.
        ValueError: if it is of a kind that isn't known here, can't read a text, or lays out pairs in no way that is known.
    """
    from transformers import AutoTokenizer, BertTokenizerFast

    source = locate(path)
    kind = _kind_of_tokenizer(source) if isinstance(source, Path) else "WordPiece"
    bert = kind == "WordPiece" and _model_type(path, source) == "bert"  # whatever class its files name
    with used(source, "tokenizer"):
        loads, more = (BertTokenizerFast, {}) if bert else (AutoTokenizer, {"trust_remote_code": False})
        found = loads.from_pretrained(**named(source), **more)
        if found.pad_token_id is None:
            raise ValueError("it has no padding token")
        found.backend_tokenizer.encode(PROBE, PROBE)
    try:
        PairLayout.of(found)
    except ValueError as fault:
        raise ValueError(f"{path}: {fault}") from None
    return found


def _model_type(path: str, source: Path | str) -> str:
    if isinstance(source, Path) and not (source / "config.json").is_file():
        return "bert"
    return read_config(path).model_type


def require_fitting(path: str, tokenizer: "PreTrainedTokenizerFast", config: "PretrainedConfig") -> None:
    """See that a network knows all tokens and their types, and reads in both directions.

    Raises:
        ValueError: if it doesn't.
    """
    if len(tokenizer) > config.vocab_size:
        raise ValueError(
            f"{path}: its tokenizer has {len(tokenizer)} tokens, its network knows {config.vocab_size}. "
            "Tokenizer and weights don't belong together."
        )
    family, second_type = family_of(config), PairLayout.of(tokenizer).second_type
    if family.encoder.types is not None and second_type >= config.type_vocab_size:
        raise ValueError(
            f"{path} doesn't tell the query from the passage by token types, as its tokenizer does: its network knows "
            f"{config.type_vocab_size}. Tokenizer and weights don't belong together."
        )
    if getattr(config, "is_decoder", False):
        raise ValueError(f"{path}: is_decoder is true; expected an encoder, whose tokens see each other in both directions.")


def load_language_model(path: str, seed: int = 0) -> CrossEncoder:
    """Put a new one-logit head on a pretrained language model; a head that the checkpoint has is left behind.

    Args:
        path: see ``locate``.
        seed: seed of the new head (and of the pooler where the checkpoint has none).

    Raises:
        ValueError: if weights other than the head and the pooler are missing from the checkpoint.
    """
    config = read_config(path)
    config.num_labels = 1
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(seed)
        return _load(path, config, allowed_missing=head_weights(config), new_head_seed=seed)


def new_head(config: "PretrainedConfig") -> set[str]:
    """Name the weights of a ranker's last layer, which gives the logit."""
    return _weights_of(family_of(config).encoder.head)


def head_weights(config: "PretrainedConfig") -> set[str]:
    """Name the weights that a ranker has and a language model may lack."""
    encoder = family_of(config).encoder
    parts = (part for part in (encoder.pooler, encoder.pool_norm, encoder.head) if isinstance(part, str))
    return {name for part in parts for name in _weights_of(part)}


def _weights_of(part: str) -> set[str]:
    return {f"{part}.{name}" for name in ("weight", "bias")}


def load_ranker(path: str) -> CrossEncoder:
    """Load a ranker with its head, for example an export of a run.

    Raises:
        ValueError: if the folder holds no one-logit ranker.
    """
    return _load(path, require_ranker(path), allowed_missing=set())


def load_cross_encoder(path: str) -> CrossEncoder:
    """Load a ranker of one or two labels; two are folded into one logit, that of the relevant label less that of the other.

    The softmax of two logits is the sigmoid of their difference, so the order is the same.

    Raises:
        ValueError: if the checkpoint is no ranker of one or two labels, or isn't finite.
    """
    config = require_labels(path)
    ranker = _load(path, config, allowed_missing=set())
    if config.num_labels == 2:
        head, relevant = ranker.encoder.head, relevant_label(path, config)
        folded = torch.nn.Linear(head.in_features, 1)
        with torch.no_grad():
            folded.weight.copy_(head.weight[relevant] - head.weight[1 - relevant])
            folded.bias.copy_(head.bias[relevant] - head.bias[1 - relevant])
        ranker.bert.set_submodule(family_of(config).encoder.head, folded)
        ranker.bert.num_labels = ranker.config.num_labels = 1
    return ranker.eval()


def relevant_label(path: str, config: "PretrainedConfig") -> int:
    """Find which of two labels is relevance, 0 or 1, by their names in ``id2label`` (see ``RELEVANT``).

    Raises:
        ValueError: if the names leave it open.
    """
    names = [re.sub(r"[\s-]", "_", str(config.id2label.get(label)).lower()) for label in (0, 1)]
    for label in (0, 1):
        if names[1 - label] in RELEVANT.get(names[label], ()):
            return label
    raise ValueError(
        f"{path}: id2label is {config.id2label}, which doesn't say which label is relevance. Name them not_relevant and "
        "relevant in its config.json, or LABEL_0 and LABEL_1, of which LABEL_1 is relevance."
    )


def require_labels(path: str) -> "PretrainedConfig":
    """Read the shape of a ranker of one or two labels.

    Raises:
        ValueError: if the checkpoint is none.
    """
    config = read_config(path)
    if is_language_model(config):
        require_ranker(path)
    if config.num_labels not in (1, 2):
        raise ValueError(f"{path}: the head has {config.num_labels} labels, expected 1, or 2 of which one is relevance.")
    if config.num_labels == 2:
        relevant_label(path, config)
    return config


def require_ranker(path: str) -> "PretrainedConfig":
    """Read the shape of a ranker.

    Raises:
        ValueError: if the checkpoint is a language model, or has another number of labels than one.
    """
    config = read_config(path)
    if is_language_model(config):
        raise ValueError(
            f"{path} is a language model without a ranking head ({config.architectures[0]}): it can't rank yet. Train it to: "
            f"+experiment=finetune_6l student.init_from=export:{path}, or name a ranker."
        )
    if config.num_labels != 1:
        raise ValueError(f"{path}: the head has {config.num_labels} labels, expected 1 (a ranker with one logit).")
    return config


def load_student(path: str, seed: int) -> CrossEncoder:
    """Load what an earlier stage left: a ranker with its head, or a language model, which gets a new head.

    Args:
        path: see ``locate``.
        seed: seed of the new head.
    """
    return load_language_model(path, seed=seed) if is_language_model(read_config(path)) else load_ranker(path)


def is_language_model(config: "PretrainedConfig") -> bool:
    """Whether a checkpoint says that it holds another network than a ranker."""
    return bool(config.architectures) and family_of(config).ranker not in config.architectures


def refuse_ranker(path: str, key: str) -> None:
    """Refuse a ranker where a pretrained language model gets a new head: its own, which was trained, would be lost.

    Args:
        path: see ``locate``.
        key: the setting that names it, with what comes before the path.

    Raises:
        ValueError: saying what to name instead.
    """
    config = read_config(path)
    if (ranker := family_of(config).ranker) in (config.architectures or ()):
        raise ValueError(
            f"{key}{path} is a ranker ({ranker}); expected a pretrained language model, without a trained head. Name "
            f"the one that the ranker started from. Or keep the ranker's head: teacher.export={path} learns from the ranker, "
            f"and student.init_from=export:{path} trains it further, in a stage that ranks."
        )


def _kind_of_tokenizer(folder: Path) -> str:
    files = [folder / name for name in ("tokenizer.json", "vocab.txt") if (folder / name).is_file()]
    if not files:
        raise FileNotFoundError(f"{folder} holds no tokenizer.json and no vocab.txt. Copy the checkpoint's tokenizer there.")
    if files[0].suffix != ".json":
        return "WordPiece"
    model = read_json(files[0], COPY).get("model")
    kind = model.get("type") if isinstance(model, dict) else None
    if kind not in TOKENISERS:
        raise ValueError(f"{files[0]} is a tokenizer of type {kind!r}; expected one of {', '.join(TOKENISERS)}.")
    return kind


def _renew(head: torch.nn.Linear, spread: float, seed: int) -> None:
    """Replace a trained head by the one that the library makes for a checkpoint without any."""
    torch.manual_seed(seed)
    with torch.no_grad():
        head.weight.normal_(std=spread)
        head.bias.zero_()


def named(source: Path | str) -> dict[str, Any]:
    """Name a folder or a hub id to the library."""
    if isinstance(source, Path):
        return {"pretrained_model_name_or_path": source, "local_files_only": True}
    name, revision = hub_id(source)
    return {"pretrained_model_name_or_path": name, "revision": revision, "local_files_only": False}


def _load(path: str, config: "PretrainedConfig", allowed_missing: set[str], new_head_seed: int | None = None) -> CrossEncoder:
    from transformers.utils import logging as transformers_logging

    source = locate(path)
    transformers_logging.set_verbosity_error()  # what is missing is said below, once and exactly
    transformers_logging.disable_progress_bar()
    if isinstance(source, Path):
        require_whole(source)
    with used(source, "network"):
        if isinstance(source, Path):
            _require_filled(source, config)
        bert, info = _classes(config.model_type).from_pretrained(
            **named(source),
            config=config,
            dtype=torch.float32,
            use_safetensors=True,
            ignore_mismatched_sizes=True,  # reported and refused below, with the names of the keys
            output_loading_info=True,
        )
    missing = set(info["missing_keys"]) - allowed_missing
    family, own = family_of(config), new_head(config)
    left_behind = tuple(family.left_behind)
    unexpected = {key for key in info["unexpected_keys"] if not key.startswith(left_behind) and "position_ids" not in key}
    mismatched = {str(key) for key in info["mismatched_keys"] if new_head_seed is None or key[0] not in own}
    if new_head_seed is not None and not own & set(info["missing_keys"]):
        _renew(bert.get_submodule(family.encoder.head), config.initializer_range, new_head_seed)
    if missing or unexpected or mismatched:
        found = [
            f"{name} {sorted(keys)[:3]}"
            for name, keys in (("missing", missing), ("unexpected", unexpected), ("of another shape", mismatched))
            if keys
        ]
        wanted = "a ranker's weights and head" if not allowed_missing else f"a pretrained {family.name}'s weights"
        raise ValueError(f"{path}: expected {wanted}; found keys {'; '.join(found)}.")
    require_finite(path, bert)
    return CrossEncoder(bert)


def _require_filled(folder: Path, config: "PretrainedConfig") -> None:
    """Refuse a shape of more weights than its files have bytes: one damaged number would ask for all of the memory."""
    with torch.device("meta"):
        wanted = sum(part.numel() for part in _classes(config.model_type)(config).parameters())
    held = sum(file.stat().st_size for file in weight_files(folder))
    if wanted > held:
        raise ValueError(f"it describes {wanted} weights, for which the files of weights, {held} bytes, are too small")


def require_finite(path: str, network: torch.nn.Module) -> None:
    """Refuse weights that are NaN or infinite.

    Raises:
        ValueError: naming one of them.
    """
    if broken := [name for name, value in network.named_parameters() if not value.isfinite().all()]:
        raise ValueError(f"{path}: {len(broken)} weights are NaN or infinite, {broken[0]} among them. Take another checkpoint.")
