"""Published scores of every text format: what is read, and that every complaint names file and line."""

import gzip
from pathlib import Path

import pytest

from rankdistil.data.teacher_scores.formats import Ids, TextIds, read_scores

NO_IDS = Ids(TextIds(None, "queries"), TextIds(None, "corpus"))


def written(folder: Path, content: str, name: str = "some.tsv") -> Path:
    path = folder / name
    path.write_bytes(gzip.compress(content.encode()) if name.endswith(".gz") else content.encode())
    return path


def complaint(path: Path, name: str) -> str:
    """What the reader says about a file, behind the file's name."""
    with pytest.raises(ValueError) as caught:
        list(read_scores(name, path, NO_IDS))
    assert str(caught.value).startswith(str(path))
    return str(caught.value).removeprefix(str(path))


def test_pairs_are_score_query_and_passage(tmp_path):
    path = written(tmp_path, "8.15\t1185869\t0\n\n-1.5\t1185869\t1\n")
    assert list(read_scores("pairs", path, NO_IDS)) == [(1, "1185869", "0", 8.15), (3, "1185869", "1", -1.5)]


def test_triples_give_the_positive_and_the_negative_a_score(tmp_path):
    path = written(tmp_path, "9.5\t-3.25\t400296\t1540783\t3518497\n")
    assert list(read_scores("triples", path, NO_IDS)) == [(1, "400296", "1540783", 9.5), (1, "400296", "3518497", -3.25)]


def test_a_run_gives_its_score_not_its_rank(tmp_path):
    path = written(tmp_path, "q1 Q0 d7 1 12.5 tag\nq1\tQ0\td3\t2\t1e-3\ttag\n", "some.run")
    assert list(read_scores("trec", path, NO_IDS)) == [(1, "q1", "d7", 12.5), (2, "q1", "d3", 0.001)]


def test_packed_files_are_read_alike(tmp_path):
    content = "1.5\t2.5\tq\ta\tb\n"
    plain, packed = written(tmp_path, content), written(tmp_path, content, "some.tsv.gz")
    assert list(read_scores("triples", packed, NO_IDS)) == list(read_scores("triples", plain, NO_IDS))


def test_columns_of_parquet_are_found_by_name(tmp_path):
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "train.parquet"
    pq.write_table(pa.table({"query_id": ["q", "q"], "passage_id": ["a", "b"], "score": [4.028059, -1.0]}), path)
    assert list(read_scores("pairs", path, NO_IDS)) == [(1, "q", "a", 4.028059), (2, "q", "b", -1.0)]


@pytest.mark.parametrize(
    ("name", "line", "message"),
    [
        ("pairs", "1.5\tq", ":2: 2 columns, expected 3 (score<TAB>query_id<TAB>passage_id): '1.5\\tq'"),
        ("pairs", "1.5\t\ta", ":2: empty query_id: '1.5\\t\\ta'"),
        ("pairs", "q\ta\t1.5", ":2: score is 'q', expected a finite number."),
        ("triples", "1\tx\tq\ta\tb", ":2: negative_score is 'x', expected a finite number."),
        ("triples", "inf\t1\tq\ta\tb", ":2: positive_score is 'inf', expected a finite number."),
        ("trec", "q Q0 a 1 nan tag", ":2: score is 'nan', expected a finite number."),
        ("trec", "q Q0 a 1 2.0", ":2: 5 columns, expected 6 (query_id Q0 passage_id rank score tag): 'q Q0 a 1 2.0'"),
    ],
)
def test_a_bad_line_is_located(tmp_path, name, line, message):
    good = {"pairs": "1\tq\tz", "triples": "1\t0\tq\ty\tz", "trec": "q Q0 z 1 3.0 tag"}[name]
    assert complaint(written(tmp_path, f"{good}\n{line}\n"), name) == message


@pytest.mark.fault("D4")
def test_a_score_beyond_float32_is_refused_the_largest_is_not(tmp_path):
    path = written(tmp_path, "3.4028234e38\tq\ta\n-3.5e38\tq\tb\n")
    assert complaint(path, "pairs") == ":2: the score of query q and passage b is -3.5e+38, expected a finite float32."


@pytest.mark.parametrize("name", ["scores.pkl", "scores.pickle", "scores.pkl.gz", "SCORES.PKL"])
@pytest.mark.fault("G10")
def test_a_pickle_is_not_opened(tmp_path, name):
    message = complaint(tmp_path / name, "sentence_transformers")  # it isn't there: nothing looked
    assert message == (
        " is a pickle: it can run any code when it is read, so it isn't read. sentence-transformers' cross-encoder scores are "
        "in JSON lines too: sbert.net/datasets/msmarco-hard-negatives.jsonl.gz, format=sentence_transformers."
    )
