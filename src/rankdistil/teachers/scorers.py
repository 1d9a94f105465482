"""Scorers: teachers of any kind behind one call, texts of queries and passages in, one score a pair out.

A network that reads pairs scores each; one that reads single texts encodes each once, however many pairs it is part of, and
keeps its vector. What only gives scores needs no layout of ours: it reads what its own tokenizer makes.
"""

import inspect
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from rankdistil.inference.engine import BUDGET
from rankdistil.models.checkpoints import read_raw, relevant_label
from rankdistil.models.families import FAMILIES
from rankdistil.teachers.answers import Template, keep_words
from rankdistil.teachers.architectures import (
    CAUSAL,
    SEQUENCE_CLASSIFICATION,
    as_text,
    load_network,
    load_tokens,
    positions,
    read_shape,
)
from rankdistil.teachers.encoders import DENSE, SPARSE, DenseEncoder, SparseEncoder, encoder_kind, read_recipe

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedTokenizerFast

RANKER, PAIRS, ANSWERS = "ranker", "cross_encoder", "causal_lm"
KINDS = (RANKER, PAIRS, DENSE, SPARSE, ANSWERS)
"""Our own ranker, which shows its layers, too; and those that only give scores."""
DTYPES = ("float32", "bfloat16")
LONGEST = 512  # tokens, unless more are asked for
COSINES = (
    "its scores are cosines, which differ by tenths where logits differ by units. Learn from them by a loss over groups at a "
    "low temperature, about 0.05 (stage.losses.<name>.loss.temperature)."
)
OF_KIND = {"template": (ANSWERS,), "instruction": (ANSWERS,), "answers": (ANSWERS,), "query_prompt": (DENSE, SPARSE),
           "passage_prompt": (DENSE, SPARSE)}  # fmt: skip

Row = Mapping[str, list[int]]
"""Inputs of a network for one text or pair, by name, without padding."""


@dataclass(frozen=True)
class ScorerSettings:
    """Which teacher scores, and how.

    Attributes:
        kind: one of ``KINDS``, but for ``RANKER``.
        path: see ``locate``.
        dtype: of the weights, one of ``DTYPES``; scores leave the last layer in float32.
        max_length: tokens of a pair (of a text, where texts are read alone) at most; None for as many as the checkpoint reads,
            ``LONGEST`` at most.
        template: what a causal language model is asked, with {query} and {document}, maybe {instruction}; None for Qwen3's.
        instruction: stands in it.
        answers: the words for relevant and for not relevant.
        query_prompt: in front of each query that is read alone; None for what the folder says.
        passage_prompt: in front of each passage.
    """

    kind: str
    path: str
    dtype: str = "float32"
    max_length: int | None = None
    template: str | None = None
    instruction: str = ""
    answers: tuple[str, str] = ("yes", "no")
    query_prompt: str | None = None
    passage_prompt: str | None = None

    def deciding(self) -> dict[str, Any]:
        """Return what decides scores beside the content of the checkpoint, as far as it matters for the kind."""
        mine = asdict(self) | {"answers": [*self.answers]}  # as JSON has them
        told = {key: value for key, value in mine.items() if key != "path" and self.kind in OF_KIND.get(key, KINDS)}
        return told | (
            {"encoder": read_recipe(self.path, self.kind).described(self.path)} if self.kind in (DENSE, SPARSE) else {}
        )


class Scorer(Protocol):
    """Scores pairs of texts.

    Attributes:
        network: what computes; it may be moved to a device.
        notes: what the checkpoint left open, in words.
        max_length: tokens that are read at most.
    """

    network: nn.Module
    notes: list[str]
    max_length: int

    def score(self, queries: Sequence[str], passages: Sequence[str]) -> NDArray[np.float32]:
        """Score pairs, (N,); each by itself, whatever else is asked for beside it."""
        ...

    def cuts(self) -> dict[str, tuple[int, int]]:
        """Return how many of what has been read were cut, of how many."""
        ...


def open_scorer(settings: ScorerSettings) -> Scorer:
    """Load a teacher, on the CPU.

    Raises:
        FileNotFoundError: if there is no checkpoint.
        ValueError: if it isn't one of its kind, or can't be used as it is asked for.
    """
    return {PAIRS: PairScorer, DENSE: TextScorer, SPARSE: TextScorer, ANSWERS: AnswerScorer}[settings.kind](settings)


