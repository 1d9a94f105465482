"""Run files: whatever is ranked, what was written is read, and written again it is the same file."""

from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from rankdistil.data.files.folder import FileScoredDocs
from rankdistil.data.files.layout import is_id
from rankdistil.metrics.ranking import ranked, read_run, write_run

KEYS = st.text(st.characters(codec="utf-8", exclude_characters="\0\r\n\t"), min_size=1, max_size=6).filter(is_id)
LOGITS = st.floats(width=32, allow_nan=False, allow_infinity=False) | st.sampled_from([0.0, -0.0, 1.0, 1 + 2.0**-23, 2.0**-149])
SCORES = st.dictionaries(KEYS, st.dictionaries(KEYS, LOGITS, min_size=1, max_size=8), min_size=1, max_size=4)


@given(SCORES)
def test_a_run_that_is_read_and_written_again_is_the_same_byte_by_byte(tmp_path: Path, scores: dict) -> None:
    path, again = tmp_path / "a.run", tmp_path / "b.run"
    write_run(path, ranked(scores), "tag")
    found = read_run(path)
    assert found == ranked(scores)
    write_run(again, found, "tag")
    assert again.read_bytes() == path.read_bytes()


@given(SCORES)
def test_ranks_and_scores_of_a_file_tell_one_order_in_single_precision_too(tmp_path: Path, scores: dict) -> None:
    path = tmp_path / "a.run"
    write_run(path, ranked(scores), "tag")
    rows = [line.split(" ") for line in path.read_text(encoding="utf-8").splitlines()]
    assert len(rows) == sum(map(len, scores.values()))
    for query in scores:
        own = [row for row in rows if row[0] == query]
        assert [int(row[3]) for row in own] == [*range(1, len(own) + 1)]
        order = [(np.float32(row[4]), row[2]) for row in own]  # as trec_eval reads and orders it: equal ones by descending id
        assert all(before > behind for before, behind in zip(order, order[1:], strict=False))


@given(SCORES)
def test_candidates_of_a_run_are_what_was_ranked(tmp_path: Path, scores: dict) -> None:
    path = tmp_path / "a.run"
    write_run(path, ranked(scores), "tag")
    table = FileScoredDocs(path).table()
    assert table.counts() == {query: len(row) for query, row in scores.items()}
    found = {row[:2]: row[2] for row in FileScoredDocs(path).scoreddocs_iter()}
    assert found == {(query, passage): score for query, row in scores.items() for passage, score in row.items()}
