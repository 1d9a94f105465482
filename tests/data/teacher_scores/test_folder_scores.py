"""Teachers' scores on disk: read back exactly, refused where they don't fit."""

import json
from pathlib import Path

import numpy as np
import pytest

from rankdistil.data.collections.reader import Reader
from rankdistil.data.collections.texts import Collection, LiveTexts
from rankdistil.data.teacher_scores.folder import Shard, load_scores, read_shard, shard_name, texts_scored, write_shard

MADE_OF = {"teacher": "abc", "tokenizer": "t", "max_length": 27, "dtype": "float32"}
PAIRS = [("q1", "a", 1.5), ("q1", "b", -0.25), ("q2", "a", 3.0e-7), ("q2", "c", -7.125)]


@pytest.fixture
def texts() -> Collection:
    """Texts of all ids but those that begin with x."""
    return Collection(*(LiveTexts(lambda ids: {key: "" for key in ids if key[0] != "x"}, None) for _ in range(2)))


@pytest.fixture
def folder(tmp_path: Path):
    """Write scores in two shards; return their folder."""

    def write(pairs: list[tuple[str, str, float]] = PAIRS, name: str = "scores") -> Path:
        target = tmp_path / name
        target.mkdir()
        shards = {}
        for number, rows in enumerate((pairs[:3], pairs[3:])):
            queries, passages, scores = zip(*rows, strict=True)
            write_shard(target / shard_name(number), Shard(queries, passages, np.array(scores, np.float32)))
            shards[shard_name(number)] = len(rows)
        (target / "scores.json").write_text(json.dumps({"made_of": MADE_OF, "shards": shards}))
        return target

    return write


def rows(texts: Collection, pairs: list[tuple[str, str]]) -> tuple[np.ndarray, np.ndarray]:
    queries, passages = zip(*pairs, strict=True)
    return texts.queries.rows(queries), texts.passages.rows(passages)


def test_scores_are_read_back_bit_by_bit_in_any_order(folder, texts):
    scores = load_scores(folder(), texts, MADE_OF)
    wanted = [PAIRS[index] for index in (2, 0, 3, 1, 0)]
    found = scores.of(*rows(texts, [pair[:2] for pair in wanted]))
    assert found.dtype == np.float32
    assert found.tolist() == [float(np.float32(score)) for *_, score in wanted]


def test_scores_of_texts_that_are_not_trained_on_are_left_out(folder, texts):
    assert len(load_scores(folder([*PAIRS, ("x9", "a", 1.0), ("q1", "x", 2.0)]), texts, {})) == 4


def test_a_pair_that_recurs_with_the_same_score_counts_once(folder, texts):
    scores = load_scores(folder([*PAIRS, PAIRS[1], PAIRS[0]]), texts, {})
    assert len(scores) == 4
    assert scores.of(*rows(texts, [PAIRS[1][:2]])).tolist() == [-0.25]


def test_a_pair_with_two_scores_is_refused_with_both(folder, texts):
    place = folder([*PAIRS, ("q1", "b", -0.25000003), ("q2", "a", 1.0), ("q1", "b", -0.25)])
    with pytest.raises(ValueError) as caught:
        load_scores(place, texts, {})
    assert str(caught.value) == (
        f"teacher.scores={place} holds two scores of query q1 and passage b, -0.25 and -0.25000003 (2 pairs have several). "
        "A teacher gives a pair one score. Score or import again, from one teacher."
    )


def test_scores_of_another_collection_are_refused(folder, texts):
    place = folder([(f"x{query}", passage, score) for query, passage, score in PAIRS])
    with pytest.raises(ValueError) as caught:
        load_scores(place, texts, {})
    assert str(caught.value) == (
        f"teacher.scores={place} holds 4 scores, none of them of queries and passages that are trained on. "
        "Do the scores and the collection belong together?"
    )


def test_a_pair_without_a_score_is_named(folder, texts):
    scores = load_scores(folder(), texts, {})
    with pytest.raises(ValueError, match=r"holds no score of query q2 and passage b \(1 of 2 pairs asked for are missing\)"):
        scores.of(*rows(texts, [("q1", "a"), ("q2", "b")]))


@pytest.mark.parametrize(
    ("key", "value"),
    [("teacher", "other"), ("tokenizer", "u"), ("max_length", 99), ("dtype", "bfloat16")],
)
@pytest.mark.fault("B12")
def test_scores_made_with_other_settings_are_refused_with_the_difference(folder, texts, key, value):
    place = folder()
    with pytest.raises(ValueError) as caught:
        load_scores(place, texts, MADE_OF | {key: value})
    assert str(caught.value).startswith(
        f"teacher.scores={place} were made with other settings (there -> asked for):\n  {key}: "
    )
    assert f"{key}: {MADE_OF[key]} -> {value}\n" in str(caught.value)
    assert ("; teacher.export=<the teacher that scored> gives its tokenizer." in str(caught.value)) is (key == "tokenizer")


