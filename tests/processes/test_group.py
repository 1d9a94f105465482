"""What ranks tell one another outside of training, and how all end when one fails or is late."""

import os
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from omegaconf import DictConfig, OmegaConf
from torch.distributed import TCPStore

from rankdistil.files import fingerprint
from rankdistil.processes import group as rank_group
from rankdistil.processes import ranks
from rankdistil.processes.group import Group, Run, await_config, fail, join, reduced

CFG = OmegaConf.create({"seed": 0, "stage": {"lr": 0.5, "steps": "${seed}"}})


class Ended(NamedTuple):
    """Attributes: told: what the function returned or raised; said: on stderr; status: exit status."""

    told: str
    said: str
    status: int


Start = Callable[..., list[Ended]]


@pytest.fixture
def start(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Start]:
    """Call one function for each rank in a process of its own, with its group, beside a store as torchrun's agent keeps it."""
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    found = {"TORCHELASTIC_RUN_ID": "a", "TORCHELASTIC_USE_AGENT_STORE": "True", "MASTER_ADDR": "127.0.0.1"}
    for name, value in (found | {"MASTER_PORT": str(store.port)}).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(rank_group, "LAST_WORDS_S", 2.0)

    def run(*acts: Callable[[Group], object], timeout: float = 20.0, nodes: int = 1) -> list[Ended]:
        world = len(acts)
        names = ("RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "GROUP_RANK")
        children = []
        for number, act in enumerate(acts):
            place = dict(zip(names, map(str, (number, world, world // nodes, number * nodes // world)), strict=True))
            children.append(_fork(lambda act=act: act(join(timeout)), place, tmp_path / f"{number}"))
        codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
        files = [[tmp_path / f"{number}.{what}" for what in ("told", "said")] for number in range(world)]
        texts = [[file.read_text() if file.exists() else "" for file in pair] for pair in files]
        return [Ended(*pair, code) for pair, code in zip(texts, codes, strict=True)]

    yield run
    del store


def _fork(act: Callable[[], object], place: dict[str, str], target: Path) -> int:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # the other threads are the store's
        if child := os.fork():
            return child
    try:
        os.environ.update(place)
        sys.stderr = target.with_name(f"{target.name}.said").open("w")
        try:
            told = repr(act())
        except Exception as error:
            told = f"{type(error).__name__}: {error}"
        target.with_name(f"{target.name}.told").write_text(told)
    finally:
        sys.stderr.flush()
        os._exit(0)


def comparing(cfg: DictConfig) -> Callable[[Group], None]:
    return lambda group: group.compare(cfg)


def lead(group: Group, act: Callable[[], object] = lambda: None) -> None:
    with group.leading():
        act()


def follow(group: Group) -> list[Run]:
    return list(group.announcements())


def fail_as_told(group: Group, act: Callable[[], object]) -> None:
    """Fail as the command line does."""
    try:
        act()
    except RuntimeError as error:
        fail(ranks.current(), str(error))


def test_ranks_with_one_resolved_config_go_on(start: Start) -> None:
    resolved = OmegaConf.create({"seed": 0, "stage": {"lr": 0.5, "steps": 0}})
    assert [ended.told for ended in start(comparing(CFG), comparing(resolved), comparing(CFG))] == ["None"] * 3


@pytest.mark.fault("E7")
def test_where_a_rank_has_other_settings_all_name_each_difference(start: Start) -> None:
    other = OmegaConf.merge(CFG, {"stage": {"lr": 0.25}, "extra": 1})
    message = (
        "ValueError: rank 2 was started with other settings than rank 0 (rank 0 -> rank 2):\n  extra: (absent) -> 1\n  "
        "stage.lr: 0.5 -> 0.25\nStart all ranks with the same command line, and the same environment where settings refer to "
        "it."
    )
    assert [ended.told for ended in start(comparing(CFG), comparing(CFG), comparing(other))] == [message] * 3


def test_the_others_carry_out_what_rank_0_announces_until_it_has_no_more(start: Start) -> None:
    """It may take longer than the timeout in between, while it gives signs of life, and agrees with the others in a run."""

    def leads(group: Group) -> int:
        with group.leading():
            time.sleep(3.0)
            with group.announced(Path("runs/teacher"), CFG):
                least = reduced(5, "MIN")
            with group.announced(Path("runs/student"), CFG):
                pass
        return least

    def follows(group: Group) -> list[Any]:
        runs = group.announcements()
        return [next(runs), reduced(3, "MIN"), *runs]

    resolved = fingerprint({"seed": 0, "stage.lr": 0.5, "stage.steps": 0})
    first, *others = start(leads, follows, follows, timeout=2.0)
    assert first.told == "3"
    runs = [Run(Path(f"runs/{name}"), resolved) for name in ("teacher", "student")]
    assert [ended.told for ended in others] == [repr([runs[0], 3, runs[1]])] * 2


@pytest.mark.fault("E1")
def test_the_failure_of_a_rank_reaches_those_that_wait_and_is_printed_once_on_each_machine(start: Start) -> None:
    def fails(group: Group) -> None:
        fail(ranks.current(), "no such file: a.tsv")

    def follows(group: Group) -> None:
        fail_as_told(group, lambda: follow(group))

    said = [ended.said for ended in start(fails, follows, follows, follows, nodes=2)]
    assert ["".join(said[:2]), "".join(said[2:])] == ["error: no such file: a.tsv\n"] * 2


def test_only_the_first_of_several_failures_is_printed(start: Start) -> None:
    def fails(group: Group) -> None:
        fail(ranks.current(), "out of memory")

    assert "".join(ended.said for ended in start(fails, fails, fails)) == "error: out of memory\n"


def test_a_rank_that_is_busy_ends_soon_after_another_one_has_failed(start: Start) -> None:
    def fails(group: Group) -> None:
        fail(ranks.current(), "no such file: a.tsv")

    began = time.monotonic()
    first, busy = start(fails, lambda group: time.sleep(60))
    assert time.monotonic() - began < 30
    assert (first.status, busy.status, busy.told) == (0, 1, "")


@pytest.mark.parametrize("late", [0, 1])
@pytest.mark.fault("E2")
def test_a_rank_that_keeps_the_others_waiting_is_named(start: Start, late: int) -> None:
    def waits(group: Group) -> None:
        fail_as_told(group, lambda: lead(group, lambda: reduced(1, "MAX")) if late else follow(group))

    def sleeps(group: Group) -> None:
        time.sleep(60)

    ended = start(*([waits, sleeps] if late else [sleeps, waits]), timeout=1.0)
    assert ended[1 - late].said.startswith(
        f"error: rank {1 - late} waits in vain for rank {late}, which has ended, is halted, or takes longer than "
        "trainer.timeout=1 seconds. See what it last said; if it only needs longer, raise trainer.timeout; resume=true "
        "continues the run. ("
    )


def test_ranks_that_do_not_come_are_named(start: Start) -> None:
    (ended,) = start(lambda none: Group(ranks.Rank(0, 3, 3, 0), 1.0))
    assert ended.told == "RuntimeError: rank 1, 2 of 3 hasn't come in 1 s (trainer.timeout)."


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


ENDING = """
import os
from torch.distributed import TCPStore
from rankdistil.processes import group, ranks
store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
group.FAILED_S = 0  # it is inside of the store all the time
group._watch(ranks.Rank(0, 2, 2, 0), store)
print("done")
"""


FAILING = """
import sys, threading, time
from torch.distributed import TCPStore
from rankdistil.processes import group, ranks
store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
group.BEAT_S = 0
lone = object.__new__(group.Group)
lone.timeout, lone._rank, lone._free = 1.0, ranks.Rank(0, 2, 2, 0), threading.Lock()
def tell(what=None):
    until = time.monotonic() + 2
    while time.monotonic() < until:
        store.check(["failure"])
lone._tell = tell
with lone.leading():
    time.sleep(0.5)  # the others are being told meanwhile
    sys.exit("no such file: a.tsv")
"""


@pytest.mark.slow
def test_a_rank_that_fails_while_it_plans_ends_with_its_message_though_a_thread_still_speaks_to_the_others() -> None:
    done = subprocess.run([sys.executable, "-c", FAILING], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (1, "no such file: a.tsv\n")


@pytest.mark.slow
def test_a_run_that_is_done_ends_well_though_a_thread_still_looks_for_the_failure_of_others() -> None:
    done = subprocess.run([sys.executable, "-c", ENDING], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")
