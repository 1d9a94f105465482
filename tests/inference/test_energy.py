"""Energy is read where the machine shows it; elsewhere there is none, and no failure."""

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from rankdistil.inference import energy

CPU, GPU = torch.device("cpu"), torch.device("cuda", 1)


def zone(folder: Path, number: int, name: str, used: int) -> Path:
    found = folder / f"intel-rapl:{number}"
    found.mkdir()
    for file, content in (("name", name), ("energy_uj", used), ("max_energy_range_uj", 10_000_000)):
        (found / file).write_text(f"{content}\n")
    return found / "energy_uj"


@pytest.fixture
def rapl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(energy, "RAPL", tmp_path)
    return tmp_path


def test_all_processors_of_a_machine_are_added_and_nothing_is_counted_twice(rapl: Path) -> None:
    first, second, whole = (
        zone(rapl, number, name, 1_000_000) for number, name in enumerate(("package-0", "package-1", "psys"))
    )
    meter = energy.energy_meter(CPU)
    assert meter() == 0.0
    for file in (first, second, whole):
        file.write_text("3500000\n")
    assert meter() == 5.0


def test_a_counter_that_is_full_starts_again_from_zero(rapl: Path) -> None:
    file = zone(rapl, 0, "package-0", 9_000_000)
    meter = energy.energy_meter(CPU)
    file.write_text("2000000\n")
    assert meter() == 3.0
    file.write_text("2500000\n")
    assert meter() == 3.5


def test_a_machine_without_readable_counters_has_no_meter(rapl: Path) -> None:
    assert energy.energy_meter(CPU) is None
    zone(rapl, 0, "package-0", 0).unlink()  # as where only root may read it
    assert energy.energy_meter(CPU) is None


class Refused(Exception):
    """Stands for NVMLError."""


def nvml(joules: float | None) -> SimpleNamespace:
    """Make a stand-in of pynvml with one GPU, whose energy can't be read if it is None."""

    def total(handle: str) -> float:
        if joules is None:
            raise Refused
        assert handle == "handle of GPU-abc"
        return joules * 1e3

    return SimpleNamespace(
        NVMLError=Refused, nvmlInit=lambda: None, nvmlDeviceGetHandleByUUID="handle of {}".format,
        nvmlDeviceGetTotalEnergyConsumption=total,
    )  # fmt: skip


@pytest.mark.parametrize(("joules", "expected"), [(2.5, 2.5), (None, None)])
def test_a_gpu_is_read_by_its_own_id(joules: float | None, expected: float | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", nvml(joules))
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(uuid="abc"))
    meter = energy.energy_meter(GPU)
    assert (meter and meter()) == expected


def test_without_pynvml_a_gpu_has_no_meter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert energy.energy_meter(GPU) is None
