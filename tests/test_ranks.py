"""Which process this is, under batch systems: what a script is given there isn't what its steps are given."""

import pytest
from lightning.pytorch.plugins.environments import LightningEnvironment, SLURMEnvironment, TorchElasticEnvironment

from rankdistil import ranks

SCRIPT = {
    "SLURM_NTASKS": "2",
    "SLURM_NTASKS_PER_NODE": "2",
    "SLURM_PROCID": "0",
    "SLURM_NODEID": "0",
    "SLURM_JOB_NAME": "train",
}
STEP = SCRIPT | {"SLURM_STEP_NUM_TASKS": "2", "SLURM_STEP_NUM_NODES": "1", "SLURM_PROCID": "1", "SLURM_LOCALID": "1"}
TORCHRUN = {"TORCHELASTIC_RUN_ID": "x", "RANK": "3", "WORLD_SIZE": "4", "LOCAL_WORLD_SIZE": "2", "GROUP_RANK": "1"}


@pytest.mark.parametrize(
    ("given", "rank", "environment"),
    [
        ({}, None, LightningEnvironment),
        (SCRIPT, None, LightningEnvironment),
        (STEP, ranks.Rank(1, 2, 2, 0), SLURMEnvironment),
        (STEP | {"SLURM_JOB_NAME": "bash"}, ranks.Rank(1, 2, 2, 0), SLURMEnvironment),
        (STEP | {"SLURM_STEP_NUM_TASKS": "1"}, None, LightningEnvironment),
        (STEP | TORCHRUN, ranks.Rank(3, 4, 2, 1), TorchElasticEnvironment),
    ],
)
def test_lightning_is_told_what_this_process_is(
    monkeypatch: pytest.MonkeyPatch, given: dict[str, str], rank: ranks.Rank | None, environment: type
) -> None:
    for name in (*STEP, *TORCHRUN):
        monkeypatch.delenv(name, raising=False)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    assert ranks.current() == rank
    assert type(ranks.environment()) is environment
