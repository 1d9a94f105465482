"""Which process of a group this is, and how many a run asks for."""

import pytest
from lightning.pytorch.plugins.environments import LightningEnvironment, SLURMEnvironment, TorchElasticEnvironment
from omegaconf import OmegaConf

from rankdistil.processes.ranks import Rank, current, environment, mute, require_alone, require_fitting, require_whole, wanted

TORCHRUN = {"TORCHELASTIC_RUN_ID": "a", "RANK": "3", "WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "2", "GROUP_RANK": "1"}
TORCHRUN |= {"MASTER_ADDR": "a", "MASTER_PORT": "1"}
TASK = {"SLURM_PROCID": "5", "SLURM_NTASKS": "6", "SLURM_NODEID": "1"}
STEP = {"SLURM_STEP_NUM_TASKS": "6", "SLURM_STEP_NUM_NODES": "2"}


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*TORCHRUN, *TASK, *STEP):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("given", "rank"),
    [
        ({}, None),
        (TORCHRUN, Rank(number=3, world=4, local=2, node=1)),
        (TASK | STEP, Rank(number=5, world=6, local=3, node=1)),
        (TASK, None),  # a script under sbatch runs once, whatever the number of tasks
        (TASK | STEP | {"SLURM_STEP_NUM_TASKS": "1"}, None),
        (TASK | STEP | TORCHRUN, Rank(number=3, world=4, local=2, node=1)),  # torchrun in a job of SLURM
    ],
)
def test_a_process_knows_its_place_in_a_group(
    given: dict[str, str], rank: Rank | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    assert current() == rank
    assert mute() == (rank is not None)  # none of them is rank 0


@pytest.mark.parametrize(
    ("given", "there", "missing"),
    [
        (
            {"RANK": "1", "WORLD_SIZE": "2"},
            "RANK=1, WORLD_SIZE=2",
            "LOCAL_WORLD_SIZE, GROUP_RANK, MASTER_ADDR, MASTER_PORT, TORCHELASTIC_RUN_ID",
        ),
        ({"WORLD_SIZE": "2"} | TASK, "WORLD_SIZE=2", "RANK, LOCAL_WORLD_SIZE, GROUP_RANK, MASTER_ADDR, MASTER_PORT, TORCH"),
        ({"TORCHELASTIC_RUN_ID": "a"}, "TORCHELASTIC_RUN_ID=a", "RANK, WORLD_SIZE, LOCAL_WORLD_SIZE, GROUP_RANK, MASTER_ADDR"),
    ],
)
def test_one_process_of_several_that_torchrun_did_not_start_is_refused(
    given: dict[str, str], there: str, missing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ValueError) as error:
        require_whole()
    assert f"one process of several ({there}), but torchrun, which also sets {missing}" in str(error.value)
    assert current() is None


@pytest.mark.parametrize(
    ("given", "place"),
    [
        ({}, None), ({"RANK": "0", "WORLD_SIZE": "1", "MASTER_ADDR": "a"}, None), ({"MASTER_ADDR": "a"}, None), (TORCHRUN, 3),
        ({"WORLD_SIZE": "6"} | TASK | STEP, 5),
    ],
)  # fmt: skip
def test_a_process_that_is_alone_and_one_that_was_told_all_are_not_refused(
    given: dict[str, str], place: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    require_whole()
    assert getattr(current(), "number", None) == place


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, LightningEnvironment),
        (TASK, LightningEnvironment),
        (TASK | STEP | {"SLURM_NTASKS_PER_NODE": "3", "SLURM_JOB_NAME": "train"}, SLURMEnvironment),
        (TASK | STEP | {"SLURM_NTASKS_PER_NODE": "3", "SLURM_JOB_NAME": "bash"}, SLURMEnvironment),
        (TASK | STEP | {"SLURM_STEP_NUM_TASKS": "1"}, LightningEnvironment),
        (TASK | STEP | TORCHRUN, TorchElasticEnvironment),
    ],
)
def test_lightning_is_told_the_same(given: dict[str, str], expected: type, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")  # where there is an srun, Lightning asks why it wasn't used
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    assert type(environment()) is expected


@pytest.mark.parametrize(
    ("trainer", "number"),
    [
        ({"accelerator": "cpu", "devices": 1}, 1),
        ({"accelerator": "cpu", "devices": 3}, 3),
        ({"accelerator": "cpu", "devices": "2"}, 2),
        ({"accelerator": "cpu", "devices": "auto"}, 1),
        ({"accelerator": "gpu", "devices": -1}, 4),
        ({"accelerator": "cuda", "devices": "auto"}, 4),
        ({"accelerator": "auto", "devices": [0, 2]}, 2),
        ({"accelerator": "gpu", "devices": "1,3"}, 2),
        ({"accelerator": "gpu", "devices": "1,"}, 1),
        ({"accelerator": "gpu", "devices": 3}, 3),
    ],
)
def test_a_run_wants_a_process_for_each_device(
    trainer: dict[str, object], number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend_gpus(monkeypatch, 4)
    assert wanted(OmegaConf.create(trainer)) == number


@pytest.mark.parametrize(
    ("trainer", "message"),
    [
        (
            {"accelerator": "gpu", "devices": -1},
            "trainer.devices is -1, with trainer.accelerator=gpu: this machine has no GPU that torch can use. "
            "Use trainer=cpu or trainer=ddp_cpu.",
        ),
        ({"accelerator": "cpu", "devices": -1}, "trainer.devices is -1, with trainer.accelerator=cpu: "),
        ({"accelerator": "cuda", "devices": 2}, "trainer.devices is 2, with trainer.accelerator=cuda: "),
        (
            {"accelerator": "abacus", "devices": 2},
            "trainer.devices is 2, with trainer.accelerator=abacus: expected trainer.accelerator to be one of cpu, cuda, mps, "
            "gpu, auto.",
        ),
    ],
)
def test_devices_that_are_not_there_are_refused(
    trainer: dict[str, object], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend_gpus(monkeypatch, 0)
    with pytest.raises(ValueError) as error:
        wanted(OmegaConf.create(trainer))
    assert str(error.value).startswith(message)


def test_other_numbers_of_processes_than_the_settings_ask_for_are_refused() -> None:
    trainer = OmegaConf.create({"accelerator": "cpu", "devices": 2, "num_nodes": 2})
    require_fitting(trainer, Rank(3, 4, 2, 1))
    with pytest.raises(ValueError) as error:
        require_fitting(trainer, Rank(3, 6, 3, 1))
    assert str(error.value) == (
        "trainer.devices is 2 and trainer.num_nodes 2: 4 processes, but 6 were started (3 on each machine). "
        "Set trainer.devices=3 trainer.num_nodes=2, or start 4."
    )
    with pytest.raises(ValueError) as error:
        require_fitting(trainer, None)
    assert str(error.value).startswith(
        "trainer.num_nodes is 2, but train.py was started on this machine alone. Start it on each: torchrun --nnodes=2 "
        "--nproc-per-node=2 "
    )
    require_fitting(OmegaConf.create({"accelerator": "cpu", "devices": 2}), None)


@pytest.mark.parametrize(
    ("trainer", "number"), [({"devices": 2}, "2 asks for 2"), ({"devices": 1, "num_nodes": 2}, "1 asks for 2")]
)
def test_a_comparison_in_several_processes_is_refused(trainer: dict[str, int], number: str) -> None:
    require_alone(OmegaConf.create({"accelerator": "cpu", "devices": 1}))
    with pytest.raises(ValueError) as error:
        require_alone(OmegaConf.create({"accelerator": "cpu"} | trainer))
    assert str(error.value) == (
        f"evaluate.py tests and times in one process, but trainer.devices={number}. Use trainer=cpu or trainer=gpu, or add "
        "trainer.devices=1 trainer.num_nodes=1: rankings don't depend on the number."
    )


@pytest.mark.parametrize("given", [TORCHRUN | {"WORLD_SIZE": "6"}, TASK | STEP])
def test_a_comparison_that_was_started_in_several_processes_is_refused(given, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(
        ValueError, match=r"tests and times in one process, but 6 were started\. Start it without torchrun or srun"
    ):
        require_alone(OmegaConf.create({"accelerator": "cpu", "devices": 6}))


def pretend_gpus(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """Let Lightning see a machine with that many CUDA devices, and no other accelerator."""
    from lightning.pytorch.accelerators import MPSAccelerator

    for layer in ("fabric", "pytorch"):
        monkeypatch.setattr(f"lightning.{layer}.accelerators.cuda.num_cuda_devices", lambda: number)
    monkeypatch.setattr(MPSAccelerator, "is_available", staticmethod(lambda: False))
