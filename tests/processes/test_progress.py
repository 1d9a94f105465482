"""Progress of long work: lines with rate and time left where there is no terminal, a bar where there is one."""

import io
from types import SimpleNamespace

import pytest
from rich.console import Console

from rankdistil.processes import progress
from rankdistil.processes.progress import Work, counted


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A clock that each look puts 4 s on."""
    clock = SimpleNamespace(now=0.0)

    def monotonic() -> float:
        clock.now += 4.0
        return clock.now

    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=monotonic))
    return clock


def test_a_line_now_and_then_says_count_rate_and_time_left_and_a_last_one_how_long_it_took(clock, capsys) -> None:
    assert list(counted(iter("abcdef"), "read [x].tsv", "lines", 6)) == list("abcdef")
    assert capsys.readouterr().err.splitlines() == [
        "read [x].tsv: 3/6 lines, 0/s, 0:12 left", "read [x].tsv: 6/6 lines, 0/s, 0:00 left",
        "read [x].tsv: 6 lines in 0:28, 0/s",
    ]  # fmt: skip


def test_short_work_says_nothing(capsys) -> None:
    assert list(counted([1, 2], "read", "lines")) == [1, 2]
    assert capsys.readouterr() == ("", "")


def test_a_resumed_work_s_rate_and_time_left_are_those_of_this_part(clock, capsys) -> None:
    work = Work("train", 100, rated="pairs", begun=90)
    work.advance(91, 32, "loss 0.5", due=True)  # 4 s
    assert capsys.readouterr().err == "train 91/100, 8 pairs/s, 0:36 left loss 0.5\n"


def test_a_terminal_gets_a_bar_that_ends_full(monkeypatch) -> None:
    console = Console(file=io.StringIO(), force_terminal=True, color_system=None, width=100)
    monkeypatch.setattr(progress, "screen", lambda: console)
    assert list(counted([1, 2, 3], "read", "lines", 3)) == [1, 2, 3]
    assert "3/3 lines" in console.file.getvalue().rpartition("read:")[2]
