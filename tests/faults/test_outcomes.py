"""The fault matrix has a test for every row, its page names tests that there are, and what isn't shown isn't true."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest
from support import REPOSITORY

from tests.faults.outcomes import CHAPTERS, FOLDER, MARK, read_rows

NUMBERS = {"A": 12, "B": 14, "C": 14, "D": 6, "E": 7, "F": 8, "G": 11, "H": 4}
PAGE = FOLDER / "README.md"
LINK = re.compile(r"\[([^\]]+)\]\(([^)]+\.py)\)")


def marked() -> dict[str, set[str]]:
    """Return the rows that each test file's marks name."""
    found: dict[str, set[str]] = {}
    for path in sorted((REPOSITORY / "tests").rglob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "pytest.mark.fault":
                found.setdefault(str(path), set()).update(ast.literal_eval(word) for word in node.args)
    return found


def test_the_matrix_has_76_rows_each_with_a_fault_and_a_promise() -> None:
    rows = read_rows()
    assert list(rows) == [f"{letter}{number}" for letter in CHAPTERS for number in range(1, NUMBERS[letter] + 1)]
    assert len(rows) == 76
    assert all(row.done and row.promised for row in rows.values())


def test_every_row_has_a_test_and_no_test_names_another_row() -> None:
    named = set().union(*marked().values())
    assert named - read_rows().keys() == set()
    assert read_rows().keys() - named == set(), "rows without a test"


def test_ten_promises_name_rows_and_tests_that_there_are() -> None:
    head = PAGE.read_text(encoding="utf-8").partition(MARK)[0]
    promises = re.findall(r"^(\d+)\. (.+)$", head, re.MULTILINE)
    assert [int(number) for number, _ in promises] == list(range(1, 11))
    for _, text in promises:
        rows = re.findall(r"\b[A-H]\d+\b", text)
        assert rows
        assert set(rows) <= read_rows().keys()
        links = LINK.findall(text)
        assert links
        assert_there(links)


def test_the_table_has_every_row_once_all_of_them_true_and_the_tests_that_it_names_are_there() -> None:
    table = PAGE.read_text(encoding="utf-8").partition(MARK)[2]
    rows = read_rows()
    lines = re.findall(r"^\| ([A-H]\d+) \| ([^|]+) \| ([^|]+) \| (.*) \| ([^|]+) \| [\d.]+ \|$", table, re.MULTILINE)
    assert [line[0] for line in lines] == list(rows)
    for name, done, promised, links, outcome in lines:
        assert (done, promised) == rows[name][:2]
        assert outcome.partition("; not shown: ")[0] == "true"  # of all that a machine without GPUs can be shown
        assert_there(LINK.findall(links))


def assert_there(links: list[tuple[str, str]]) -> None:
    """A link says a test's name in words, and leads to its file."""
    for words, place in links:
        file = (FOLDER / place).resolve()
        assert file.is_file(), place
        names = re.findall(r"^def (test_\w+)", file.read_text(encoding="utf-8"), re.MULTILINE)
        name = re.sub(r"\W+", "_", f"test_{words.replace(chr(39) + 's ', '_s_')}")
        assert name in names, (words, place)


TOY = """
import pytest

@pytest.mark.fault("A1")
@pytest.mark.parametrize("number", [1, 2])
def test_one_s_own(number): pass

@pytest.mark.fault("A2", "A3")
def test_wrong(): assert {right}

@pytest.mark.fault("A3")
@pytest.mark.skipif({skipped}, reason="no such machine")
def test_elsewhere(): pass
"""


@pytest.mark.parametrize("processes", ["0", "2"])
def test_a_row_is_true_if_all_of_its_tests_have_passed(tmp_path: Path, processes: str) -> None:
    page, toy = tmp_path / "page.md", tmp_path / "test_toy.py"
    page.write_text(f"# Title\n\n{MARK}\nan older table\n")
    toy.write_text(TOY.format(right=False, skipped=True))
    words = [
        "-p",
        "tests.faults.outcomes",
        "--fault-table",
        str(page),
        "-n",
        processes,
        "-c",
        "/dev/null",
        "--rootdir",
        str(tmp_path),
    ]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *words, str(toy)], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1, done.stdout + done.stderr
    assert "\n1 of 76 rows are true: " in done.stdout
    assert "\n  A3: **false**\n" in done.stdout
    assert "\n  A4: **not run**\n" in done.stdout
    text = page.read_text()
    assert text.startswith(f"# Title\n\n{MARK}\n\n## The rows\n\n1 of 76 are true")
    assert "an older table" not in text
    (line,) = re.findall(r"^\| A1 .*$", text, re.MULTILINE)
    assert "[one's own](" in line
    assert "| true | " in line
    if processes == "0":
        toy.write_text(TOY.format(right=True, skipped=True))
        done = subprocess.run(
            [sys.executable, "-m", "pytest", *words, str(toy)], cwd=REPOSITORY, capture_output=True, text=True, check=False
        )
        assert done.returncode == 1  # other rows have no test here
        assert "\n2 of 76 rows are true: " in done.stdout
        assert "\n  A3: **not shown here: no such machine**\n" in done.stdout
        (tmp_path / "tests").mkdir()
        (tmp_path / "tests/test_more.py").write_text('import pytest\n\n@pytest.mark.fault("A1")\ndef test_more(): pass\n')
        done = subprocess.run(
            [sys.executable, "-m", "pytest", *words, str(toy)], cwd=REPOSITORY, capture_output=True, text=True, check=False
        )
        assert "\n  A1: **not run: more**\n" in done.stdout
