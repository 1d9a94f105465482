"""Run files: the split that each of them ranks."""

from pathlib import Path

import pytest

from rankdistil.data.collections.reader import RunFiles, require_used
from rankdistil.data.files.bad_lines import STOP


@pytest.fixture
def runs(tmp_path: Path) -> list[str]:
    """Write a run of queries 1 and 2, and one of query 2 alone."""
    for name, queries in {"both.run": "12", "one.run": "2"}.items():
        (tmp_path / name).write_text("".join(f"{query} Q0 a 1 1.0 tag\n" for query in queries))
    return [str(tmp_path / "both.run"), str(tmp_path / "one.run")]


def test_a_split_is_ranked_by_the_run_of_most_of_its_queries(runs: list[str]) -> None:
    files = RunFiles(runs, STOP)
    assert files.covering(["1", "2"]) == runs[0]
    assert files.covering(["3"]) is None


def test_a_run_that_no_split_uses_is_refused(runs: list[str]) -> None:
    require_used(runs, {*runs, None})
    with pytest.raises(ValueError) as caught:
        require_used(runs, [runs[0], None])
    assert str(caught.value) == (
        f"data.candidates={runs[1]} is used by no split: it ranks none of their queries, or fewer than another run does. "
        "Name a run of these queries, or leave it out."
    )
