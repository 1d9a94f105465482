"""BM25 against its formula, with ties and empty queries."""

import gc
from dataclasses import replace
from itertools import islice
from math import log
from unittest.mock import ANY

import pytest

from rankdistil.data.collections import bm25
from rankdistil.data.collections.bm25 import Bm25
from rankdistil.data.collections.reader import Reader
from rankdistil.data.files import lines as file_lines
from rankdistil.data.settings import STEMMERS

FRUIT = [("a", "red apple"), ("b", "red car"), ("c", "apple pie apple"), ("d", "red car")]  # 2.25 words on average


def ids(passages, query, depth=10):
    return [hit.passage_id for hit in Bm25.build(passages).search({"q": query}, depth)["q"]]


def term(count: int, length: int, holding: int) -> float:
    """A term's score: k1 = 0.9, b = 0.4, four passages of 2.25 words; ``holding`` of them hold the term."""
    return log(1 + (4 - holding + 0.5) / (holding + 0.5)) * count / (count + 0.9 * (1 - 0.4 + 0.4 * length / 2.25))


def test_scores_are_those_of_the_formula():
    found = dict(Bm25.build(FRUIT).search({"q": "apple pie"}, 10)["q"])
    assert found == pytest.approx({"c": term(2, 3, 2) + term(1, 3, 1), "a": term(1, 2, 2)}, rel=1e-5)


def test_more_of_a_term_ranks_higher_and_a_rare_term_beats_a_frequent_one():
    assert ids(FRUIT, "apple") == ["c", "a"]
    assert ids(FRUIT, "red pie") == ["c", "d", "b", "a"]


def test_equal_scores_rank_by_descending_id():
    assert ids(FRUIT, "car") == ["d", "b"]
    assert ids(reversed(FRUIT), "car") == ["d", "b"]


def test_many_equal_scores_rank_by_descending_id_too():  # an unstable sort keeps the order of a few
    passages = [(f"{number:03}", "red car" if number % 3 else "blue boat") for number in range(300)]
    assert ids(passages, "car", depth=300) == [key for key, text in reversed(passages) if text == "red car"]


def test_ranking_does_not_depend_on_the_order_of_passages():
    queries = {"1": "apple car", "2": "red pie", "3": "red"}
    assert Bm25.build(FRUIT).search(queries, 10) == Bm25.build(FRUIT[::-1]).search(queries, 10)


def test_depth_cuts_the_ranking():
    assert ids(FRUIT, "red", depth=2) == ["d", "b"]


@pytest.mark.parametrize("query", ["boat", "the", "", "?!"])
def test_query_without_a_common_term_has_no_candidates(query):
    assert Bm25.build(FRUIT).search({"q": query, "r": "pie"}, 10).keys() == {"q", "r"}
    assert ids(FRUIT, query) == []


def test_passage_without_a_common_term_is_no_candidate():
    assert ids(FRUIT, "pie") == ["c"]


def test_inflected_forms_and_capitals_match():
    assert ids(FRUIT, "APPLES") == ids(FRUIT, "apple") == ["c", "a"]


def test_stop_words_never_match():
    assert ids([("a", "the car"), ("b", "the boat")], "the boat") == ["b"]


HOUSES = [("a", "die Häuser der Stadt"), ("b", "das Haus am See"), ("c", "die Stadt am Meer")]


@pytest.mark.parametrize(
    ("language", "query", "expected"),
    [
        ("de", "Häusern", {"a", "b"}),  # one stem, haus
        ("de", "die am", set()),  # stop words
        ("en", "Häusern", set()),
        ("en", "die am", {"a", "b", "c"}),  # a verb, and a form of one that is a stop word in German alone
        (None, "Haus", {"b"}),  # as it stands
        (None, "die", {"a", "c"}),
        ("fi", "die", {"a", "c"}),  # a stemmer, and no list of stop words
    ],
)
def test_words_are_stemmed_and_left_out_by_the_language_of_the_collection(language, query, expected):
    found = Bm25.build(HOUSES, language=language).search({"q": query}, 10)["q"]
    assert {hit.passage_id for hit in found} == expected


def test_every_language_has_its_stemmer():
    for language in STEMMERS:
        index = Bm25.build([*HOUSES, ("d", "42 zz9")], language=language)
        assert [hit.passage_id for hit in index.search({"q": "zz9"}, 9)["q"]] == ["d"]
    assert STEMMERS.keys() >= bm25.STOP_WORDS


def test_an_index_on_disk_is_one_of_its_language(collection, tmp_path):
    rows = "".join(f"{key}\t{text}\n" for key, text in HOUSES)
    split = replace(collection(corpus=rows, queries="q\tHäusern\n"), candidates=None)
    readers = [Reader(split, store=tmp_path / "store", language=language) for language in ("de", None, "de")]
    assert [len(reader.candidates(10)["q"]) for reader in readers] == [2, 0, 2]


def test_rankings_of_several_queries_do_not_mix():
    together = Bm25.build(FRUIT).search({"1": "apple", "2": "car"}, 10)
    apart = Bm25.build(FRUIT).search({"1": "apple"}, 10) | Bm25.build(FRUIT).search({"2": "car"}, 10)
    assert together == apart


