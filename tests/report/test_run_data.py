"""Notes say what is left out of a run's data, and ``plan=check`` what it found."""

from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from rankdistil.data.check.whole import Check, Row
from rankdistil.data.settings import DataSettings
from rankdistil.report.run import data_notes, print_check

SETTINGS = DataSettings(2, 3, 8, "docpairs", 10, 1, 10, 2, 10)


@pytest.fixture
def check() -> Check:
    check = Check(SETTINGS)
    check.rows.append(Row(["train", "test"], "corpus.tsv", 1500, 99, "0123456789abcdef", "5 passages"))
    check.notes.append("1 of 2.")
    check.listings.of(Path("corpus.tsv")).end(1500)
    return check


def printed_check(check: Check, on_bad: str = "stop") -> list[str]:
    out = StringIO()
    try:
        print_check(check, on_bad, Console(file=out, width=120))
    except ValueError as error:
        out.write(f"error: {error}\n")
    return out.getvalue().splitlines()


def test_the_table_names_file_lines_bytes_digest_and_content(check: Check) -> None:
    (row,) = (line for line in printed_check(check) if "corpus.tsv" in line)
    assert [cell.strip() for cell in row.strip("│").split("│")] == [
        "train, test", "corpus.tsv", "1500", "99", "0123456789abcdef", "5 passages",
    ]  # fmt: skip


def test_notes_stand_below_the_table_and_do_no_harm(check: Check) -> None:
    assert printed_check(check)[-2:] == ["note: 1 of 2.", "check: no problem found."]


def test_a_leak_is_never_called_no_problem(check: Check) -> None:
    check.leaks.append("7 of 10 test queries.")
    assert printed_check(check)[-2:] == [
        "leak: 7 of 10 test queries.",
        "check: no problem found that stops a run, but 1 leaks between splits, listed above.",
    ]


def test_bad_lines_that_may_be_left_out_are_listed_and_do_no_harm(check: Check) -> None:
    check.listings.of("corpus.tsv").add(3, "no good.")
    assert printed_check(check, "skip")[-2:] == [
        "corpus.tsv:3: no good.",
        "check: 1 bad lines would be left out (data.on_bad=skip), no other problem found.",
    ]


def test_what_would_stop_a_run_fails_with_its_number(check: Check) -> None:
    check.listings.of("corpus.tsv").add(3, "no good.")
    check.listings.of("corpus.tsv").refuse(4, "byte 1 is zero.")
    check.problems.append("data.holdout=3 leaves no query.")
    assert printed_check(check)[-4:] == [
        "corpus.tsv:3: no good.",
        "corpus.tsv:4: byte 1 is zero.",
        "data.holdout=3 leaves no query.",
        "error: check: a run would stop: 3 problems, listed above. Nothing was written.",
    ]


def test_whole_data_need_no_word() -> None:
    account = {
        "bad_lines": {},
        "training_queries": {"left_out": 0, "groups": 3},
        "valid_queries": {"judged": 3, "with_candidates": 3},
        "test_queries": {"judged": 3, "with_candidates": 3},
    }
    assert data_notes(account) == []


def test_each_file_each_sampling_and_each_split_gets_one_line() -> None:
    account = {
        "bad_lines": {
            "a/triples.tsv": {"lines": 2001, "bad": 3, "first": "a/triples.tsv:7: no good."},
            "a/corpus.tsv": {"lines": None, "bad": 1, "first": "a/corpus.tsv:1: no good."},
        },
        "training_queries": {"left_out": 2, "groups": 8},
        "test_queries": {"judged": 43, "with_candidates": 41},
    }
    assert data_notes(account) == [
        "a/triples.tsv: 3 of 2001 lines are bad and left out (data.on_bad=skip). The first: a/triples.tsv:7: no good.",
        "a/corpus.tsv: 1 of the lines are bad and left out (data.on_bad=skip). The first: a/corpus.tsv:1: no good.",
        "training: 2 of 10 queries are left out: they have no relevant passage, or too few candidates that aren't relevant.",
        "test: 41 of 43 judged queries have candidates; the others count as 0.",
    ]


def test_what_the_margin_leaves_out_is_told_apart_from_what_has_nothing_to_train_on() -> None:
    sampled = {
        "bad_lines": {},
        "training_queries": {"left_out": 5, "groups": 15},
        "negatives_margin": {"what": "negatives", "of": 180, "left_out": 33, "queries": 3},
    }
    assert data_notes(sampled) == [
        "training: 2 of 20 queries are left out: they have no relevant passage, or too few candidates that aren't relevant.",
        "training: data.negatives_margin leaves out 33 of 180 negatives, and 3 of 20 queries that are left with too few.",
    ]
    listed = {"training_queries": {"left_out": 0, "groups": 9}, "bad_lines": {}}
    for left_out, told in ((0, []), (4, ["training: data.negatives_margin leaves out 4 of 13 triples."])):
        listed["negatives_margin"] = {"what": "triples", "of": 13, "left_out": left_out, "queries": 0}
        assert data_notes(listed) == told


def test_a_collection_of_texts_alone_has_only_files() -> None:
    assert data_notes({"bad_lines": {}}) == []


def test_groups_that_do_not_fit_into_a_batch_of_tokens_are_told() -> None:
    larger = {"what": "groups", "larger": 3, "of": 64, "largest": 1240, "limit": 1000}
    assert data_notes({"bad_lines": {}, "max_tokens": larger}) == [
        "training: 3 of the first 64 groups take more tokens than data.max_tokens=1000, the largest 1240. Each is a batch by "
        "itself."
    ]


def test_both_sides_of_a_holdout_say_how_many_queries_they_have() -> None:
    sides = {"train": {"queries": 900, "answered": 850}, "valid": {"queries": 100, "answered": 100}}
    assert data_notes({"bad_lines": {}, "holdout": {"sides": sides, "level": 2}}) == [
        "data.holdout: train has 900 queries, 850 of them with a passage of grade 2 or more.",
        "data.holdout: valid has 100 queries, 100 of them with a passage of grade 2 or more.",
    ]


def test_negatives_with_the_text_of_an_answer_are_told() -> None:
    told = {"bad_lines": {}, "training_queries": {"left_out": 0, "groups": 9}, "same_text": 4}
    assert data_notes(told) == ["training: 4 negatives are left out: they have the text of a passage that answers their query."]
