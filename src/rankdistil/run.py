"""The two things a user starts: training, with everything it needs, and evaluation."""

import sys
from glob import glob
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, ListConfig, OmegaConf
from rich.console import Console

from rankdistil import jobs, parts, plan, scoring
from rankdistil.fit import quieten, run_label, run_stage
from rankdistil.lineage import read_run
from rankdistil.models.load import load_tokenizer, read_config
from rankdistil.models.locate import locate
from rankdistil.report.result import read_first_stage, read_result
from rankdistil.report.table import comparison_table, differences, print_plain
from rankdistil.runfolder import locked, remove_if_empty, state
from rankdistil.settings import check, check_data, plain


def console() -> Console:
    """Return the console for tables: as wide as the terminal, wide enough for a table elsewhere."""
    return Console(file=sys.stdout, width=None if sys.stdout.isatty() else 120, highlight=False)


def train(cfg: DictConfig) -> None:
    """Carry out a composed training config: print the plan, run what is missing, then the run itself.

    Raises:
        ValueError: for a wrong setting, or a folder that holds another run.
        RuntimeError: if a folder is in use, or a parent fails.
    """
    folder = Path(cfg.paths.runs) / cfg.folder
    try:
        _check(cfg)
        steps = plan.make_plan(cfg, lambda overrides: hydra.compose("train", overrides=overrides))
        plan.show(steps, console())
        if cfg.plan == "show":
            return
        sweep = HydraConfig.get().mode == RunMode.MULTIRUN
        for step in steps[:-1]:
            _carry_out(step, parent=True, fresh=True)
        _carry_out(steps[-1], parent=False, fresh=sweep)
    finally:
        remove_if_empty(folder)


def _check(cfg: DictConfig) -> None:
    """Build every plain setting once, so that a wrong one is answered before anything is read or written."""
    check(cfg)
    parts.data_settings(cfg.data)
    parts.optim_settings(cfg.stage)
    if cfg.stage.learns == "student":
        parts.student_size(cfg.student)
        if cfg.plan != "show" or isinstance(locate(str(cfg.teacher.export or cfg.teacher.path)), Path):
            parts.check_student(cfg)  # needs the teacher's shape, for which a plan doesn't go to the hub
    parts.build_losses(cfg, None)
    for split in ("train", "valid", "test"):
        _ = parts.open_reader(cfg.data, split).dataset  # files are there, ids are known; nothing is read or fetched yet


def carry_out_prepared(folder: Path) -> None:
    """Carry out the job that another process prepared in a run folder, and locked for this one."""
    cfg = OmegaConf.load(folder / ".hydra" / "config.yaml")
    run_stage(cfg, folder, read_run(folder)["settings"], console())


def _carry_out(step: plan.Step, parent: bool, fresh: bool) -> None:
    """Run a step unless it is finished. Parents wait for another process that builds them, and always resume."""
    if step.state.name == "finished":
        what = "reused" if parent else "nothing to do"
        print_plain(console(), [f"{step.folder}: {step.state.reason}: {what}."])
        return
    with locked(step.folder, wait=parent) as lock:
        now = state(step.folder, step.settings)  # another process may have finished it while this one waited
        if now.name == "finished":
            return
        if now.name == "to resume" and not (parent or step.cfg.resume):
            raise ValueError(
                f"{step.folder} {now.reason}. Add resume=true to continue it, or remove the folder to start again."
            )
        jobs.prepare(step.folder, step.cfg, step.settings, None if parent else HydraConfig.get())
        try:
            if fresh:
                sys.stdout.flush()
                jobs.run_in_fresh_process(step.folder, lock)
            else:
                run_stage(step.cfg, step.folder, step.settings, console())
        except BaseException:
            jobs.discard_unstarted(step.folder)
            raise


def evaluate(cfg: DictConfig) -> None:
    """Test finished rankers and print them in one table.

    Raises:
        FileNotFoundError: if a model isn't there.
        ValueError: if models were tested on different queries.
    """
    quieten()
    out = Path(HydraConfig.get().runtime.output_dir)
    try:
        models = _models(cfg.models)
        rows = [(name, _evaluate_one(cfg, model, out / name)) for name, model in models.items()]
    finally:
        remove_if_empty(out)
    results = [read_result(folder, name) for name, folder in rows]
    first_stage = read_first_stage(rows[0][1])
    if any(result.per_query.keys() != first_stage.per_query.keys() for result in results):
        raise ValueError(
            f"the models were tested on different queries, so they share no table; each one's numbers are in {out}."
        )
    screen = console()
    screen.print(comparison_table([first_stage, *results], f"{len(first_stage.per_query)} queries"))
    print_plain(screen, [*differences(results, first_stage), f"files: {out}/"])


def _models(models: str | ListConfig) -> dict[str, str]:
    """Expand globs; return each model's path by the name that its results get."""
    found: dict[str, str] = {}
    for model in [models] if isinstance(models, str) else list(models):
        matches = sorted(glob(model)) if any(sign in model for sign in "*?[") else [model]
        if not matches:
            raise FileNotFoundError(f"models={model} matches nothing. Name run folders or export folders.")
        for match in matches:
            name = run_label(_run_of(match) or Path(match))
            if name in found:
                raise ValueError(f"models names {name} twice: {found[name]} and {match}. Their results would share a folder.")
            found[name] = match
    return found


def _run_of(model: str) -> Path | None:
    """Return the run that a path names: its folder, or the export inside of it."""
    return next((folder for folder in (Path(model), Path(model).parent) if (folder / "run.json").is_file()), None)


def _evaluate_one(cfg: DictConfig, model: str, folder: Path) -> Path:
    run = _run_of(model)
    if run is not None and read_run(run)["status"] != "finished":
        raise ValueError(f"{run} is not finished. Run its command again with resume=true first.")
    export = str(run / "export") if run else model
    shape = read_config(export)
    settings = _test_settings(cfg, run)
    data = parts.build_data(settings, load_tokenizer(export), shape.max_position_embeddings, cfg.seed, train=False)
    timing, trainer = plain(cfg.callbacks.inference_time), parts.trainer_arguments(cfg)
    scoring.score_export(export, data, folder, folder.name, settings.data.test_relevance_level, trainer, timing)
    return folder


def _test_settings(cfg: DictConfig, run: Path | None) -> DictConfig:
    """The data that a run was tested on (the default collection for a mere export), changed by what the command says."""
    base = OmegaConf.load(run / ".hydra" / "config.yaml") if run else hydra.compose("train", overrides=["stage=teacher"])
    settings = OmegaConf.create({"data": OmegaConf.merge(plain(base.data), cfg.get("data") or {})})
    check_data(settings.data)
    return settings