def check_scorer(settings: ScorerSettings) -> None:
    """See that a checkpoint on this machine can be what it is asked to be, without reading its weights.

    Raises:
        FileNotFoundError: if there is no checkpoint.
        ValueError: saying why it can't.
    """
    config, tokenizer, _ = _opened(settings)
    if settings.kind == PAIRS:
        _relevant(settings.path, config)
    if settings.kind == ANSWERS:
        Template(tokenizer, settings.template, settings.instruction, settings.answers)


def foreign_kind(path: str, ranks: bool) -> str | None:
    """Say what kind of teacher a folder looks like; None for an encoder of our families, which may be a ranker, or become one.

    Args:
        path: of a folder.
        ranks: whether it is to rank already: an encoder of single texts doesn't, whatever its architecture.

    Raises:
        FileNotFoundError: if it holds no checkpoint.
    """
    _, raw = read_raw(path)
    made = f"{(raw.get('architectures') or [''])[0]}"
    encodes = encoder_kind(path)
    if raw.get("model_type") in FAMILIES and not (ranks and encodes):
        return None
    names = {"ForSequenceClassification": PAIRS, "ForCausalLM": ANSWERS, "ForMaskedLM": SPARSE}
    return encodes or next((kind for ending, kind in names.items() if made.endswith(ending)), DENSE)


def token_lengths(settings: ScorerSettings, texts: Sequence[str]) -> tuple[list[int], int]:
    """Return how many tokens texts have without special ones, and how many a teacher reads at most, special ones included."""
    _, tokenizer, most = _opened(settings)
    return [len(ids) for ids in tokenizer([*texts], add_special_tokens=False)["input_ids"]], most


def _opened(settings: ScorerSettings) -> tuple["PreTrainedConfig", "PreTrainedTokenizerFast", int]:
    """Return shape, tokenizer, and how many tokens are read at most."""
    config, tokenizer = read_shape(settings.path), load_tokens(settings.path)
    said = read_recipe(settings.path, settings.kind).max_length if settings.kind in (DENSE, SPARSE) else None
    own = int(min(most for most in (tokenizer.model_max_length, positions(config), said) if most))
    least = tokenizer.num_special_tokens_to_add(pair=settings.kind == PAIRS) + 2
    asked = settings.max_length
    if asked is not None and not least <= asked <= own:
        raise ValueError(f"teacher.max_length is {asked}; expected {least} to {own}, which {settings.path} reads.")
    if tokenizer.pad_token_id is None and settings.kind != ANSWERS:
        raise ValueError(f"{settings.path}: its tokenizer has no padding token, which texts of unequal length need.")
    if len(tokenizer) > config.get_text_config().vocab_size:
        raise ValueError(
            f"{settings.path}: its tokenizer has {len(tokenizer)} tokens, its network knows "
            f"{config.get_text_config().vocab_size}. Tokenizer and weights don't belong together."
        )
    return config, tokenizer, asked or min(own, LONGEST)


def _relevant(path: str, config: "PreTrainedConfig") -> int | None:
    """Return which of two labels is relevance; None where there is one label."""
    if config.num_labels not in (1, 2):
        raise ValueError(f"{path}: the head has {config.num_labels} labels, expected 1, or 2 of which one is relevance.")
    return relevant_label(path, config) if config.num_labels == 2 else None


class PairScorer:
    """Cross-encoder of any architecture, of one label or two, whose difference is the score (see ``load_cross_encoder``).

    Args:
        settings: of the teacher.
    """

    def __init__(self, settings: ScorerSettings) -> None:
        config, self._tokenizer, self.max_length = _opened(settings)
        self._relevant, self.notes = _relevant(settings.path, config), []
        self.network = load_network(settings.path, SEQUENCE_CLASSIFICATION, getattr(torch, settings.dtype))
        self.network.config.pad_token_id = self._tokenizer.pad_token_id  # a decoder finds the last token by it
        heads = [one for one in self.network.modules() if isinstance(one, nn.Linear) and one.out_features == config.num_labels]
        for last in heads[-1:]:
            exact(last)
        self._counts = [0, 0]

    @torch.inference_mode()
    def score(self, queries: Sequence[str], passages: Sequence[str]) -> NDArray[np.float32]:
        """Score pairs, (N,)."""
        rows, cut = read(self._tokenizer, self.max_length, queries, passages)
        self._counts = [self._counts[0] + cut, self._counts[1] + len(rows)]
        scores = np.empty(len(rows), np.float32)
        for some, inputs in batches(rows, self._tokenizer, device_of(self.network)):
            logits = self.network(**inputs).logits.float()
            found = logits[:, 0] if self._relevant is None else logits[:, self._relevant] - logits[:, 1 - self._relevant]
            scores[some] = found.cpu().numpy()
        return scores

    def cuts(self) -> dict[str, tuple[int, int]]:
        """Return how many pairs were cut, of how many."""
        return {"pairs": (self._counts[0], self._counts[1])}