def test_scores_belong_to_the_texts_and_not_to_where_they_lie(collection, tmp_path):
    one = texts_scored(Reader(collection()))
    assert one.keys() == {"queries", "passages"}
    assert texts_scored(Reader(collection(qrels="1 0 a 1\n", triples="1\ta\tb\n"))) == one
    assert texts_scored(Reader(collection(corpus="a\tAnother text.\n")))["passages"] != one["passages"]
    embedded = texts_scored(Reader("rankdistil/almanac/train"))
    assert embedded.keys() == one.keys()
    assert all(text.startswith("rankdistil/almanac/train ") for text in embedded.values())


@pytest.mark.fault("B12")
def test_scores_of_other_texts_under_the_same_ids_are_refused(collection, folder, texts):
    place = folder()
    header = json.loads((place / "scores.json").read_text())
    header["made_of"] |= texts_scored(Reader(collection()))
    (place / "scores.json").write_text(json.dumps(header))
    load_scores(place, texts, texts_scored(Reader(collection())))
    now = texts_scored(Reader(collection(corpus="a\tAnother text.\n")))
    with pytest.raises(ValueError, match=rf"  passages: {header['made_of']['passages']} -> {now['passages']}\n"):
        load_scores(place, texts, now)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.fault("B10")
def test_a_score_that_is_not_finite_is_named_before_training(folder, texts, bad):
    place = folder([*PAIRS[:3], ("q7", "p7", bad)])
    with pytest.raises(
        ValueError, match=r"part-00001\.parquet: the score of query q7 and passage p7 is (nan|inf)\. Remove part"
    ):
        load_scores(place, texts, {})


@pytest.mark.fault("B11")
def test_a_missing_a_short_and_a_cut_shard_are_refused(folder, texts):
    place = folder()
    shard = place / shard_name(0)
    content = shard.read_bytes()
    shard.unlink()
    with pytest.raises(ValueError, match=r"part-00000\.parquet is missing \(3 scores\)\. Score again, with resume=true\."):
        load_scores(place, texts, {})
    write_shard(shard, Shard(["q1"], ["a"], np.ones(1, np.float32)))
    with pytest.raises(ValueError, match=r"part-00000\.parquet holds 1 scores, expected 3\. Remove it and score again\."):
        load_scores(place, texts, {})
    shard.write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match=r"part-00000\.parquet can't be read as scores \(.*\)\. Remove it and score again\."):
        load_scores(place, texts, {})


def test_a_folder_without_scores_says_how_to_make_them(tmp_path, texts):
    with pytest.raises(FileNotFoundError, match=r"holds no scores\.json\. Make scores with python train\.py"):
        load_scores(tmp_path, texts, {})


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"\xff", "'utf-8' codec can't decode byte 0xff in position 0: invalid start byte"),
        (b"[" * 9999, "maximum recursion depth exceeded while decoding a JSON array from a unicode string"),
        (b"3", "it holds no object"),
        (b'{"made_of": {}}', "shards is null"),
        (b'{"shards": [1], "made_of": {}}', "shards is [1]"),
        (b'{"shards": {}, "made_of": 3}', "made_of is 3"),
        (b'{"shards": {"../part-00000.parquet": 3}, "made_of": {}}', 'of a shard it says {"../part-00000.parquet": 3}'),
        (b'{"shards": {"part-00000.parquet": "x"}, "made_of": {}}', 'of a shard it says {"part-00000.parquet": "x"}'),
    ],
)
def test_a_damaged_header_is_named(folder, texts, content, told):
    scores = folder()
    (scores / "scores.json").write_bytes(content)
    with pytest.raises(ValueError) as caught:
        load_scores(scores, texts, {})
    assert str(caught.value) == f"{scores}/scores.json is damaged ({told}). Remove {scores} and score again."


@pytest.mark.parametrize(
    ("column", "values"),
    [("query_id", ["q1", None]), ("score", [1.5, None]), ("score", ["high", "low"]), ("score", [[1.5], [2.0]]),
     ("passage_id", [b"a", b"\xff"])],
)  # fmt: skip
def test_a_shard_with_other_columns_or_without_a_value_is_named(tmp_path, column, values):
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    columns = {"query_id": ["q1", "q2"], "passage_id": ["a", "b"], "score": [1.5, 2.5]} | {column: values}
    pq.write_table(pa.table(columns), tmp_path / shard_name(0))
    with pytest.raises(ValueError, match=r"part-00000\.parquet can't be read as scores \(.*\)\. Remove it and score again\.$"):
        read_shard(tmp_path / shard_name(0))
