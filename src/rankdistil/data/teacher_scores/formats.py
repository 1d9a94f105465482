"""Formats of published teacher scores, read as (line, query id, passage id, score); every complaint names file and line.

pairs
    TSV: score, query_id, passage_id.
triples
    TSV: positive_score, negative_score, query_id, positive_id, negative_id, as the files of Zenodo record 4068216 (Hofstätter
    et al. 2020, arXiv:2010.02666): bert_cat_ensemble_msmarcopassage_train_scores_ids.tsv and that of one teacher.
trec
    A TREC run: query_id Q0 passage_id rank score tag.
sentence_transformers
    JSON lines or Parquet, in one of these layouts:
    ``{"qid", "pos": [{"pid", "ce-score"}], "neg": {system: [{"pid", "ce-score"}]}}``, as
    sbert.net/datasets/msmarco-hard-negatives.jsonl.gz;
    ``{"query_id", "passage_id", "score"}``, as the subset bert-ensemble-mse of sentence-transformers/msmarco;
    ``{"query", "positive", "negative", "scores": [positive, negative]}``, as mine_hard_negatives(output_scores=True) writes it,
    also with negative_1 to negative_n, with score or label instead of scores, and with query_id, positive_id, negative_id.
flag_embedding
    JSON lines or Parquet: ``{"query", "pos": [texts], "neg": [texts], "pos_scores": [...], "neg_scores": [...]}``.

All may be packed with gzip or Zstandard. The first three may also be JSON lines or Parquet with columns of these names. Pickles
aren't read: one can run any code.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from hashlib import blake2b
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import numpy as np

from rankdistil.data.files.layout import id_of, shown
from rankdistil.data.files.lines import fields, kind_of, number_in, records, texts

DIGEST = 16  # bytes kept of a text: among ten million, two share them with a chance below 1e-24


class TextIds:
    """Finds ids by their exact text. The file is read when the first is asked for.

    Args:
        file: ``id<TAB>text``, or BEIR's JSON lines or Parquet; None if none was named.
        key: of the command line, that names it.
    """

    def __init__(self, file: Path | None, key: str) -> None:
        self._file, self._key = file, key
        self._ids: dict[bytes, str] | None = None
        self._shared: set[bytes] = set()  # texts of several ids
        self._doubtful: set[bytes] = set()  # those of them that were asked for

    @property
    def doubtful(self) -> int:
        """Count the texts asked for that several ids have; the first in the file was returned."""
        return len(self._doubtful)

    def of(self, text: str, where: str) -> str:
        """Return the id of a text, the first in the file if several have it.

        Args:
            text: exactly as in the file, a title in front of it included.
            where: file and line that ask, for messages.

        Raises:
            ValueError: if no id has the text, or no file was named.
        """
        if self._file is None:
            raise ValueError(
                f"{where}: {text[:80]!r} is a text, not an id. Name the file that gives texts their ids: {self._key}=<file>."
            )
        if self._ids is None:
            self._ids = self._read(self._file)
        digest = _digest(text)
        found = self._ids.get(digest)
        if found is None:
            raise ValueError(f"{where}: no text of {self._key}={self._file} is {text[:80]!r}. Do the files belong together?")
        if digest in self._shared:
            self._doubtful.add(digest)
        return found

    def _read(self, file: Path) -> dict[bytes, str]:
        ids: dict[bytes, str] = {}
        for key, text in texts(file, repeated=True):  # an id with two texts is refused where it is trained on
            digest = _digest(text)
            if ids.setdefault(digest, key) != key:
                self._shared.add(digest)
        return ids


def _digest(text: str) -> bytes:
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=DIGEST).digest()


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


LARGEST = float(np.finfo(np.float32).max)
PICKLES = (".pkl", ".pickle")


def pairs(path: Path) -> Iterator[Score]:
    """Read score<TAB>query_id<TAB>passage_id."""
    for line, (score, query, passage) in fields(path, "\t", ("score", "query_id", "passage_id")):
        yield line, query, passage, number_in(path, line, score, float, "score")


def triples(path: Path) -> Iterator[Score]:
    """Read positive_score<TAB>negative_score<TAB>query_id<TAB>positive_id<TAB>negative_id: two scores of a line."""
    names = ("positive_score", "negative_score", "query_id", "positive_id", "negative_id")
    for line, (high, low, query, positive, negative) in fields(path, "\t", names):
        yield line, query, positive, number_in(path, line, high, float, names[0])
        yield line, query, negative, number_in(path, line, low, float, names[1])


def trec(path: Path) -> Iterator[Score]:
    """Read the scores of a TREC run."""
    for line, (query, _, passage, _, score, _) in fields(path, None, ("query_id", "Q0", "passage_id", "rank", "score", "tag")):
        yield line, query, passage, number_in(path, line, score, float, "score")


BY_ID: Mapping[str, Callable[[Path], Iterator[Score]]] = {"pairs": pairs, "triples": triples, "trec": trec}
BY_TEXT: Mapping[str, Callable[[Path, Ids], Iterator[Score]]] = {
    "sentence_transformers": sentence_transformers,
    "flag_embedding": flag_embedding,
}
FORMATS = (*BY_ID, *BY_TEXT)


def read_scores(name: str, path: Path, ids: Ids) -> Iterator[Score]:
    """Read a file of scores.

    Args:
        name: one of ``FORMATS``.
        path: the file.
        ids: of queries and passages, for rows that hold their texts.

    Raises:
        FileNotFoundError: if the file isn't there.
        ValueError: for a pickle, a bad line, or a score that isn't finite in float32.
    """
    if kind_of(path) in PICKLES:
        raise ValueError(
            f"{path} is a pickle: it can run any code when it is read, so it isn't read. sentence-transformers' cross-encoder "
            "scores are in JSON lines too: sbert.net/datasets/msmarco-hard-negatives.jsonl.gz, format=sentence_transformers."
        )
    for score in BY_ID[name](path) if name in BY_ID else BY_TEXT[name](path, ids):
        if not abs(score[3]) <= LARGEST:  # NaN too
            line, query, passage, value = score
            raise ValueError(
                f"{path}:{line}: the score of query {query} and passage {passage} is {value}, expected a finite float32."
            )
        yield score
