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
from typing import Any, NamedTuple

import numpy as np

from rankdistil.data.files.layout import id_of, shown
from rankdistil.data.files.lines import fields, kind_of, number_in, records, texts

DIGEST = 16  # bytes kept of a text: among ten million, two share them with a chance below 1e-24
LARGEST = float(np.finfo(np.float32).max)
PICKLES = (".pkl", ".pickle")

Score = tuple[int, str, str, float]
"""Line (in Parquet row), query id, passage id, score."""
Record = dict[str, Any]
Found = Iterator[tuple[str, str, float]]
"""Query id, passage id and score of the pairs of a record."""


class LocatedError(ValueError):
    """Names another file than the one that is being read, and its line."""


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

    def of(self, text: str) -> str:
        """Return the id of a text, the first in the file if several have it.

        Args:
            text: exactly as in the file, a title in front of it included.

        Raises:
            ValueError: if no id has the text, or no file was named.
        """
        if self._file is None:
            raise ValueError(
                f"{text[:80]!r} is a text, not an id. Name the file that gives texts their ids: {self._key}=<file>."
            )
        if self._ids is None:
            try:
                self._ids = self._read(self._file)
            except ValueError as fault:
                raise LocatedError(str(fault)) from None
        digest = _digest(text)
        found = self._ids.get(digest)
        if found is None:
            raise ValueError(f"no text of {self._key}={self._file} is {text[:80]!r}. Do the files belong together?")
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


class Ids(NamedTuple):
    """Attributes: queries, passages: where rows hold texts instead of ids."""

    queries: TextIds
    passages: TextIds


class Layout(NamedTuple):
    """Columns of a format by ids. Attributes: separator: a tab, or None for blanks; names: of all; pairs: score and passage."""

    separator: str | None
    names: tuple[str, ...]
    pairs: tuple[tuple[str, str], ...]


TRIPLES = ("positive_score", "negative_score", "query_id", "positive_id", "negative_id")
BY_ID: Mapping[str, Layout] = {
    "pairs": Layout("\t", ("score", "query_id", "passage_id"), (("score", "passage_id"),)),
    "triples": Layout("\t", TRIPLES, (("positive_score", "positive_id"), ("negative_score", "negative_id"))),
    "trec": Layout(None, ("query_id", "Q0", "passage_id", "rank", "score", "tag"), (("score", "passage_id"),)),
}


def _rows(path: Path, layout: Layout) -> Iterator[Score]:
    of = layout.names.index
    query, pairs = of("query_id"), [(of(score), score, of(passage)) for score, passage in layout.pairs]
    for line, parts in fields(path, layout.separator, layout.names):
        for score, name, passage in pairs:
            yield line, parts[query], parts[passage], number_in(path, line, parts[score], float, name)


MEMBER = re.compile(r"(passage|positive|negative(?:_\d+)?)(?:_id)?")
SCORES = ("score", "scores", "label")
LAYOUTS = (
    "query_id (or query), positive_id (or positive), negative_id (or negative, negative_1, ...) and a list score; "
    "query_id, passage_id and one score; or qid, pos and neg with ce-score"
)
MARGIN = (
    "{key} has one number for positive and negative: the margin between them, not the teacher's score of each, which can't be "
    "told from it. What works: a list [positive, negative] in {key}; rows of query_id, passage_id, score; format=triples."
)


def sentence_transformers(record: Record, ids: Ids) -> Found:
    """Read mined hard negatives with ce-score, a tuple with a list of scores, or a scored pair.

    Raises:
        ValueError: for another layout, a margin in place of the scores it is the difference of, or an unknown text.
    """
    if "qid" in record:
        yield from _mined(record)
        return
    names = sorted({found[1] for found in map(MEMBER.fullmatch, record) if found}, key=_place)
    keys = [key for key in SCORES if key in record]
    if not (names == ["passage"] or (names.count("positive") == 1 and "passage" not in names)) or len(keys) != 1:
        raise ValueError(f"the columns are {', '.join(record)}; expected {LAYOUTS}.")
    scores = _scores(record[keys[0]], keys[0], len(names))
    query = _id_of(record, "query", ids.queries)
    for name, score in zip(names, scores, strict=True):
        yield query, _id_of(record, name, ids.passages), _number(score, keys[0])


