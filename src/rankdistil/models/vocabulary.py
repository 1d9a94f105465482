"""Vocabulary trimming: a ranker that keeps the tokens of one language or collection, and scores its texts as before.

In a multilingual ranker the embeddings of a quarter of a million tokens are most of the weights; a collection in one language
needs a tenth of them. A text whose tokens are all kept is cut into the same tokens as before: the longest match, the likeliest
path and the merges that lead to a kept token are all among what is left. Any other text falls into shorter pieces.

Source: Abdaoui et al. 2020, arXiv:2010.05609.
"""

import shutil
import unicodedata
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import nn

from rankdistil.data.encode import PairEncoder
from rankdistil.files import read_json, write_json
from rankdistil.models.checkpoints import load_ranker
from rankdistil.models.families import family_of
from rankdistil.models.locate import COPY

CHUNK = 4096  # texts that are tokenised at a time
WHOLE = 1 << 20  # tokens of a text at most: all of it
TOKENISER, SETTINGS, CONFIG = "tokenizer.json", "tokenizer_config.json", "config.json"
COPIED = ("special_tokens_map.json", "sentence_bert_config.json")


def seen_tokens(encoder: PairEncoder, texts: Iterable[str]) -> set[int]:
    """Return the ids of all tokens that occur in texts, special ones left out."""
    texts, found = iter(texts), set[int]()
    while some := list(islice(texts, CHUNK)):
        for ids in encoder.token_ids(some, WHOLE):
            found.update(ids)
    return found


def trim(source: Path, target: Path, seen: Iterable[int]) -> tuple[int, int]:
    """Write a ranker again with fewer tokens: those that are seen, special ones, single letters of the same scripts.

    Args:
        source: an export.
        target: an empty folder for the smaller one.
        seen: ids of tokens.

    Returns:
        The size of the vocabulary before and after. Ids keep their order.

    Raises:
        FileNotFoundError: if the export's tokenizer isn't in one file.
    """
    if not (source / TOKENISER).is_file():
        raise FileNotFoundError(f"{source / TOKENISER} is not there. {COPY}")
    ranker, tokens, settings = load_ranker(str(source)), read_json(source / TOKENISER, COPY), read_json(source / CONFIG, COPY)
    wanted = _wanted(tokens, set(seen))
    if isinstance(family_of(ranker.config).padding, str):  # which counts positions from the id of its padding
        wanted |= set(range(ranker.config.pad_token_id + 1))
    kept = sorted(wanted)
    moved = {old: new for new, old in enumerate(kept)}
    words: nn.Embedding = ranker.bert.get_input_embeddings()
    before = words.num_embeddings
    with torch.no_grad():
        smaller = nn.Embedding(len(kept), words.embedding_dim, moved.get(words.padding_idx), _weight=words.weight[kept])
    ranker.bert.set_input_embeddings(smaller)
    named = {key: value for key, value in settings.items() if key.endswith("_token_id") and isinstance(value, int)}
    special = {key: moved[value] for key, value in named.items() if value in moved}
    ranker.bert.save_pretrained(target)
    write_json(target / CONFIG, settings | special | {"vocab_size": len(kept)})
    write_json(target / TOKENISER, _renumbered(tokens, moved))
    own = read_json(source / SETTINGS, COPY)
    if "added_tokens_decoder" in own:
        own["added_tokens_decoder"] = {str(moved[int(key)]): value for key, value in own["added_tokens_decoder"].items()}
    write_json(target / SETTINGS, own)
    for name in COPIED:
        if (source / name).is_file():
            shutil.copyfile(source / name, target / name)
    return before, len(kept)


