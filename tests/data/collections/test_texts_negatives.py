"""Hard negatives out of mined runs: one list of several, read and refused as candidates are."""

from collections.abc import Callable
from pathlib import Path

import pytest

from rankdistil.data.batches.training_groups import open_source
from rankdistil.data.collections.reader import Reader
from rankdistil.data.collections.texts import Collection, interleaved, negative_candidates, open_collection
from rankdistil.data.files.bad_lines import Tolerance
from rankdistil.data.records import Candidate

DENSE = "1 Q0 e 1 0.9 dense\n1 Q0 a 2 0.8 dense\n1 Q0 b 3 0.1 dense\n2 Q0 c 1 0.5 dense\n9 Q0 a 1 1.0 dense\n"
SPARSE = "1 Q0 b 1 7.0 sparse\n1 Q0 e 2 7.0 sparse\n1 Q0 c 3 1.0 sparse\n"


@pytest.fixture
def opened(collection, tmp_path: Path) -> Callable[..., tuple[Reader, Collection]]:
    """Open the collection's split with mined runs."""

    def opened(*runs: str, tolerance: Tolerance | None = None, **changed: str) -> tuple[Reader, Collection]:
        files = [tmp_path / f"{number}.run" for number, _ in enumerate(runs)]
        for file, text in zip(files, runs, strict=True):
            file.write_text(text)
        more = {} if tolerance is None else {"tolerance": tolerance}
        reader = Reader(collection(**changed), negatives_runs=[str(file) for file in files], **more)
        return reader, open_collection(reader, None, None)

    return opened


def ids(reader: Reader, texts: Collection, depth: int) -> dict[str, list[str]]:
    found = negative_candidates(reader, depth, texts.passages)
    return {query: [hit.passage_id for hit in row] for query, row in found.items()}


def test_without_runs_negatives_come_from_the_candidates(opened) -> None:
    reader, texts = opened()
    assert ids(reader, texts, 2) == {"1": ["a", "e"], "2": ["b", "c"], "3": ["d", "c"]}


def test_one_run_is_read_by_score_and_ties_by_descending_id(opened) -> None:
    assert ids(*opened(SPARSE), 9) == {"1": ["e", "b", "c"], "2": [], "3": []}


def test_several_runs_are_united_rank_by_rank_and_a_passage_stands_where_it_comes_first(opened) -> None:
    assert ids(*opened(DENSE, SPARSE), 9) == {"1": ["e", "a", "b", "c"], "2": ["c"], "3": []}
    assert ids(*opened(SPARSE, DENSE), 9)["1"] == ["e", "b", "a", "c"]
    assert ids(*opened(DENSE, SPARSE), 2)["1"] == ["e", "a"]
    first, second = ([Candidate(key, 1.0) for key in keys] for keys in ("abcd", "xbya"))
    assert [hit.passage_id for hit in interleaved([{"q": first}, {"q": second}], 5)["q"]] == ["a", "x", "b", "c", "y"]


def test_skip_and_depth_count_ranks_of_the_united_list_and_judged_passages_are_no_negatives(opened) -> None:
    """The united list of query 1 is e, a (its positive), b, c; query 2 has c alone, query 3 nothing."""

    def pairs(depth: int, skip: int) -> set[tuple[str, str]]:
        reader, texts = opened(DENSE, SPARSE)
        found = open_source(reader, texts, "sampled", 1, depth, skip, 1).pairs()
        return set(zip(texts.queries.names(found[:, 0]), texts.passages.names(found[:, 1]), strict=True)) - {
            ("1", "a"),
            ("2", "b"),
        }

    assert pairs(4, 0) == {("1", "e"), ("1", "b"), ("1", "c"), ("2", "c")}
    assert pairs(3, 1) == {("1", "b")}


def test_a_query_that_no_run_names_is_left_out_and_counted(opened) -> None:
    assert open_source(*opened(DENSE), "sampled", 1, 9, 0, 1).left_out == 1


def test_a_passage_that_is_not_in_the_collection_is_named_by_its_line_in_its_run(opened, tmp_path: Path) -> None:
    reader, texts = opened(SPARSE, DENSE + "1 Q0 zz 4 0.05 dense\n")
    with pytest.raises(ValueError) as caught:
        negative_candidates(reader, 9, texts.passages)
    assert str(caught.value) == f"{tmp_path}/1.run:6: passage 'zz' is not in the collection. Do the files belong together?"
    reader, texts = opened(SPARSE, DENSE + "1 Q0 zz 4 0.05 dense\n", tolerance=Tolerance(on_bad="skip"))
    assert ids(reader, texts, 9)["1"] == ["e", "b", "a", "c"]
    assert [*reader.bad.account()] == [f"{tmp_path}/1.run"]


def test_a_run_of_other_queries_is_refused_and_so_is_one_that_is_not_there(opened, collection, tmp_path: Path) -> None:
    reader, texts = opened("9 Q0 a 1 1.0 dense\n")
    with pytest.raises(ValueError, match=rf"^data\.negatives_runs={tmp_path}/0\.run ranks none of the training queries\. "):
        negative_candidates(reader, 9, texts.passages)
    with pytest.raises(FileNotFoundError, match=r"^data\.negatives_runs=no\.run is not there\. Name a TREC run, or null "):
        Reader(collection(), negatives_runs=["no.run"]).check()