def test_an_index_on_disk_ranks_as_the_one_in_memory_and_follows_its_data(tmp_path):
    queries, folder = {"1": "apple car", "2": "red pie", "3": "red", "4": "boat"}, tmp_path / "store" / "fruit-bm25"
    for _ in range(2):  # built, then read
        found = Bm25.open(folder, lambda: FRUIT, {"file": 1}).search(queries, 3)
        assert found == Bm25.build(FRUIT).search(queries, 3)
    changed = Bm25.open(folder, lambda: [*FRUIT, ("e", "red boat")], {"file": 2}).search(queries, 3)
    assert [hit.passage_id for hit in changed["4"]] == ["e"]


def test_an_index_is_not_read_again_from_its_data(tmp_path):
    Bm25.open(tmp_path / "store" / "fruit-bm25", lambda: FRUIT, {"file": 1})
    assert Bm25.open(tmp_path / "store" / "fruit-bm25", lambda: 1 / 0, {"file": 1}).search({"q": "pie"}, 1) == {
        "q": [("c", ANY)]
    }


@pytest.mark.parametrize("store", [False, True])
def test_splits_of_one_collection_share_one_index_while_they_are_in_use(collection, tmp_path, monkeypatch, store):
    built = []
    build = Bm25.build.__func__
    monkeypatch.setattr(Bm25, "build", classmethod(lambda cls, *given: built.append(1) or build(cls, *given)))
    folder = tmp_path / "store" if store else None
    split = replace(collection(), candidates=None)
    readers = [Reader(split, store=folder) for _ in range(2)]
    assert readers[0].candidates(3) == readers[1].candidates(3)
    assert (readers[0]._bm25 is readers[1]._bm25, len(built)) == (True, 1)
    (tmp_path / "corpus.tsv").write_text("a\tdogs\nb\tbees\nc\tcats\n")
    assert [hit.passage_id for hit in Reader(split, store=folder).candidates(3)["2"]] == ["b"]
    assert len(built) == 2
    before = len(bm25._OPEN)
    del readers
    gc.collect()
    assert len(bm25._OPEN) < before


def test_what_a_large_index_needs_is_told_before_it_is_built(monkeypatch, capsys):
    ids(FRUIT, "car")
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(bm25, "MANY", 4)
    monkeypatch.setattr(bm25, "BYTES_EACH", 3_000_000_000)
    ids(FRUIT, "car")
    told = "BM25: building the index of 4 passages takes about 12 GB of memory (3e+06 KB per passage of 57 words).\n"
    assert capsys.readouterr().err == told


def test_ids_beyond_ascii_come_back_from_memory_and_from_disk(tmp_path):
    passages = [("é-1", "red apple"), ("日本", "red car")]
    for index in (Bm25.build(passages), Bm25.open(tmp_path / "store" / "one", lambda: passages, {"file": 1})):
        assert [hit.passage_id for hit in index.search({"q": "red"}, 2)["q"]] == ["日本", "é-1"]


def test_a_long_id_does_not_widen_the_others(tmp_path):
    passages = [*((f"p{number}", "red apple") for number in range(999)), ("x" * 5000, "red car")]
    opened = Bm25.open(tmp_path / "store" / "one", lambda: passages, {"file": 1})
    assert [hit.passage_id for hit in opened.search({"q": "car"}, 2)["q"]] == ["x" * 5000]
    assert (tmp_path / "store" / "one" / "ids.npy").stat().st_size < 10_000
    assert opened.search({"q": "red"}, 1000) == Bm25.build(passages).search({"q": "red"}, 1000)


@pytest.mark.parametrize("text", ["the of and", "", "!!!", "a b c", "\U0001f41d"])
def test_passages_of_which_none_has_a_term_are_refused_by_their_file(collection, text, tmp_path):
    reader = Reader(replace(collection(corpus=f"a\t{text}\nb\t{text}\n"), candidates=None))
    with pytest.raises(ValueError) as caught:
        reader.candidates(10)
    assert str(caught.value) == (
        f"{tmp_path}/corpus.tsv: no passage holds a term that BM25 can index: a word of two letters or more that is no stop "
        "word (data.language=en). Name a run of candidates: data.candidates=<TREC run>."
    )


def test_passages_without_a_term_beside_others_are_never_found():
    assert ids([("a", "the of"), ("b", ""), ("c", "red car")], "red the") == ["c"]


def test_empty_collection_is_refused():
    with pytest.raises(ValueError, match=r"^BM25 needs at least one passage; the collection is empty.$"):
        Bm25.build([])


def test_scores_equal_the_supplied_run_on_ms_marco(shared):
    folder = shared / "data/msmarco-small"
    supplied: dict[str, list[float]] = {}  # the run pads to 20 with passages that share no term
    for _, (query, _, _, _, score, _) in islice(file_lines.fields(folder / "run.bm25.train.txt", None, tuple("QIPRST")), 4000):
        supplied.setdefault(query, []).extend([float(score)] if float(score) > 0 else [])
    queries = {query: text for query, text in file_lines.texts(folder / "queries.train.tsv") if query in supplied}
    found = Bm25.build(file_lines.texts(folder / "corpus.tsv")).search(queries, 20)
    assert len(supplied) == 200
    for query, scores in supplied.items():
        assert [hit.score for hit in found[query]] == pytest.approx(scores, abs=1e-4), query
