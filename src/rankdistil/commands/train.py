"""The command ``train.py``: plan, parents, then the run itself."""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from rankdistil.callbacks.checkpoints import require_resumable
from rankdistil.callbacks.steps import GradientShares
from rankdistil.cli import console
from rankdistil.config.checks import check, check_start, refuse_secrets
from rankdistil.config.choices import asks_assistant, mines, named_source, start_of
from rankdistil.data.fetch import all_missing, home
from rankdistil.files import called, locked, sweep
from rankdistil.models.locate import fetch, locate, on_hub_only, pinned
from rankdistil.planning import plan
from rankdistil.planning.estimate import expected
from rankdistil.planning.unread import unread
from rankdistil.processes import group as rank_group
from rankdistil.processes import launch, ranks
from rankdistil.processes.group import Group
from rankdistil.processes.stopping import restarted
from rankdistil.report.run import print_check
from rankdistil.report.tables import print_plain
from rankdistil.runs.record import discard_unstarted, prepare, read_record, run_config, state
from rankdistil.stages import data as run_data
from rankdistil.stages import networks
from rankdistil.stages.mine_negatives import run_mining
from rankdistil.stages.score_teacher import run_scoring
from rankdistil.stages.train import run_stage


def train(cfg: DictConfig) -> float | None:
    """Carry out a composed training config: print the plan, run what is missing, then the run itself.

    In a process that torchrun or SLURM started as one of a group, all of them carry out each run, once rank 0 has prepared it.

    With ``plan=show`` only the plan is printed, with ``plan=check`` only what the data files hold and what is wrong with them.

    Returns:
        The best validation value, for sweepers that search; None where nothing ran.

    Raises:
        ValueError: for a wrong setting, or a folder that holds another run.
        RuntimeError: if a folder is in use, or a parent fails.
    """
    check_start(cfg)
    ranks.require_whole()
    rank = ranks.current()
    if rank is None:
        return _lead(cfg, None)
    timeout = run_data.trainer_arguments(cfg)["timeout"]
    if HydraConfig.get().mode == RunMode.MULTIRUN and "BasicLauncher" in HydraConfig.get().launcher._target_:
        raise ValueError(f"each rank would run the whole sweep. Start it alone ({called('train')} -m ...): jobs start ranks.")
    ranks.require_fitting(cfg.trainer, rank)
    group = rank_group.join(timeout)
    if group is None:  # torchrun has started one process
        return _lead(cfg, None)
    group.compare(cfg)
    if rank.number == 0:
        with group.leading():
            return _lead(cfg, group)
    for run in group.announcements():
        rank_group.await_config(run)
        carry_out_prepared(run.folder)
    return None


def _lead(cfg: DictConfig, group: Group | None) -> float | None:
    """Do what ``train`` does, alone or as rank 0 of a group."""
    refuse_secrets(HydraConfig.get().job.env_set, "hydra.job.env_set")
    _check(cfg)
    if cfg.plan == "check":
        print_check(run_data.check_data(cfg), cfg.data.on_bad, console())
        return None
    _check_sources(cfg)
    _pin(cfg)
    scale = f"scale={HydraConfig.get().runtime.choices.scale}"  # which has sizes of an assistant's own
    steps = plan.make_plan(cfg, lambda overrides: hydra.compose("train", overrides=[scale, *overrides]))
    for step in steps:
        if step.assistant is not None:
            _check_student(step.cfg, step.assistant)
    _tell_unread([step.cfg for step in steps])
    _require_begun(steps)
    left = [step for step in steps if step.state.name != "finished"]
    if cfg.plan == "show":
        times, total = expected(steps)
        plan.show(steps, console(), times)
        print_plain(console(), [total])
        _show_missing(left)
        return None
    plan.show(steps, console())
    if group is None:
        ranks.require_fitting(cfg.trainer, None)
    for step in steps[:-1]:
        _check(step.cfg)
        _check_sources(step.cfg)
    for step in left:
        _require_equal_shares(step.cfg)
    for step in left:
        run_data.fetch_data(step.cfg, train=True)
    for step in steps:
        _carry_out(step, step is not steps[-1], group)
    return (read_record(steps[-1].folder) or {}).get("validation", {}).get("best")