def _wanted(tokens: dict[str, Any], wanted: set[int]) -> set[int]:
    """Add to the tokens that are seen what cutting texts needs, and single letters, which other texts fall into."""
    model, pieces = tokens["model"], dict(_pieces(tokens["model"]))
    wanted |= {token["id"] for token in tokens["added_tokens"]}
    wanted |= {at for at in (pieces.get(model.get("unk_token")), model.get("unk_id")) if at is not None}
    if model["type"] == "Unigram":  # an unknown letter costs a bit more than the unlikeliest piece
        wanted.add(min(range(len(model["vocab"])), key=lambda at: model["vocab"][at][1]))
    byte_level = model["type"] == "BPE"
    scripts = {_script(letter) for piece, at in pieces.items() if at in wanted for letter in piece}
    for piece, at in pieces.items():
        bare = piece.removeprefix(model.get("continuing_subword_prefix") or "")
        if (len(bare) == 1 and (byte_level or _script(bare) in scripts)) or bare.startswith("<0x"):
            wanted.add(at)
    return _with_parts(wanted, pieces, model) if byte_level else wanted


def _script(letter: str) -> str:
    """Tell a letter's script, as Unicode names it (LATIN, CJK); what is no letter is of all."""
    return unicodedata.name(letter, "").partition(" ")[0] if letter.isalpha() else ""


def _pieces(model: dict[str, Any]) -> Iterator[tuple[str, int]]:
    """Yield text and id of each piece."""
    if model["type"] == "Unigram":
        return ((piece, at) for at, (piece, _) in enumerate(model["vocab"]))
    return iter(model["vocab"].items())


def _merges(model: dict[str, Any]) -> Iterator[tuple[Any, tuple[str, str, str]]]:
    """Yield each merge as it is written, and its parts and result."""
    prefix = model.get("continuing_subword_prefix") or ""
    for merge in model["merges"]:
        one, other = merge.split(" ") if isinstance(merge, str) else merge
        yield merge, (one, other, one + other.removeprefix(prefix))


def _with_parts(wanted: set[int], pieces: dict[str, int], model: dict[str, Any]) -> set[int]:
    """Add what tokens are merged from, down to letters."""
    made: dict[str, set[str]] = {}
    for _, (one, other, result) in _merges(model):
        made.setdefault(result, set()).update((one, other))
    left = [piece for piece, at in pieces.items() if at in wanted]
    while left:
        new = [part for part in made.get(left.pop(), ()) if pieces[part] not in wanted]
        wanted.update(pieces[part] for part in new)
        left += new
    return wanted


def _renumbered(tokens: dict[str, Any], moved: dict[int, int]) -> dict[str, Any]:
    """Give the tokens of a ``tokenizer.json`` their new ids; those without one are left out."""
    model = dict(tokens["model"])
    pieces = {piece: moved[at] for piece, at in _pieces(model) if at in moved}
    if model["type"] == "Unigram":
        model["vocab"] = [row for at, row in enumerate(model["vocab"]) if at in moved]
        model["unk_id"] = moved.get(model["unk_id"])
    else:
        model["vocab"] = pieces
    if model["type"] == "BPE":
        model["merges"] = [merge for merge, parts in _merges(model) if pieces.keys() >= set(parts)]
    added = [token | {"id": moved[token["id"]]} for token in tokens["added_tokens"]]
    ends = _ends(tokens["post_processor"], moved)
    padding = tokens["padding"] and tokens["padding"] | {"pad_id": moved[tokens["padding"]["pad_id"]]}
    return tokens | {"model": model, "added_tokens": added, "post_processor": ends, "padding": padding}


def _ends(processor: Any, moved: dict[int, int]) -> Any:
    """Give the special tokens around a text, or a pair, their new ids."""
    if not isinstance(processor, dict):
        return processor
    own = dict(processor)
    if "processors" in own:
        own["processors"] = [_ends(each, moved) for each in own["processors"]]
    for side in ("sep", "cls"):
        if side in own:
            own[side] = [own[side][0], moved[own[side][1]]]
    if own["type"] == "TemplateProcessing":
        own["special_tokens"] = {
            name: token | {"ids": [moved[at] for at in token["ids"]]} for name, token in own["special_tokens"].items()
        }
    return own
