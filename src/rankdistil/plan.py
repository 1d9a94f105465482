"""What a run needs: its parents, which of them are finished, and what has to be trained first."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from omegaconf import DictConfig, OmegaConf, open_dict
from rich.console import Console
from rich.table import Table

from rankdistil.lineage import fingerprint, outcome_settings
from rankdistil.runfolder import State, holder, state

OWN = ("stage", "method", "run_name", "folder", "student", "resume")  # not handed down from a child to its parents


class Step(NamedTuple):
    """One run of the plan.

    Attributes:
        cfg: its config.
        folder: its run folder.
        settings: what decides its outcome.
        state: what has to be done.
    """

    cfg: DictConfig
    folder: Path
    settings: dict[str, Any]
    state: State


def make_plan(cfg: DictConfig, compose: Callable[[list[str]], DictConfig]) -> list[Step]:
    """List the runs that a config needs, parents first, the run itself last.

    Args:
        cfg: a checked training config.
        compose: composes a training config from group overrides, for the parents' stages.

    Raises:
        ValueError: if a folder holds a run made with other settings.
    """
    parents: list[Step] = []
    if cfg.stage.teacher == "ranker" and cfg.teacher.export is None:
        parents.append(_step(_teacher_config(cfg, compose), {}))
    return [*parents, _step(cfg, {step.cfg.stage.name: fingerprint(step.settings) for step in parents})]


def teacher_folder(cfg: DictConfig) -> Path:
    """Return the run folder of the teacher ranker."""
    return Path(cfg.paths.runs) / cfg.teacher.run


def show(steps: list[Step], console: Console) -> None:
    """Print the plan as a table."""
    table = Table(title="plan", title_justify="left")
    for column in ("run", "stage", "state", "why"):
        table.add_column(column, overflow="fold")
    for step in steps:
        table.add_row(str(step.folder), step.cfg.stage.name, step.state.name, step.state.reason)
    console.print(table)


def _teacher_config(cfg: DictConfig, compose: Callable[[list[str]], DictConfig]) -> DictConfig:
    """Give the teacher's stage everything that the child sets for all stages: data, teacher, trainer, steps, seed."""
    parent = compose(["stage=teacher"])
    with open_dict(parent):
        for key in cfg:
            if key not in OWN:
                OmegaConf.update(parent, key, cfg._get_node(key), merge=False, force_add=True)
        parent.folder = cfg.teacher.run
    return parent


def _step(cfg: DictConfig, parents: dict[str, str]) -> Step:
    if cfg.teacher.export is not None and cfg.stage.teacher == "ranker":
        parents = {"teacher": str(cfg.teacher.export)}
    folder = Path(cfg.paths.runs) / cfg.folder
    settings = outcome_settings(cfg, parents)
    found, by = state(folder, settings), holder(folder)
    return Step(cfg, folder, settings, found if by is None else State("running", f"in use by {by}"))
