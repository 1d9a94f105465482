"""Bi-encoders: one vector a text, dense or of a weight for each word of a vocabulary (SPLADE).

How tokens become a vector is what a sentence-transformers folder says (``modules.json`` and the files that it names). A plain
folder of transformers says nothing: dense vectors are the mean of its tokens then, compared by cosine.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

from rankdistil.files import content, read_json, short_hash
from rankdistil.models.checkpoints import require_finite
from rankdistil.models.locate import COPY, locate, used
from rankdistil.teachers.architectures import ENCODER, MASKED, load_network

MODULES = "modules.json"
DENSE, SPARSE = "bi_encoder", "sparse"
POOLING = {
    "pooling_mode_cls_token": "cls", "pooling_mode_mean_tokens": "mean", "pooling_mode_lasttoken": "lasttoken",
    "pooling_mode_max_tokens": "max", "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
}  # fmt: skip
KNOWN = ("mean", "cls", "lasttoken")
ACTIVATIONS = {"Identity": nn.Identity, "Tanh": nn.Tanh, "ReLU": nn.ReLU, "GELU": nn.GELU}  # of torch.nn, by name


@dataclass(frozen=True)
class Recipe:
    """How tokens become a vector, and how two vectors are compared.

    Attributes:
        pooling: ``mean``, ``cls`` or ``lasttoken``; ``max`` of an encoder of words.
        dense: folder of each linear layer behind it.
        normalised: whether a vector's length is made 1.
        similarity: ``cosine`` or ``dot``.
        query_prompt: in front of each query.
        passage_prompt: in front of each passage.
        max_length: tokens of a text at most, as far as the folder says.
        lower: whether texts are made lower case.
        told: False where the folder says nothing of all that.
    """

    pooling: str
    dense: tuple[str, ...] = ()
    normalised: bool = False
    similarity: str = "cosine"
    query_prompt: str = ""
    passage_prompt: str = ""
    max_length: int | None = None
    lower: bool = False
    told: bool = True

    def described(self, path: str) -> dict[str, Any]:
        """Return what of it decides scores, by name: linear layers by what they hold."""
        return asdict(self) | {"dense": [_content(Path(locate(path)) / name) for name in self.dense]}


def _content(folder: Path) -> str:
    return short_hash(
        " ".join(content(folder / name) for name in ("config.json", "model.safetensors") if (folder / name).is_file())
    )


def read_recipe(path: str, kind: str) -> Recipe:
    """Read what a folder says of pooling, similarity, prompts and lengths.

    Args:
        path: see ``locate``; one that has yet to be fetched says nothing.
        kind: ``DENSE`` or ``SPARSE``.

    Raises:
        ValueError: for modules or settings that aren't known here: scores would be others than the encoder's.
    """
    folder = locate(path)
    if not isinstance(folder, Path) or not (folder / MODULES).is_file():
        return Recipe("max", similarity="dot", told=False) if kind == SPARSE else Recipe("mean", told=False)
    first, *others = _modules(folder)
    if first[0] not in ("Transformer", "MLMTransformer") or first[1]:
        raise ValueError(
            f"{folder / MODULES}: the first module is {first[0]} in {first[1] or 'the folder itself'!r}; expected a "
            "Transformer in the folder itself."
        )
    pooling, dense, normalised = "", [], False
    for name, place in others:
        settings = _read(folder / place / "config.json")
        if name == "Pooling" and kind == DENSE and not (pooling or dense or normalised):
            pooling = _pooling(folder / place, settings)
        elif name == "Dense" and pooling and not normalised:
            dense.append(place)
        elif name == "Normalize" and pooling:
            normalised = True
        elif name == "SpladePooling" and kind == SPARSE and not pooling:
            pooling = _splade(folder / place, settings)
        else:
            raise _unknown(folder, kind, [first, *others])
    if not pooling:
        raise _unknown(folder, kind, [first, *others])
    said, size = _read(folder / "config_sentence_transformers.json"), _read(folder / "sentence_bert_config.json")
    similarity = said.get("similarity_fn_name") or ("dot" if kind == SPARSE else "cosine")
    if similarity not in ("cosine", "dot"):
        raise ValueError(f"{folder}: its similarity_fn_name is {similarity!r}; expected 'cosine' or 'dot'.")
    prompts = said.get("prompts") or {}
    asked = prompts.get("query") or ""
    answer = next((prompts[name] for name in ("document", "passage", "corpus") if prompts.get(name)), "")
    return Recipe(
        pooling,
        tuple(dense),
        normalised,
        similarity,
        asked,
        answer,
        size.get("max_seq_length"),
        bool(size.get("do_lower_case")),
    )


def encoder_kind(path: str) -> str | None:
    """Return the kind of encoder that a folder of sentence-transformers says it is; None where it says nothing of pooling."""
    folder = locate(path)
    if not isinstance(folder, Path) or not (folder / MODULES).is_file():
        return None
    kinds = {"Pooling": DENSE, "SpladePooling": SPARSE}
    return next((kinds[name] for name, _ in _modules(folder) if name in kinds), None)


def _modules(folder: Path) -> list[tuple[str, str]]:
    """List the modules, class and folder of each; classes have moved between packages, so the last word names one."""
    try:
        listed = json.loads((folder / MODULES).read_text(encoding="utf-8"))
        found = [(str(one["type"]).rpartition(".")[2], str(one["path"])) for one in listed]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{folder / MODULES} is damaged ({error!r}). {COPY}") from None
    if not found or any(Path(place).is_absolute() or ".." in Path(place).parts for _, place in found):
        raise ValueError(f"{folder / MODULES} is damaged (it names no module, or one outside of its folder). {COPY}")
    return found


def _read(file: Path) -> dict[str, Any]:
    return read_json(file, COPY) if file.is_file() else {}


def _unknown(folder: Path, kind: str, modules: list[tuple[str, str]]) -> ValueError:
    expected = "Transformer, SpladePooling" if kind == SPARSE else "Transformer, Pooling, then any Dense, then Normalize or not"
    return ValueError(
        f"{folder / MODULES}: its modules are {', '.join(name for name, _ in modules)}; expected {expected} "
        f"(teacher.kind={kind})."
    )


def _pooling(folder: Path, settings: dict[str, Any]) -> str:
    """Return how tokens are pooled: by one rule, which is named, or is the one of several switches that is on."""
    named = settings.get("pooling_mode") or [mode for key, mode in POOLING.items() if settings.get(key)]
    modes = [named] if isinstance(named, str) else list(named)
    if len(modes) != 1 or modes[0] not in KNOWN:
        raise ValueError(
            f"{folder}/config.json: tokens are pooled by {' + '.join(modes) or 'no rule'}; expected {_either(KNOWN)}."
        )
    if settings.get("include_prompt") is False:
        raise ValueError(
            f"{folder}/config.json: include_prompt is false; expected prompts that are pooled as all other tokens."
        )
    return modes[0]


def _splade(folder: Path, settings: dict[str, Any]) -> str:
    strategy, activation = settings.get("pooling_strategy", "max"), settings.get("activation_function", "relu")
    if (strategy, activation) != ("max", "relu"):
        raise ValueError(f"{folder}/config.json: words are pooled by {strategy} of {activation}; expected max of relu.")
    return "max"


def _either(names: tuple[str, ...]) -> str:
    return f"{', '.join(names[:-1])} or {names[-1]}"


class DenseEncoder(nn.Module):
    """Gives each text one dense vector.

    Args:
        path: see ``locate``.
        recipe: of the folder.
        dtype: of the network's weights; tokens are pooled in float32.

    Raises:
        FileNotFoundError: if there is no checkpoint.
        ValueError: if weights are missing, or aren't those of the architecture.
    """

    def __init__(self, path: str, recipe: Recipe, dtype: torch.dtype) -> None:
        super().__init__()
        self.network, self._recipe = load_network(path, ENCODER, dtype), recipe
        self.dense = nn.Sequential(*(_load_dense(Path(locate(path)) / name) for name in recipe.dense))

    def forward(self, **inputs: Tensor) -> Tensor:
        """Encode texts that are padded on the right; float32, (B, D). Vectors that are compared by cosine have the length 1."""
        states = self.network(**inputs).last_hidden_state.float()
        mask = inputs["attention_mask"]
        if self._recipe.pooling == "mean":
            weights = mask.unsqueeze(-1).float()
            vectors = (states * weights).sum(1) / weights.sum(1).clamp(min=1e-9)
        elif self._recipe.pooling == "cls":
            vectors = states[:, 0]
        else:
            vectors = states[torch.arange(len(states), device=states.device), (mask.sum(1) - 1).clamp(min=0)]
        vectors = self.dense(vectors)
        return F.normalize(vectors, dim=-1) if self._recipe.normalised or self._recipe.similarity == "cosine" else vectors


def _load_dense(folder: Path) -> nn.Module:
    """Load a linear layer and what stands behind it, in float32."""
    settings, file = _read(folder / "config.json"), folder / "model.safetensors"
    name = str(settings.get("activation_function", "torch.nn.modules.activation.Tanh"))
    activation = ACTIVATIONS.get(name.rpartition(".")[2]) if name.startswith("torch.nn.") else None
    if activation is None or settings.get("use_residual"):
        raise ValueError(
            f"{folder}/config.json: activation_function is {name!r}, use_residual {settings.get('use_residual', False)!r}; "
            f"expected {_either((*ACTIVATIONS,))} of torch.nn, without a residual."
        )
    if not file.is_file():
        raise FileNotFoundError(f"{file} isn't there; pickled weights are refused: they can run any code.")
    with used(file):
        weights = load_file(file)
    if not {"linear.weight"} <= weights.keys() <= {"linear.weight", "linear.bias"}:
        raise ValueError(f"{file} holds {', '.join(sorted(weights))}; expected linear.weight and linear.bias. {COPY}")
    matrix, bias = weights["linear.weight"].float(), weights.get("linear.bias")
    layer = nn.Linear(*reversed(matrix.shape), bias=bias is not None)
    layer.weight.data.copy_(matrix)
    if bias is not None:
        layer.bias.data.copy_(bias)
    require_finite(str(file), layer)
    return nn.Sequential(layer, activation())


class SparseEncoder(nn.Module):
    """Gives each text a weight for every word of its vocabulary, most of them 0: SPLADE.

    Args:
        path: see ``locate``; a masked language model.
        dtype: of the network's weights.

    Raises:
        FileNotFoundError: if there is no checkpoint.
        ValueError: if weights are missing, or aren't those of the architecture.

    Source: Formal et al. 2021, arXiv:2109.10086 (max pooling).
    """

    def __init__(self, path: str, dtype: torch.dtype) -> None:
        super().__init__()
        self.network = load_network(path, MASKED, dtype)

    def forward(self, **inputs: Tensor) -> Tensor:
        """Encode padded texts; float32, (B, words). The largest logit decides, as log(1 + relu(x)) falls nowhere."""
        logits = self.network(**inputs).logits
        hidden = inputs["attention_mask"].unsqueeze(-1) == 0
        return logits.masked_fill_(hidden, 0).amax(1).float().relu().log1p()
