"""Published teachers' scores, read as (line, query id, passage id, score); every complaint names file and line.

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

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np

from rankdistil.data.openers import kind_of
from rankdistil.data.parse import fields, number_in
from rankdistil.data.score_records import Ids, Score, flag_embedding, sentence_transformers

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
