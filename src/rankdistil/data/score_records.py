"""Teachers' scores as other training libraries keep them, in JSON lines or Parquet."""

import re
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from rankdistil.data.parse import records
from rankdistil.data.text_ids import TextIds
from rankdistil.data.values import id_of, shown

Score = tuple[int, str, str, float]
"""Line (in Parquet row), query id, passage id, score."""

Record = dict[str, Any]
PASSAGES = re.compile(r"(passage|positive|negative(?:_\d+)?)(?:_id)?")
SCORES = ("score", "scores", "label")
LAYOUTS = (
    "query_id (or query), positive_id (or positive), negative_id (or negative, negative_1, ...) and a list score; "
    "query_id, passage_id and one score; or qid, pos and neg with ce-score"
)


class Ids(NamedTuple):
    """Attributes: queries, passages: where rows hold texts instead of ids."""

    queries: TextIds
    passages: TextIds


def sentence_transformers(path: Path, ids: Ids) -> Iterator[Score]:
    """Read rows of sentence-transformers: mined hard negatives with ce-score, tuples with a list of scores, or scored pairs.

    Raises:
        ValueError: for another layout, a margin in place of the scores it is the difference of, or an unknown text.
    """
    for line, record in records(path):
        where = f"{path}:{line}"
        pairs = _mined(record, where) if "qid" in record else _tuple(record, where, ids)
        for query, passage, score in pairs:
            yield line, query, passage, score


def flag_embedding(path: Path, ids: Ids) -> Iterator[Score]:
    """Read rows of FlagEmbedding: query, pos, neg, pos_scores, neg_scores.

    Raises:
        ValueError: for a row without scores, with too few or too many, or with an unknown text.
    """
    for line, record in records(path):
        where = f"{path}:{line}"
        query = _id_of(record, "query", ids.queries, where)
        for kind in ("pos", "neg"):
            texts, scores = _list(record, kind, where), record.get(f"{kind}_scores")
            if not isinstance(scores, list):
                raise ValueError(f"{where}: no {kind}_scores. FlagEmbedding's add_reranker_score.py adds a teacher's scores.")
            if len(scores) != len(texts):
                raise ValueError(f"{where}: {len(scores)} {kind}_scores, expected {len(texts)}, one for each of {kind}.")
            for text, score in zip(texts, scores, strict=True):
                yield line, query, _id_of({kind: text}, kind, ids.passages, where), _number(score, f"{kind}_scores", where)


def _mined(record: Record, where: str) -> Iterator[tuple[str, str, float]]:
    query, negatives = _id(record, "qid", where), record.get("neg")
    if not isinstance(negatives, dict):
        raise ValueError(f"{where}: neg is {shown(negatives)}, expected lists by system.")
    for item in chain(_list(record, "pos", where), *(_list(negatives, system, where) for system in negatives)):
        if not isinstance(item, dict) or "pid" not in item or "ce-score" not in item:
            raise ValueError(
                f"{where}: {shown(item)} has no pid and ce-score. Of msmarco-hard-negatives.jsonl.gz, the file at "
                "sbert.net/datasets has scores; the one on the Hugging Face hub has ids only."
            )
        yield query, _id(item, "pid", where), _number(item["ce-score"], "ce-score", where)


def _tuple(record: Record, where: str, ids: Ids) -> Iterator[tuple[str, str, float]]:
    names = sorted({found[1] for found in map(PASSAGES.fullmatch, record) if found}, key=_place)
    keys = [key for key in SCORES if key in record]
    alone = names == ["passage"]
    if not (alone or (names.count("positive") == 1 and "passage" not in names)) or len(keys) != 1:
        raise ValueError(f"{where}: the columns are {', '.join(record)}; expected {LAYOUTS}.")
    scores = _scores(record[keys[0]], keys[0], len(names), where)
    query = _id_of(record, "query", ids.queries, where)
    for name, score in zip(names, scores, strict=True):
        yield query, _id_of(record, name, ids.passages, where), _number(score, keys[0], where)


def _place(name: str) -> tuple[int, int]:
    """Positive first, then the negatives by number: the order of their scores."""
    kind, _, number = name.partition("_")
    return kind == "negative", int(number or 0)


def _scores(value: Any, key: str, passages: int, where: str) -> list[Any]:
    if not isinstance(value, list):
        if passages > 1:
            _refuse_margin(key, where)
        if key == "label":
            raise ValueError(f"{where}: label is a judgment of one passage, no teacher's score. Import a file with score.")
        return [value]
    if len(value) == passages - 1:
        _refuse_margin(key, where)
    if len(value) != passages:
        raise ValueError(f"{where}: {len(value)} values in {key}, expected {passages}: the positive's, then each negative's.")
    return value


def _refuse_margin(key: str, where: str) -> NoReturn:
    raise ValueError(
        f"{where}: {key} has one number for positive and negative: the margin between them, not the teacher's score of each, "
        f"which can't be told from it. What works: a list [positive, negative] in {key}; rows of query_id, passage_id, score; "
        "format=triples."
    )


def _id_of(record: Record, name: str, texts: TextIds, where: str) -> str:
    if f"{name}_id" in record:
        return _id(record, f"{name}_id", where)
    text = record.get(name)
    if not isinstance(text, str):
        raise ValueError(f"{where}: {name} is {shown(text)}, expected a text (or {name}_id, an id).")
    return texts.of(text, where)


def _id(record: Record, key: str, where: str) -> str:
    try:
        return id_of(record.get(key), key)
    except ValueError as fault:
        raise ValueError(f"{where}: {fault}") from None


def _list(record: Record, key: str, where: str) -> list[Any]:
    value = record.get(key)
    if not isinstance(value, list):
        raise ValueError(f"{where}: {key} is {shown(value)}, expected a list.")
    return value


def _number(value: Any, key: str, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, float | int):
        raise ValueError(f"{where}: {key} is {shown(value)}, expected a number.")
    return value