def _require_begun(steps: Sequence[plan.Step]) -> None:
    """Refuse to begin what was to be resumed: a mistyped name would train it all again.

    Jobs of a sweep may each be new, and one that SLURM has queued again may have been stopped before it had saved anything.
    """
    *parents, run = steps
    asked = run.cfg.resume and HydraConfig.get().mode == RunMode.RUN and not restarted()
    if asked and read_record(run.folder) is None and not any(step.state.name == "to resume" for step in parents):
        raise ValueError(
            f"resume=true: nothing to resume in {run.folder} ({run.state.reason}). See to the run's name and place "
            "(run_name, method, paths.runs), or leave resume=true out to begin."
        )


def _tell_unread(plan: Sequence[DictConfig]) -> None:
    """Refuse settings that nothing reads; a sweep, whose procedures share its settings, is only told."""
    complaints = unread(HydraConfig.get().overrides.task, plan)
    if HydraConfig.get().mode == RunMode.RUN and (grave := [one.text for one in complaints if one.grave]):
        raise ValueError("\n".join(grave))
    print_plain(console(), [f"note: {one.text}" for one in complaints])


def _show_missing(steps: Sequence[plan.Step]) -> None:
    """Say what the steps that are left would fetch from the network."""
    files = list(dict.fromkeys(file for step in steps for file in all_missing(run_data.wanted(step.cfg, train=True))))
    lines = []
    if files:
        lines = [f"to fetch: {len(files)} files, {sum(file.size or 0 for file in files) / 1e9:.2f} GB, to {home()}"]
        lines += [f"  {file}" for file in files]
    models = dict.fromkeys(model for step in steps for model in _models(step.cfg))
    lines += [f"to fetch from the Hugging Face hub: {path}" for path in models if on_hub_only(path)]
    print_plain(console(), lines)


def _models(cfg: DictConfig) -> list[str]:
    """List the checkpoints that a config names, folders or hub ids."""
    start = start_of(cfg) if cfg.stage.learns == "student" else None
    return [named_source(cfg), *([start.path] if start and start.kind in ("export", "pretrained") else [])]


def _pin(cfg: DictConfig) -> None:
    """Name the revision of each checkpoint of the hub that a run and its parents read, so that all of them read the same.

    What this machine lacks is fetched first, unless only a plan is asked for.
    """
    needed = dict.fromkeys([*_models(cfg), *([str(cfg.teacher.path)] if cfg.follows is not None else [])])
    for path in needed:
        if cfg.plan == "run" and on_hub_only(path):
            fetch(path)
    for key in ("path", "export"):
        if cfg.teacher[key] in needed:
            cfg.teacher[key] = pinned(cfg.teacher[key])
    kind, _, path = str(cfg.student.init_from).partition(":")
    if path in needed:
        cfg.student.init_from = f"{kind}:{pinned(path)}"


def _check(cfg: DictConfig) -> None:
    """Build every plain setting once, so that a wrong one is answered before anything is read or written."""
    check(cfg)
    run_data.data_settings(cfg.data)
    timing = run_data.timing_settings(cfg)
    if timing is not None and ("torch" not in timing.backends or "float32" not in timing.dtypes):  # no device lacks these two
        raise ValueError(
            f"callbacks.inference_time has backends={list(timing.backends)}, dtypes={list(timing.dtypes)}; a run is timed when "
            "it has no graphs yet, and maybe on a device that computes nothing else. Add torch and float32; evaluate.py times "
            "graphs and other precisions alone, too."
        )
    run_data.trainer_arguments(cfg)
    GradientShares(cfg.callbacks.gradient_shares.every)
    networks.check_kind(cfg)
    if cfg.stage.learns == "teacher" and _is_here(cfg):
        networks.check_language_models(cfg)
    if cfg.stage.learns == "student":
        networks.student_size(cfg.student)
        if not asks_assistant(cfg):  # else once its size is known
            _check_student(cfg)
        networks.check_scores(cfg)
    if cfg.stage.learns != "nothing":
        networks.optim_settings(cfg.stage)
        networks.check_losses(cfg)


