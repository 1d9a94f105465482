"""Rank of this process: alone, or one of a group that torchrun or SLURM started; and how many processes a run asks for."""

import os
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from rankdistil.files import CHECKOUT

if TYPE_CHECKING:
    from lightning.pytorch.plugins.environments import ClusterEnvironment

# What torchrun sets, and nobody else sets all of. The first four make a ``Rank``.
TORCHRUN = ("RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "GROUP_RANK", "MASTER_ADDR", "MASTER_PORT", "TORCHELASTIC_RUN_ID")

_LOST = re.compile(  # gloo's words and NCCL's
    "closed by peer|reset by peer|Broken pipe|timed out connecting|Timed out waiting|before timing out|remote process exited"
)


class Rank(NamedTuple):
    """This process's place in a group that somebody else started.

    Attributes:
        number: 0 to world - 1, over all machines.
        world: processes in the group.
        local: of them on this machine.
        node: number of this machine.
    """

    number: int
    world: int
    local: int
    node: int


def current() -> Rank | None:
    """Say which rank this process is; None if nobody started it as one of a group.

    A script that runs under ``sbatch`` has numbers of tasks and of a task, too: only a step of ``srun`` runs it once per task.
    """
    env = os.environ
    if _under_torchrun():
        return Rank(*(int(env[name]) for name in TORCHRUN[:4]))
    world = int(env.get("SLURM_STEP_NUM_TASKS", "1"))
    if "SLURM_PROCID" in env and world > 1:
        nodes = int(env.get("SLURM_STEP_NUM_NODES", "1"))
        return Rank(int(env["SLURM_PROCID"]), world, world // nodes, int(env.get("SLURM_NODEID", "0")))
    return None


def require_whole() -> None:
    """See that this process is alone, or that whoever started it as one of several told it all that it has to know.

    Raises:
        ValueError: naming the variables that are there, those that are missing, and the fix.
    """
    env = os.environ
    of_several = env.get("WORLD_SIZE", "1") != "1" or env.get("RANK", "0") != "0" or "TORCHELASTIC_RUN_ID" in env
    if of_several and current() is None:
        there = [name for name in TORCHRUN if name in env]
        missing = ", ".join(name for name in TORCHRUN if name not in env)
        raise ValueError(
            f"the environment says that this is one process of several ({', '.join(f'{name}={env[name]}' for name in there)}), "
            f"but torchrun, which also sets {missing}, didn't start it. Start it with torchrun or srun; or unset "
            f"{' '.join(there)} for a process of its own."
        )


def mute() -> bool:
    """Whether another process speaks for this one: rank 0 does for all."""
    rank = current()
    return rank is not None and rank.number > 0


def lost_peer(message: str) -> bool:
    """Whether an error only tells that another rank has gone or doesn't come: what is left to say when that one died."""
    return _LOST.search(message) is not None


def environment() -> "ClusterEnvironment":
    """Tell Lightning what ``current`` says.

    Its own guess takes a script under ``sbatch`` for a rank, and doesn't take a step of a job called ``bash`` for one.
    """
    from lightning.pytorch.plugins.environments import LightningEnvironment, SLURMEnvironment, TorchElasticEnvironment

    if current() is None:
        return LightningEnvironment()
    return TorchElasticEnvironment() if _under_torchrun() else SLURMEnvironment(auto_requeue=False)


def wanted(trainer: Mapping[str, Any]) -> int:
    """Return how many processes a run wants on each machine: one for each of its devices.

    Args:
        trainer: the settings ``trainer``; ``devices`` as Lightning reads it: a number, ``auto``, -1 (all), or which ones.

    Raises:
        ValueError: for devices that aren't there.
    """
    if trainer.get("devices", 1) in (1, "1"):
        return 1
    from lightning.fabric.utilities.exceptions import MisconfigurationException

    devices = trainer["devices"] if isinstance(trainer["devices"], int | str) else list(trainer["devices"])
    try:
        accelerator = _accelerator(str(trainer.get("accelerator", "auto")))
        found = accelerator.parse_devices(accelerator.auto_device_count() if devices == "auto" else devices)
        return len(accelerator.get_parallel_devices(found))
    except (MisconfigurationException, TypeError, ValueError) as error:
        raise ValueError(
            f"trainer.devices is {devices!r}, with trainer.accelerator={trainer.get('accelerator')}: {error}"
        ) from None


def processes(trainer: Mapping[str, Any]) -> int:
    """Return how many processes a run wants on all machines.

    Raises:
        ValueError: for devices that aren't there.
    """
    return wanted(trainer) * trainer.get("num_nodes", 1)


def require_fitting(trainer: Mapping[str, Any], rank: Rank | None) -> None:
    """See that as many processes were started as the settings ask for.

    Args:
        trainer: the settings ``trainer``.
        rank: this process's place; None if it was started alone, and starts others itself on this machine.

    Raises:
        ValueError: naming both numbers, and the fix.
    """
    devices, nodes = wanted(trainer), trainer.get("num_nodes", 1)
    if rank is None and nodes != 1:
        raise ValueError(
            f"trainer.num_nodes is {nodes}, but train.py was started on this machine alone. Start it on each: "
            f"torchrun --nnodes={nodes} --nproc-per-node={devices} --rdzv-backend=c10d --rdzv-endpoint=<first host>:<port> "
            f"{'train.py' if CHECKOUT else '--no-python rankdistil train'} ..., or with srun, one task for each device."
        )
    if rank is not None and devices * nodes != rank.world:
        raise ValueError(
            f"trainer.devices is {devices} and trainer.num_nodes {nodes}: {devices * nodes} processes, but {rank.world} were "
            f"started ({rank.local} on each machine). Set trainer.devices={rank.local} "
            f"trainer.num_nodes={rank.world // rank.local}, or start {devices * nodes}."
        )


def require_alone(trainer: Mapping[str, Any]) -> None:
    """See that one process was started, and that the settings ask for no more: others would disturb what is timed.

    Args:
        trainer: the settings ``trainer``.

    Raises:
        ValueError: naming the number, and the fix.
    """
    require_whole()
    rank = current()
    if rank is not None and rank.world > 1:
        raise ValueError(
            f"evaluate.py tests and times in one process, but {rank.world} were started. Start it without torchrun or srun "
            "(srun --ntasks=1)."
        )
    if (number := wanted(trainer) * trainer.get("num_nodes", 1)) > 1:
        raise ValueError(
            f"evaluate.py tests and times in one process, but trainer.devices={trainer.get('devices', 1)} asks for {number}. "
            "Use trainer=cpu or trainer=gpu, or add trainer.devices=1 trainer.num_nodes=1: rankings don't depend on the number."
        )


def _under_torchrun() -> bool:
    return all(name in os.environ for name in TORCHRUN)


def _accelerator(name: str) -> type:
    from lightning.pytorch.accelerators import CPUAccelerator, CUDAAccelerator, MPSAccelerator

    if name in ("gpu", "auto"):
        there = [each for each in (MPSAccelerator, CUDAAccelerator) if each.is_available()]
        if not there and name == "gpu":
            raise ValueError("this machine has no GPU that torch can use. Use trainer=cpu or trainer=ddp_cpu.")
        return there[0] if there else CPUAccelerator
    known = {"cpu": CPUAccelerator, "cuda": CUDAAccelerator, "mps": MPSAccelerator}
    if name not in known:
        raise ValueError(f"expected trainer.accelerator to be one of {', '.join(known)}, gpu, auto.")
    return known[name]
