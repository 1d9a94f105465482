"""What a run needs: its parents, which of them are finished, and what has to be trained first."""

from collections.abc import Callable, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any, NamedTuple

from omegaconf import DictConfig, OmegaConf, open_dict
from rich.console import Console
from rich.table import Table

from rankdistil.files import fingerprint
from rankdistil.lineage import scores_origin
from rankdistil.locks import holder
from rankdistil.models.checkpoint import identity
from rankdistil.models.starts import Start
from rankdistil.outcome import outcome_settings, test_settings
from rankdistil.roles import asks_teacher, score_folders, start_in_words, start_of
from rankdistil.runfolder import State, state

# Not handed down from a child to its parents.
OWN = ("stage", "method", "follows", "follows_run", "run_name", "folder", "student", "resume")


class Step(NamedTuple):
    """One run of the plan.

    Attributes:
        cfg: its config.
        folder: its run folder.
        settings: what decides its outcome.
        tests: what decides its tests, one for each split.
        parents: what it learns or starts from, by role: ``source`` (export) and ``fingerprint``.
        state: what has to be done.
    """

    cfg: DictConfig
    folder: Path
    settings: dict[str, Any]
    tests: list[dict[str, Any]]
    parents: dict[str, dict[str, str]]
    state: State


def make_plan(cfg: DictConfig, compose: Callable[[list[str]], DictConfig]) -> list[Step]:
    """List the runs that a config needs, parents first, the run itself last.

    Args:
        cfg: a checked training config.
        compose: composes a training config from group overrides, for the parents' stages.

    Raises:
        ValueError: if a folder holds a run made with other settings, two runs of the plan would share one, or an experiment
            starts from itself.
    """
    steps: dict[Path, Step] = {}
    _add(cfg, compose, steps, (), asked=True)
    return list(steps.values())


def show(steps: list[Step], console: Console, expected: Sequence[str] = ()) -> None:
    """Print the plan as a table; ``expected`` says of each step how long it will take."""
    table = Table(title="plan", title_justify="left")
    for column in ("run", "stage", "starts from", "state", "why"):
        table.add_column(column, overflow="fold", no_wrap=column in ("stage", "state"))
    if expected:
        table.add_column("expected", no_wrap=True)
    starts: dict[Path, str] = {}
    for step in steps:  # parents come first
        followed = Path(step.parents.get("student", {}).get("source", "")).parent
        starts[step.folder] = "-" if step.cfg.stage.learns == "nothing" else start_in_words(step.cfg, starts.get(followed, ""))
    for step, time in zip_longest(steps, expected):
        cells = [str(step.folder), step.cfg.stage.name, starts[step.folder], step.state.name, step.state.reason]
        table.add_row(*cells, *([time] if expected else []))
    console.print(table)


def _add(
    cfg: DictConfig, compose: Callable[[list[str]], DictConfig], steps: dict[Path, Step], below: tuple[str, ...],
    asked: bool = False,
) -> Step:  # fmt: skip
    """Add a run and, before it, its parents, of which weights alone count; one that is ``asked`` for itself is tested, too."""
    parents: dict[str, dict[str, str]] = {}
    if asks_teacher(cfg):
        if cfg.teacher.export is None:
            parents["teacher"] = _parent(_add(_teacher_config(cfg, compose), compose, steps, below))
        else:
            parents["teacher"] = _outside(str(cfg.teacher.export))
    if folders := score_folders(cfg):
        parents["scores"] = scores_origin(folders, "teacher.scores")
    if cfg.stage.reads == "triples" and cfg.data.negatives_scores is not None:
        parents["negatives"] = scores_origin([Path(cfg.data.negatives_scores).expanduser()], "data.negatives_scores")
    start = start_of(cfg) if cfg.stage.learns == "student" else Start("random")
    if start.kind == "experiment":
        if start.path in below:
            raise ValueError(f"follows={start.path}: that experiment follows itself ({' <- '.join((*below, start.path))}).")
        parent = _start_config(cfg, start.path, compose)
        parents["student"] = _parent(_add(parent, compose, steps, (*below, start.path)))
    elif start.path:
        parents["student"] = _outside(start.path)
    folder = Path(cfg.paths.runs) / cfg.folder
    settings = outcome_settings(cfg, {role: parent["fingerprint"] for role, parent in parents.items()})
    if folder in steps and steps[folder].settings != settings:
        raise ValueError(
            f"two runs of this plan would share the folder {folder}: one of stage {steps[folder].cfg.stage.name} and one of "
            f"stage {cfg.stage.name}, with other settings. Name another folder for one of them: run_name=<name> or "
            "method=<name> for the run itself, teacher.run=teacher/<name>/<name> for its teacher, follows_run=<name> for "
            "the run that it follows."
        )
    tests = test_settings(cfg)
    found, by = state(folder, settings, tests if asked else None), holder(folder)
    step = Step(cfg, folder, settings, tests, parents, found if by is None else State("running", f"in use by {by}"))
    return steps.setdefault(folder, step)


def _parent(step: Step) -> dict[str, str]:
    return {"source": str(step.folder / "export"), "fingerprint": fingerprint(step.settings)}


def _outside(path: str) -> dict[str, str]:
    return {"source": path, "fingerprint": identity(path)}


def _teacher_config(cfg: DictConfig, compose: Callable[[list[str]], DictConfig]) -> DictConfig:
    parent = _inherit(cfg, compose(["stage=teacher"]))
    parent.seed, parent.folder = cfg.teacher.seed, cfg.teacher.run
    parent.data.negatives_margin = parent.data.negatives_scores = None  # the scores are usually its own
    return parent


def _start_config(cfg: DictConfig, experiment: str, compose: Callable[[list[str]], DictConfig]) -> DictConfig:
    parent = _inherit(cfg, compose([f"+experiment={experiment}"]))
    OmegaConf.update(parent, "student", cfg._get_node("student"), merge=False)
    parent.run_name = parent.follows_run = cfg.follows_run
    return parent


def _inherit(cfg: DictConfig, parent: DictConfig) -> DictConfig:
    """Give a parent everything that the child sets for all stages: data, teacher, trainer, steps, seed."""
    with open_dict(parent):
        for key in cfg:
            if key not in OWN:
                OmegaConf.update(parent, key, cfg._get_node(key), merge=False, force_add=True)
    return parent
