"""What ranks tell one another outside of training. Two threads stand for two processes."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest
from omegaconf import DictConfig, OmegaConf
from torch.distributed import TCPStore

from rankdistil.files import fingerprint
from rankdistil.processes import group as rank_group
from rankdistil.processes.group import Announcements, GroupFailedError, Run, await_config
from rankdistil.processes.ranks import Rank

CFG = OmegaConf.create({"seed": 0, "stage": {"lr": 0.5, "steps": "${seed}"}})
Group = Callable[..., list[Future]]


@pytest.fixture
def group(monkeypatch: pytest.MonkeyPatch) -> Iterator[Group]:
    """Run one function for each rank, with its announcements, beside a store as torchrun's agent keeps it."""
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    found = {"TORCHELASTIC_RUN_ID": "a", "TORCHELASTIC_USE_AGENT_STORE": "True"}
    for name, value in (found | {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(store.port)}).items():
        monkeypatch.setenv(name, value)

    def run(*ranks: Callable[[Announcements], object], timeout: float = 20.0, nodes: int = 1) -> list[Future]:
        world = len(ranks)
        each = [Rank(number, world, world // nodes, number * nodes // world) for number in range(world)]
        ends = [Announcements(rank, timeout) for rank in each]
        with ThreadPoolExecutor(world) as pool:
            return [pool.submit(rank, end) for rank, end in zip(ranks, ends, strict=True)]

    yield run
    del store


def comparing(cfg: DictConfig) -> Callable[[Announcements], None]:
    return lambda end: end.compare(cfg)


def test_ranks_with_one_resolved_config_go_on(group: Group) -> None:
    resolved = OmegaConf.create({"seed": 0, "stage": {"lr": 0.5, "steps": 0}})
    assert [done.exception() for done in group(comparing(CFG), comparing(resolved), comparing(CFG))] == [None] * 3


def test_a_rank_with_other_settings_and_rank_0_name_each_difference(group: Group) -> None:
    other = OmegaConf.merge(CFG, {"stage": {"lr": 0.25}, "extra": 1})
    zero, same, differs = (done.exception() for done in group(comparing(CFG), comparing(CFG), comparing(other)))
    message = (
        "rank 2 was started with other settings than rank 0 (rank 0 -> rank 2):\n  extra: (absent) -> 1\n  "
        "stage.lr: 0.5 -> 0.25\nStart all ranks with the same command line, and the same environment where settings refer to "
        "it."
    )
    assert (type(zero), str(zero)) == (type(differs), str(differs)) == (ValueError, message)
    assert same is None


def test_the_others_carry_out_what_rank_0_announces_until_it_has_no_more(group: Group) -> None:
    def leads(end: Announcements) -> None:
        with end.leading():
            end.announce(Path("runs/teacher"), CFG)
            end.announce(Path("runs/student"), CFG)

    resolved = fingerprint({"seed": 0, "stage.lr": 0.5, "stage.steps": 0})
    _, *others = group(leads, *[lambda end: list(end.announced())] * 2)
    assert [done.result() for done in others] == [
        [Run(Path("runs/teacher"), resolved), Run(Path("runs/student"), resolved)]
    ] * 2


def test_the_failure_of_a_rank_reaches_those_that_wait_and_is_printed_once_on_each_machine(
    group: Group, capfd: pytest.CaptureFixture[str]
) -> None:
    def leads(end: Announcements) -> None:
        end.announce(Path("runs/teacher"), CFG)
        end.fail("no such file: a.tsv")

    def follows(end: Announcements) -> None:
        with pytest.raises(GroupFailedError) as error:
            list(end.announced())
        assert str(error.value) == "no such file: a.tsv"
        end.fail(str(error.value))

    assert [done.exception() for done in group(leads, *[follows] * 3, nodes=2)] == [None] * 4
    assert capfd.readouterr().err == "error: no such file: a.tsv\n" * 2


def test_only_the_first_of_several_failures_is_printed(group: Group, capfd: pytest.CaptureFixture[str]) -> None:
    def fails(end: Announcements) -> None:
        end.fail("out of memory")

    assert [done.exception() for done in group(fails, fails, fails)] == [None] * 3
    assert capfd.readouterr().err == "error: out of memory\n"


def test_rank_0_may_take_longer_than_the_timeout_while_it_gives_signs_of_life(group: Group) -> None:
    def leads(end: Announcements) -> None:
        with end.leading():
            time.sleep(2.0)

    assert group(leads, lambda end: list(end.announced()), timeout=1.0)[1].result() == []


def test_a_rank_that_falls_silent_is_given_up_after_the_timeout(group: Group) -> None:
    silent = group(lambda end: None, lambda end: list(end.announced()), timeout=1.0)[1].exception()
    assert isinstance(silent, RuntimeError)
    assert str(silent) == (
        "rank 0 has given no sign of life for 1 s (trainer.timeout). See what it last said, or allow it more time."
    )


def test_a_machine_that_does_not_see_what_rank_0_prepared_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rank_group, "SEEN_S", 0.2)
    run = Run(tmp_path, fingerprint({"seed": 1}))
    file = tmp_path / ".hydra/config.yaml"
    with pytest.raises(ValueError) as error:
        await_config(run)
    assert str(error.value).startswith(f"{file} isn't there on ")
    file.parent.mkdir()
    file.write_text("seed: 0\n")
    with pytest.raises(ValueError) as error:
        await_config(run)
    assert str(error.value).startswith(f"{file} holds another config on ")
    file.write_text("seed: 1\n")
    await_config(run)
