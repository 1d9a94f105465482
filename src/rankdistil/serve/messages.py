"""Schemas of requests and answers, as rerank clients send and expect them; what can't be read is refused in one sentence.

``documents`` come from clients of Cohere, Jina and infinity, ``texts`` from those of Text Embeddings Inference (TEI); each gets
its own answer. All of them expect scores from 0 to 1, so a score is the sigmoid of the logit, unless ``raw_scores`` (TEI,
infinity) asks for the logit. Hits are ordered by logits, which differ where sigmoids round to 1.

Bodies are checked by hand, 2.4 ms for a thousand documents and a megabyte, of which reading JSON is 1.0 ms. pydantic takes 0.2
ms, and was rejected: it answers in a tree that repeats the texts, and has no words for a text that stands in one of two places.
"""

import json
import math
import secrets
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from rankdistil.data.records import Pair


class Limits(NamedTuple):
    """What a request may have at most.

    Attributes:
        body: bytes.
        documents: documents, texts or pairs.
        characters: of a query or a document.
    """

    body: int = 16 << 20
    documents: int = 1000
    characters: int = 100_000


class RefusedError(Exception):
    """A request that isn't answered.

    Attributes:
        status: of HTTP.
        sentence: says why.
        retry_s: when to try again, in seconds; None where that won't help.
    """

    def __init__(self, status: int, sentence: str, retry_s: int | None = None) -> None:
        super().__init__(sentence)
        self.status, self.sentence, self.retry_s = status, sentence, retry_s


class Asked(NamedTuple):
    """What a request asks for.

    Attributes:
        key: where its texts stand: ``documents``, ``texts`` or ``pairs``; decides the shape of the answer.
        pairs: to be scored.
        top_n: how many hits to return at most.
        with_text: whether a hit has its text.
        raw: logits instead of their sigmoids.
    """

    key: str
    pairs: list[Pair]
    top_n: int
    with_text: bool
    raw: bool


KINDS = {str: "a text", bool: "a truth value", int: "a number", float: "a number", list: "a list", dict: "an object"}


def read_rerank(body: bytes, limits: Limits) -> Asked:
    """Read the body of a request for hits.

    Raises:
        RefusedError: if it isn't one, or is too large.
    """
    found = _object(body, "query, and documents or texts")
    query = _text(found.get("query"), "query", limits, empty=False)
    keys = [key for key in ("documents", "texts") if found.get(key) is not None]
    if len(keys) != 1:
        told = "both documents and texts are" if keys else "neither documents nor texts is"
        raise RefusedError(422, f"{told} given; expected one of them, a list of texts.")
    (key,) = keys
    texts = _list(found[key], key, limits)
    pairs = [Pair("", "", query, _document(each, f"{key}[{at}]", limits)) for at, each in enumerate(texts)]
    top_n = found.get("top_n")
    if top_n is not None and (isinstance(top_n, bool) or not isinstance(top_n, int) or top_n < 1):
        shown = top_n if type(top_n) in (int, float) else _kind(top_n)
        raise RefusedError(422, f"top_n is {shown}; expected a whole number of at least 1.")
    with_text = _flag(found, "return_documents" if key == "documents" else "return_text")
    return Asked(key, pairs, top_n or len(pairs), with_text, _flag(found, "raw_scores"))


def read_score(body: bytes, limits: Limits) -> Asked:
    """Read the body of a request for the scores of pairs.

    Raises:
        RefusedError: if it isn't one, or is too large.
    """
    found = _object(body, "pairs")
    rows = _list(found.get("pairs"), "pairs", limits)
    for at, row in enumerate(rows):
        if not isinstance(row, list) or len(row) != 2:
            raise RefusedError(422, f"pairs[{at}] is {_kind(row, counted=True)}; expected [query, passage].")
    pairs = [
        Pair("", "", _text(first, f"pairs[{at}][0]", limits, empty=False), _text(second, f"pairs[{at}][1]", limits))
        for at, (first, second) in enumerate(rows)
    ]
    return Asked("pairs", pairs, len(pairs), False, _flag(found, "raw_scores"))


def answer(asked: Asked, logits: Sequence[float], tokens: int, model: str) -> bytes:
    """Write an answer as JSON.

    Args:
        asked: what it answers.
        logits: of the pairs.
        tokens: of all pairs.
        model: name of the export.
    """
    scores = logits if asked.raw else [_sigmoid(logit) for logit in logits]
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    if asked.key == "pairs":
        return _json({"model": model, "scores": scores, "usage": usage})
    order = sorted(range(len(logits)), key=lambda at: -logits[at])[: asked.top_n]
    if asked.key == "texts":
        text = {at: {"text": asked.pairs[at].passage} for at in order} if asked.with_text else {}
        return _json([{"index": at, **text.get(at, {}), "score": scores[at]} for at in order])
    document = {at: {"document": {"text": asked.pairs[at].passage}} for at in order} if asked.with_text else {}
    results = [{"index": at, "relevance_score": scores[at], **document.get(at, {})} for at in order]
    return _json({"id": secrets.token_hex(16), "object": "list", "model": model, "results": results, "usage": usage})


def _sigmoid(logit: float) -> float:
    small = math.exp(-abs(logit))  # the other way round it would overflow
    return (1 if logit >= 0 else small) / (1 + small)


def _json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()


def _object(body: bytes, expected: str) -> dict[str, Any]:
    try:
        found = json.loads(body)
    except json.JSONDecodeError as error:
        raise RefusedError(400, f"the body is no JSON: {error}.") from None
    except UnicodeDecodeError:
        raise RefusedError(400, "the body is no JSON: it is not in UTF-8.") from None
    except RecursionError:
        raise RefusedError(400, "the body is no JSON that can be read: it is nested too deeply.") from None
    except ValueError:  # a number of more than 4300 digits
        raise RefusedError(400, "the body is no JSON that can be read: a number has too many digits.") from None
    if not isinstance(found, dict):
        raise RefusedError(422, f"the body is {_kind(found)}; expected an object with {expected}.")
    return found


def _list(value: Any, name: str, limits: Limits) -> list[Any]:
    if not isinstance(value, list):
        raise RefusedError(422, f"{name} is {_kind(value)}; expected a list.")
    if not value:
        raise RefusedError(422, f"{name} is empty; expected at least one.")
    if len(value) > limits.documents:
        raise RefusedError(413, f"{name} has {len(value)} entries; expected {limits.documents} at most.")
    return value


def _document(value: Any, name: str, limits: Limits) -> str:
    if isinstance(value, dict):
        return _text(value.get("text"), f"{name}.text", limits)
    return _text(value, name, limits)


def _text(value: Any, name: str, limits: Limits, empty: bool = True) -> str:
    if not isinstance(value, str):
        raise RefusedError(422, f"{name} is {_kind(value)}; expected a text.")
    if len(value) > limits.characters:
        raise RefusedError(413, f"{name} has {len(value)} characters; expected {limits.characters} at most.")
    if not empty and not value.strip():
        raise RefusedError(422, f"{name} is empty.")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        lone = f"a lone surrogate (character {error.start}), which is no text"
        raise RefusedError(422, f"{name} holds {lone}.") from None
    return value


def _flag(found: Mapping[str, Any], key: str) -> bool:
    value = found.get(key)
    if value is not None and not isinstance(value, bool):
        raise RefusedError(422, f"{key} is {_kind(value)}; expected true or false.")
    return bool(value)


def _kind(value: Any, counted: bool = False) -> str:
    if value is None:
        return "missing"
    if counted and isinstance(value, list):
        return f"a list of {len(value)}"
    return KINDS[type(value)]