def _mined(record: Record) -> Found:
    query, negatives = id_of(record["qid"], "qid"), record.get("neg")
    if not isinstance(negatives, dict):
        raise ValueError(f"neg is {shown(negatives)}, expected lists by system.")
    for item in chain(_list(record, "pos"), *(_list(negatives, system) for system in negatives)):
        if not isinstance(item, dict) or "pid" not in item or "ce-score" not in item:
            raise ValueError(
                f"{shown(item)} has no pid and ce-score. Of msmarco-hard-negatives.jsonl.gz, the file at sbert.net/datasets "
                "has scores; the one on the Hugging Face hub has ids only."
            )
        yield query, id_of(item["pid"], "pid"), _number(item["ce-score"], "ce-score")


def _place(name: str) -> tuple[int, int]:
    """Positive first, then the negatives by number: the order of their scores."""
    kind, _, number = name.partition("_")
    return kind == "negative", int(number or 0)


def _scores(value: Any, key: str, passages: int) -> list[Any]:
    alone = not isinstance(value, list)
    given = [value] if alone else value
    if passages > 1 and (alone or len(given) == passages - 1):
        raise ValueError(MARGIN.format(key=key))
    if alone and key == "label":
        raise ValueError("label is a judgment of one passage, no teacher's score. Import a file with score.")
    if len(given) != passages:
        raise ValueError(f"{len(given)} values in {key}, expected {passages}: the positive's, then each negative's.")
    return given


def flag_embedding(record: Record, ids: Ids) -> Found:
    """Read a row of FlagEmbedding: query, pos, neg, pos_scores, neg_scores.

    Raises:
        ValueError: for a row without scores, with too few or too many, or with an unknown text.
    """
    query = _id_of(record, "query", ids.queries)
    for kind in ("pos", "neg"):
        passages, scores = _list(record, kind), record.get(f"{kind}_scores")
        if not isinstance(scores, list):
            raise ValueError(f"no {kind}_scores. FlagEmbedding's add_reranker_score.py adds a teacher's scores.")
        if len(scores) != len(passages):
            raise ValueError(f"{len(scores)} {kind}_scores, expected {len(passages)}, one for each of {kind}.")
        for text, score in zip(passages, scores, strict=True):
            yield query, _id_of({kind: text}, kind, ids.passages), _number(score, f"{kind}_scores")


def _id_of(record: Record, name: str, texts: TextIds) -> str:
    if f"{name}_id" in record:
        return id_of(record[f"{name}_id"], f"{name}_id")
    text = record.get(name)
    if not isinstance(text, str):
        raise ValueError(f"{name} is {shown(text)}, expected a text (or {name}_id, an id).")
    return texts.of(text)


def _list(record: Record, key: str) -> list[Any]:
    value = record.get(key)
    if not isinstance(value, list):
        raise ValueError(f"{key} is {shown(value)}, expected a list.")
    return value


def _number(value: Any, key: str) -> float:
    if isinstance(value, bool) or not isinstance(value, float | int):
        raise ValueError(f"{key} is {shown(value)}, expected a number.")
    return value


BY_TEXT: Mapping[str, Callable[[Record, Ids], Found]] = {
    "sentence_transformers": sentence_transformers,
    "flag_embedding": flag_embedding,
}
FORMATS = (*BY_ID, *BY_TEXT)


def _records(path: Path, found: Callable[[Record, Ids], Found], ids: Ids) -> Iterator[Score]:
    for line, record in records(path):
        try:
            pairs = [(line, *pair) for pair in found(record, ids)]
        except LocatedError:
            raise
        except ValueError as fault:
            raise ValueError(f"{path}:{line}: {fault}") from None
        yield from pairs


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
    for score in _rows(path, BY_ID[name]) if name in BY_ID else _records(path, BY_TEXT[name], ids):
        if not abs(score[3]) <= LARGEST:  # NaN too
            line, query, passage, value = score
            raise ValueError(
                f"{path}:{line}: the score of query {query} and passage {passage} is {value}, expected a finite float32."
            )
        yield score
