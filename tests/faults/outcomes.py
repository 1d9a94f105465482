"""The fault matrix as a table: which tests prove a row, and how they ended. A pytest plugin, see ``make faults``.

``rows.tsv`` says what is done in each row and what has to happen then. A test says which rows it proves by
``@pytest.mark.fault("C1", "C2")``, which is all that it needs. With ``--fault-table README.md`` the outcomes of a session are
written into that file, behind its mark, and the session fails unless every row is true. A test that is skipped proves nothing.
"""

import ast
import csv
import os
import platform
import subprocess
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import pytest

FOLDER = Path(__file__).parent
MARK = "<!-- Written by make faults: what stands below is replaced. -->"
KEY = "fault"
CHAPTERS = {
    "A": "Settings", "B": "Data", "C": "Running", "D": "Numbers", "E": "Several processes", "F": "Evaluation", "G": "Security",
    "H": "Exports",
}  # fmt: skip
HEAD = "| row | what is done | what is promised | proved by | outcome | s |\n|---|---|---|---|---|---:|\n"


class Row(NamedTuple):
    """Attributes: done: the fault; promised: what has to happen then; not_shown: what of the fault no test here can make."""

    done: str
    promised: str
    not_shown: str


def read_rows() -> dict[str, Row]:
    """Read the rows, by name."""
    with (FOLDER / "rows.tsv").open(encoding="utf-8", newline="") as file:
        lines = list(csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE))[1:]
    return {line[0]: Row(*line[1:3], line[3] if len(line) > 3 else "") for line in lines}


def marked(folder: Path) -> dict[str, set[str]]:
    """Return the tests whose marks name each row, whether or not a session runs them."""
    found: dict[str, set[str]] = {}
    for path in sorted(folder.rglob("test_*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                for mark in node.decorator_list:
                    if isinstance(mark, ast.Call) and ast.unparse(mark.func) == "pytest.mark.fault":
                        for word in mark.args:
                            found.setdefault(ast.literal_eval(word), set()).add(node.name)
    return found


@dataclass
class Ended:
    """A test, with all of its parameters: attributes file; seconds; why it was left out; whether one of them failed."""

    file: Path
    seconds: float = 0.0
    skipped: set[str] = field(default_factory=set)
    failed: bool = False


class Outcomes:
    """Collects the outcomes of a session by row."""

    def __init__(self, table: Path, tests: Path) -> None:
        self._table, self._marked = table, marked(tests)
        self._rows: dict[str, dict[str, Ended]] = {name: {} for name in read_rows()}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note a part of a test: its preparation, itself, or its end."""
        file, _, rest = report.nodeid.partition("::")
        name = rest.partition("[")[0]
        for row in {value for key, value in report.user_properties if key == KEY}:
            ended = self._rows[row].setdefault(name, Ended(Path(file)))
            ended.seconds += report.duration
            ended.failed |= report.failed
            if report.skipped:
                ended.skipped.add(_reason(report))

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Write the table; fail unless all rows are true."""
        text = self._table.read_text(encoding="utf-8").partition(MARK)[0]
        self._table.write_text(f"{text}{MARK}\n{self._written()}", encoding="utf-8")
        if session.exitstatus == 0 and self.false():
            session.exitstatus = 1

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Name the rows that aren't true."""
        false = {name: self._outcome(name, tests) for name, tests in self.false().items()}
        terminalreporter.write_line(f"{len(self._rows) - len(false)} of {len(self._rows)} rows are true: {self._table}")
        for name, told in false.items():
            terminalreporter.write_line(f"  {name}: {told}")

    def false(self) -> dict[str, dict[str, Ended]]:
        """Return the rows that aren't true, and their tests."""
        return {name: tests for name, tests in self._rows.items() if self._outcome(name, tests) != "true"}

    def _outcome(self, row: str, tests: dict[str, Ended]) -> str:
        if not tests:
            return "**not run**"
        if any(test.failed for test in tests.values()):
            return "**false**"
        if left := sorted(self._marked.get(row, set()) - tests.keys()):
            return f"**not run: {'; '.join(map(_sentence, left))}**"
        skipped = sorted({reason for test in tests.values() for reason in test.skipped})
        return f"**not shown here: {'; '.join(skipped)}**" if skipped else "true"

    def _written(self) -> str:
        rows, parts = read_rows(), []
        commit = ["git", "-C", str(FOLDER), "describe", "--always", "--dirty"]
        at = subprocess.run(commit, capture_output=True, text=True, check=False).stdout.strip() or "unknown"
        with_what = ", ".join(f"{name} {version(name)}" for name in ("torch", "lightning", "transformers", "hydra-core"))
        parts.append(
            f"\n## The rows\n\n{len(rows) - len(self.false())} of {len(rows)} are true, at commit {at}: "
            f"{os.cpu_count()} cores, {platform.system()}, Python {platform.python_version()}, {with_what}.\n"
            "Seconds are those of a row's tests, each counted in every row that it proves; two or more run at a time.\n"
        )
        for letter, title in CHAPTERS.items():
            parts.append(f"\n### {letter}. {title}\n\n{HEAD}")
            parts.extend(self._line(name, row) for name, row in rows.items() if name.startswith(letter))
        return "".join(parts)

    def _line(self, name: str, row: Row) -> str:
        tests = self._rows[name]
        links = "<br>".join(f"[{_sentence(test)}]({_link(ended.file)})" for test, ended in sorted(tests.items()))
        told = self._outcome(name, tests) + (f"; not shown: {row.not_shown}" if row.not_shown else "")
        seconds = sum(test.seconds for test in tests.values())
        return f"| {name} | {row.done} | {row.promised} | {links} | {told} | {seconds:.1f} |\n"


def _sentence(test: str) -> str:
    return test.removeprefix("test_").replace("_s_", "'s ").replace("_", " ")


def _link(file: Path) -> str:
    return Path(os.path.relpath(FOLDER.parents[1] / file, FOLDER)).as_posix()


def _reason(report: pytest.TestReport) -> str:
    told = report.longrepr[-1] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    return told.removeprefix("Skipped: ")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let the file be named that gets the table."""
    parser.addoption("--fault-table", type=Path, help="file that gets the table of the fault matrix, behind its mark")


def pytest_configure(config: pytest.Config) -> None:
    """Collect outcomes in the process that hears of all tests."""
    table = config.getoption("--fault-table")
    if table is not None and not hasattr(config, "workerinput"):
        config.pluginmanager.register(Outcomes(config.rootpath / table, config.rootpath / "tests"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Send the rows along with a test's reports, which may come from another process."""
    for item in items:
        item.user_properties += [(KEY, row) for mark in item.iter_markers(KEY) for row in mark.args]