class AnswerScorer:
    """Causal language model that is asked whether a passage answers a query: the logit of one word less that of the other.

    Rows are padded on the left, so that all end in the same column; padding is neither attended to nor counted in positions.

    Args:
        settings: of the teacher.

    Source: Zhang et al. 2025, arXiv:2506.05176 (Qwen3 Embedding), whose softmax over both words orders alike.
    """

    def __init__(self, settings: ScorerSettings) -> None:
        _, self._tokenizer, self.max_length = _opened(settings)
        self._template = Template(self._tokenizer, settings.template, settings.instruction, settings.answers)
        self.network = load_network(settings.path, CAUSAL, getattr(torch, settings.dtype))
        exact(keep_words(self.network, self._template.answers))
        self._known = inspect.signature(self.network.forward).parameters  # some count positions by the mask
        self.notes, self._counts = [], [0, 0]

    @torch.inference_mode()
    def score(self, queries: Sequence[str], passages: Sequence[str]) -> NDArray[np.float32]:
        """Score pairs, (N,)."""
        found = [self._template.ids(*pair, self.max_length) for pair in zip(queries, passages, strict=True)]
        rows = [{"input_ids": ids, "attention_mask": [1] * len(ids), "position_ids": [*range(len(ids))]} for ids, _ in found]
        self._counts = [self._counts[0] + sum(cut for _, cut in found), self._counts[1] + len(rows)]
        scores = np.empty(len(rows), np.float32)
        for some, inputs in batches(rows, self._tokenizer, device_of(self.network), left=True):
            taken = {name: values for name, values in inputs.items() if name in self._known}
            logits = self.network(**taken, logits_to_keep=1, use_cache=False).logits[:, -1].float()
            scores[some] = (logits[:, 0] - logits[:, 1]).cpu().numpy()
        return scores

    def cuts(self) -> dict[str, tuple[int, int]]:
        """Return how many pairs were cut, of how many."""
        return {"pairs": (self._counts[0], self._counts[1])}


Vector = Any
"""Numbers of a dense vector, float32, (D,); of a sparse one the words that aren't 0, ascending, and their weights."""


class TextScorer:
    """Encoder of single texts: each is encoded once, and a pair's score is the product of its two vectors.

    Vectors stay in memory: four bytes a number of a dense one, eight a word of a sparse one, of which a text has a few hundred.

    Args:
        settings: of the teacher.
    """

    def __init__(self, settings: ScorerSettings) -> None:
        recipe = read_recipe(settings.path, settings.kind)
        _, self._tokenizer, self.max_length = _opened(settings)
        dtype, self._lower, self._sparse = getattr(torch, settings.dtype), recipe.lower, settings.kind == SPARSE
        self.network = SparseEncoder(settings.path, dtype) if self._sparse else DenseEncoder(settings.path, recipe, dtype)
        said = f"{settings.path} has no modules.json that says how its tokens become a vector"
        self.notes = [] if recipe.told or self._sparse else [f"{said}: it is their mean, compared by cosine."]
        self.notes += [COSINES] if recipe.similarity == "cosine" else []
        given = {
            "queries": (settings.query_prompt, recipe.query_prompt),
            "passages": (settings.passage_prompt, recipe.passage_prompt),
        }
        self._prompts = {side: own if asked is None else asked for side, (asked, own) in given.items()}
        self._vectors: dict[str, dict[str, Vector]] = {side: {} for side in self._prompts}
        self._cut, self._read = dict.fromkeys(self._prompts, 0), dict.fromkeys(self._prompts, 0)

    def score(self, queries: Sequence[str], passages: Sequence[str]) -> NDArray[np.float32]:
        """Score pairs, (N,)."""
        product = overlap if self._sparse else np.dot
        asked, answers = self._encoded("queries", queries), self._encoded("passages", passages)
        return np.array([product(asked[one], answers[other]) for one, other in zip(queries, passages, strict=True)], np.float32)

    def _encoded(self, side: str, texts: Sequence[str]) -> Mapping[str, Vector]:
        """Return the vectors of texts, by text; those that are new are encoded."""
        known = self._vectors[side]
        new = [text for text in dict.fromkeys(texts) if text not in known]
        known |= zip(new, self.encode(side, new), strict=True)
        return known

    @torch.inference_mode()
    def encode(self, side: str, texts: Sequence[str]) -> list[Vector]:
        """Encode ``queries`` or ``passages``, each as often as it is named; none is kept here."""
        read_as = [self._prompts[side] + text for text in texts]
        rows, cut = read(self._tokenizer, self.max_length, [text.lower() for text in read_as] if self._lower else read_as)
        self._cut[side] += cut
        self._read[side] += len(rows)
        found: list[Vector] = [None] * len(rows)
        for some, inputs in batches(rows, self._tokenizer, device_of(self.network)):
            for at, vector in zip(some.tolist(), self.network(**inputs).cpu().numpy(), strict=True):
                found[at] = _sparse(vector) if self._sparse else vector
        return found

    def cuts(self) -> dict[str, tuple[int, int]]:
        """Return how many queries and passages were cut, of how many."""
        return {side: (self._cut[side], self._read[side]) for side in self._prompts}


