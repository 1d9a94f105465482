"""What ``plan=check`` prints, and when it fails."""

from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from rankdistil.data.check.whole import Check, Row
from rankdistil.data.settings import DataSettings
from rankdistil.report.tables import print_check

SETTINGS = DataSettings(2, 3, 8, "docpairs", 10, 1, 10, 2, 10)


@pytest.fixture
def check() -> Check:
    check = Check(SETTINGS)
    check.rows.append(Row(["train", "test"], "corpus.tsv", 1500, 99, "0123456789abcdef", "5 passages"))
    check.notes.append("1 of 2.")
    check.listings.of(Path("corpus.tsv")).end(1500)
    return check


def printed(check: Check, on_bad: str = "stop") -> list[str]:
    out = StringIO()
    try:
        print_check(check, on_bad, Console(file=out, width=120))
    except ValueError as error:
        out.write(f"error: {error}\n")
    return out.getvalue().splitlines()


def test_the_table_names_file_lines_bytes_digest_and_content(check: Check) -> None:
    (row,) = (line for line in printed(check) if "corpus.tsv" in line)
    assert [cell.strip() for cell in row.strip("│").split("│")] == [
        "train, test", "corpus.tsv", "1500", "99", "0123456789abcdef", "5 passages",
    ]  # fmt: skip


def test_notes_stand_below_the_table_and_do_no_harm(check: Check) -> None:
    assert printed(check)[-2:] == ["note: 1 of 2.", "check: no problem found."]


def test_a_leak_is_never_called_no_problem(check: Check) -> None:
    check.leaks.append("7 of 10 test queries.")
    assert printed(check)[-2:] == [
        "leak: 7 of 10 test queries.",
        "check: no problem found that stops a run, but 1 leaks between splits, listed above.",
    ]


def test_bad_lines_that_may_be_left_out_are_listed_and_do_no_harm(check: Check) -> None:
    check.listings.of("corpus.tsv").add(3, "no good.")
    assert printed(check, "skip")[-2:] == [
        "corpus.tsv:3: no good.",
        "check: 1 bad lines would be left out (data.on_bad=skip), no other problem found.",
    ]


def test_what_would_stop_a_run_fails_with_its_number(check: Check) -> None:
    check.listings.of("corpus.tsv").add(3, "no good.")
    check.listings.of("corpus.tsv").refuse(4, "byte 1 is zero.")
    check.problems.append("data.holdout=3 leaves no query.")
    assert printed(check)[-4:] == [
        "corpus.tsv:3: no good.",
        "corpus.tsv:4: byte 1 is zero.",
        "data.holdout=3 leaves no query.",
        "error: check: a run would stop: 3 problems, listed above. Nothing was written.",
    ]
