"""What other processes use of a machine: from counters that are made up, and from those of this one."""

import os

import pytest

from rankdistil.inference import machine
from rankdistil.inference.machine import Meter, Usage, counters, others_share, shown_share


def usage(node: str = "a", own: float = 5.0, every: float | None = 8.0) -> Usage:
    """Ten seconds on four cores."""
    return Usage(node, 4, 10.0, own, every)


def test_what_all_used_without_ones_own_is_a_share_of_all_cores() -> None:
    assert others_share([usage()]) == pytest.approx(3 / 40)
    assert others_share([usage(own=8.0)]) == 0.0
    assert others_share([usage(own=8.1)]) == 0.0  # the counters of the system are read a moment apart


def test_processes_of_one_machine_are_not_others_to_each_other() -> None:
    assert others_share([usage(own=4.0), usage(own=4.0)]) == 0.0


def test_of_several_machines_the_busiest_counts() -> None:
    assert others_share([usage("a"), usage("b", own=2.0)]) == pytest.approx(6 / 40)


@pytest.mark.parametrize("every", [None, 0.0, 2.4])
def test_counters_that_are_missing_or_miss_ones_own_work_say_nothing(every: float | None) -> None:
    assert others_share([usage(every=every)]) is None
    assert others_share([usage("b"), usage(every=every)]) is None


def test_the_counters_are_those_of_all_cores_without_idle_time(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, tick = tmp_path / "stat", os.sysconf("SC_CLK_TCK")
    file.write_text("cpu  100 20 30 9999 8888 4 5 6 7 8\ncpu0 1 0 0 0 0 0 0 0 0 0\ncpu1 1 0 0 0 0 0 0 0 0 0\nintr 5\n")
    monkeypatch.setattr(machine, "COUNTERS", file)
    assert counters() == ((100 + 20 + 30 + 4 + 5 + 6) / tick, 2)
    file.unlink()
    assert counters() is None


def test_a_meter_tells_what_was_used_since_it_was_made() -> None:
    readings = iter([(50.0, 4), (58.0, 4)])
    found = Meter(lambda: next(readings)).usage()
    assert (found.all, found.cores) == (8.0, 4)
    assert found.wall >= 0
    assert found.own >= 0


def test_a_system_without_counters_gives_an_unknown_share() -> None:
    assert Meter(lambda: None).share() is None
    assert [shown_share(share) for share in (None, 0.034)] == ["an unknown share", "3%"]