def _sparse(vector: NDArray[np.float32]) -> Vector:
    words = np.flatnonzero(vector).astype(np.int32)
    return words, vector[words]


def overlap(one: Vector, other: Vector) -> np.float32:
    """Multiply two sparse vectors: only words that both have count."""
    _, left, right = np.intersect1d(one[0], other[0], assume_unique=True, return_indices=True)
    return np.dot(one[1][left], other[1][right])


def read(
    tokenizer: "PreTrainedTokenizerFast", most: int, texts: Sequence[str], beside: Sequence[str] | None = None
) -> tuple[list[Row], int]:
    """Tokenise texts, or pairs of them, as the tokenizer's own model wants them; text is text, special tokens in it too.

    Returns:
        The inputs of each, ``most`` tokens at most, of a pair the longer cut first; and how many were cut.
    """
    if not texts:
        return [], 0
    given = as_text(tokenizer, texts), None if beside is None else as_text(tokenizer, beside)
    found = tokenizer(*given, truncation="longest_first", max_length=most)
    rows = [dict(zip(found, values, strict=True)) for values in zip(*found.values(), strict=True)]
    return rows, sum(bool(each.overflowing) for each in found.encodings)


def batches(
    rows: Sequence[Row], tokenizer: "PreTrainedTokenizerFast", device: torch.device, left: bool = False
) -> Iterator[tuple[NDArray[np.int64], dict[str, Tensor]]]:
    """Yield inputs of similar length, padded to the longest, the longest ones first; a batch holds so many tokens at most.

    Args:
        rows: inputs of each text or pair.
        tokenizer: gives the padding.
        device: gets the batches, and says how many tokens one has (``BUDGET``).
        left: pad on the left.

    Yields:
        Places of the rows, (B,), and their inputs, int64, (B, T) each.
    """
    lengths = np.array([len(row["input_ids"]) for row in rows], np.int64)
    order, at, budget = (-lengths).argsort(kind="stable"), 0, BUDGET.get(device.type, BUDGET["cpu"])
    padding = {"input_ids": tokenizer.pad_token_id or 0, "token_type_ids": tokenizer.pad_token_type_id}
    while at < len(order):
        longest = max(1, int(lengths[order[at]]))
        some = order[at : at + max(1, budget // longest)]
        at += len(some)
        inputs = {name: np.full((len(some), longest), padding.get(name, 0), np.int64) for name in rows[0]}
        for line, place in enumerate(some.tolist()):
            span = slice(longest - lengths[place], longest) if left else slice(lengths[place])
            for name, values in rows[place].items():
                inputs[name][line, span] = values
        yield some, {name: torch.from_numpy(values).to(device) for name, values in inputs.items()}


def exact(layer: nn.Linear) -> None:
    """Let a network's last layer compute in float32: in bfloat16 many scores would be equal."""
    layer.float()
    layer.register_forward_pre_hook(lambda _, given: (given[0].float(),))


def device_of(network: nn.Module) -> torch.device:
    """Return where a network is."""
    return next(network.parameters()).device
