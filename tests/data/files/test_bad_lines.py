"""Bad lines: the first one ends the program, or a few are left out and counted."""

import re

import pytest

from rankdistil.data.files import bad_lines
from rankdistil.data.files.bad_lines import LIST, BadLines, Tolerance, allowed


@pytest.mark.parametrize(
    ("lines", "most"), [(1, 1), (999, 1), (1000, 1), (1001, 2), (1500, 2), (2000, 2), (50_706, 51), (10**9, 100_000)]
)
def test_one_line_in_a_thousand_may_be_bad_and_one_in_any_file(lines, most):
    assert allowed(lines) == most


def test_the_first_bad_line_stops_unless_told_otherwise():
    with pytest.raises(ValueError, match=r"^some\.tsv:7: no good\.$"):
        BadLines().of("some.tsv").add(7, "no good.")


def test_skipped_lines_are_counted_with_the_first_complaint():
    bad = BadLines("skip")
    tally = bad.of("some.tsv")
    tally.add(700, "no good.")
    tally.add(90, "no better.")
    tally.end(1500)
    assert bad.account() == {"some.tsv": {"lines": 1500, "bad": 2, "first": "some.tsv:700: no good."}}


def test_a_file_without_bad_lines_is_not_in_the_account():
    bad = BadLines("skip")
    bad.of("some.tsv").end(10)
    assert bad.account() == {}


def test_a_line_read_again_counts_once():
    tally = BadLines("skip").of("some.tsv")
    for _ in range(3):  # passes
        tally.add(5, "no good.")
        tally.end(10)
    assert tally.told() == {"lines": 10, "bad": 1, "first": "some.tsv:5: no good."}


def test_too_many_bad_lines_stop_at_the_end_of_the_file_with_count_limit_and_first():
    tally = BadLines("skip").of("some.tsv")
    for line in (5, 6, 7):
        tally.add(line, "no good.")
    message = (
        "some.tsv: 3 of 2000 lines are bad; data.on_bad=skip leaves out at most 2 (0.1 %, at least 1). "
        "The first: some.tsv:5: no good."
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        tally.end(2000)


def test_a_bad_line_found_after_the_end_is_one_too_many_as_well():
    tally = BadLines("skip").of("some.tsv")
    tally.add(1, "no good.")
    tally.end(3)
    with pytest.raises(ValueError, match=r"^some\.tsv: 2 of 3 lines are bad; .* at most 1 "):
        tally.add(2, "unknown id.")


def test_a_file_of_bad_lines_stops_before_its_end(monkeypatch):
    monkeypatch.setattr(bad_lines, "MOST", 3)
    tally = BadLines("skip").of("some.tsv")
    for line in (1, 2, 3):
        tally.add(line, "no good.")
    with pytest.raises(ValueError, match=r"^some\.tsv: more than 3 lines are bad; data\.on_bad=skip leaves out at most 3 "):
        tally.add(4, "no good.")


@pytest.mark.parametrize("on_bad", ["stop", "skip"])
def test_a_line_that_is_no_text_always_stops(on_bad):
    with pytest.raises(ValueError, match=r"^some\.tsv:2: byte 4 is not UTF-8\.$"):
        BadLines(on_bad).of("some.tsv").refuse(2, "byte 4 is not UTF-8.")


def test_what_a_store_was_built_without_is_told_by_those_who_find_it_built():
    told = {"lines": 3, "bad": 1, "first": "some.tsv:2: no good."}
    tally = BadLines("skip").of("some.tsv")
    tally.recall(told)
    assert tally.told() == told


def test_a_store_built_without_bad_lines_is_no_store_for_those_who_allow_none():
    with pytest.raises(ValueError, match=r"^some\.tsv:2: no good\.$"):
        BadLines().of("some.tsv").recall({"lines": 3, "bad": 1, "first": "some.tsv:2: no good."})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"on_bad": "ignore"}, "data.on_bad is 'ignore'; expected one of stop, skip."),
        ({"on_bad": None}, "data.on_bad is None; expected one of stop, skip."),
        ({"allow_unknown": "yes"}, "data.allow_unknown is 'yes'; expected true or false."),
        ({"allow_unknown": 1}, "data.allow_unknown is 1; expected true or false."),
    ],
)
def test_another_way_names_its_key(settings, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        Tolerance(**settings)


def test_a_list_stops_at_nothing_and_says_whether_a_run_would(monkeypatch):
    monkeypatch.setattr(bad_lines, "SHOWN", 3)
    listing = BadLines(LIST).of("some.tsv")
    for _ in range(2):  # passes
        for line in (7, 5, 6):
            listing.add(line, "no good.")
        listing.end(2000)
    assert (listing.found, listing.fatal, listing.stops("stop"), listing.stops("skip")) == (3, 0, True, True)
    listing.refuse(2, "byte 4 is not UTF-8.")
    listing.fail(ValueError("some.tsv is cut off."))
    assert (listing.found, listing.fatal) == (3, 2)
    assert listing.shown() == [
        "some.tsv is cut off.",
        *(f"some.tsv:{line}: no good." for line in (5, 6, 7)),
        "some.tsv: and 1 more.",
    ]