def _check_student(cfg: DictConfig, assistant: DictConfig | None = None) -> None:
    if _is_here(cfg):  # it needs the teacher's shape
        networks.check_student(cfg, assistant)


def _is_here(cfg: DictConfig) -> bool:
    """Whether a run's checkpoint may be read: neither a plan nor a check goes to the hub."""
    return cfg.plan == "run" or isinstance(locate(named_source(cfg)), Path)


def _require_equal_shares(cfg: DictConfig) -> None:
    """See that the processes of a run can share out the groups of a step."""
    if cfg.stage.learns != "nothing":
        accumulated = cfg.trainer.get("accumulate_grad_batches", 1)
        run_data.data_settings(cfg.data).require_equal_shares(ranks.processes(cfg.trainer), accumulated)


def _check_sources(cfg: DictConfig) -> None:
    """See that files are there and ids are known; nothing is read or fetched yet."""
    for reader in run_data.all_readers(cfg):
        reader.check()


def carry_out_prepared(folder: Path) -> None:
    """Carry out the job that another process prepared in a run folder, and locked for this one."""
    cfg = run_config(folder)
    rank_group.join(run_data.trainer_arguments(cfg)["timeout"])
    record = read_record(folder)
    _stage(cfg)(cfg, folder, record["settings"], record["parents"], console())


def _stage(cfg: DictConfig) -> Callable[..., None]:
    if cfg.stage.learns == "nothing":
        return run_mining if mines(cfg) else run_scoring
    return run_stage


def _carry_out(step: plan.Step, parent: bool, group: Group | None) -> None:
    """Run a step unless it is finished. Parents wait for another process that builds them, and always resume."""
    if step.state.name == "finished":
        what = "reused" if parent else "nothing to do"
        print_plain(console(), [f"{step.folder}: {step.state.reason}: {what}."])
        return
    # Ranks must not replay the command line of a sweep or a plan, and jobs share nothing: all but a lone one run elsewhere.
    number = ranks.wanted(step.cfg.trainer)
    alone = not parent and HydraConfig.get().mode == RunMode.RUN and number == 1
    with locked(step.folder, wait=parent) as lock:
        sweep(step.folder)
        # Again: another process may have finished it while this one waited.
        now = state(step.folder, step.settings, None if parent else step.tests)
        if now.name == "finished":
            return
        if now.name == "to test":
            print_plain(console(), [f"{step.folder}: {now.reason}."])
        if now.name == "to resume" and not (parent or step.cfg.resume or restarted()):
            raise ValueError(
                f"{step.folder} {now.reason}. Add resume=true to continue it, or remove the folder to start again."
            )
        if now.name == "to run" and step.cfg.resume and not parent:
            print_plain(console(), [f"resume=true: {step.folder} holds nothing to continue ({now.reason}): it begins afresh."])
        if now.name == "to resume" and (last := step.folder / "checkpoints" / "last.ckpt").is_file():
            require_resumable(last)
        prepare(step.folder, step.cfg, step.settings, step.parents, None if parent else HydraConfig.get(), step.tests)
        try:
            if group is not None:
                with group.announced(step.folder, step.cfg):
                    carry_out_prepared(step.folder)
            elif alone:
                _stage(step.cfg)(step.cfg, step.folder, step.settings, step.parents, console())
            else:
                sys.stdout.flush()
                launch.run_in_fresh_process(step.folder, lock, number)
        except BaseException:
            if now.name != "to test":
                discard_unstarted(step.folder)
            raise
