"""Plan of a run: what decides its outcome and its tests, its parents, and what has to be trained first."""

from collections.abc import Callable, Iterable, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, NamedTuple

from omegaconf import DictConfig, OmegaConf, open_dict
from rich.console import Console

from rankdistil.config.checks import recorded
from rankdistil.config.choices import (
    asks_assistant,
    asks_scorer,
    asks_teacher,
    assistant_name,
    each_test,
    makes_ranker,
    mines,
    named_source,
    score_folders,
    scorer_settings,
    searches,
    start_in_words,
    start_of,
    tested_scorer,
)
from rankdistil.files import fingerprint, flattened, holder
from rankdistil.inference.machine import on_cpu, resolve_precision
from rankdistil.models.locate import deciding_parts, identity
from rankdistil.models.student import Start
from rankdistil.report.tables import Column, to_table
from rankdistil.runs.record import State, scores_origin, state
from rankdistil.stages import data as run_data

# Not handed down from a child to its parents.
OWN = ("stage", "method", "follows", "follows_run", "run_name", "folder", "student", "resume")
OF_ASSISTANT = ("assistant", "assistant_size")  # of ``teacher``: an experiment's own


class Step(NamedTuple):
    """One run of the plan.

    Attributes:
        cfg: its config.
        folder: its run folder.
        settings: what decides its outcome.
        tests: what decides its tests, one for each split.
        parents: what it learns or starts from, by role: ``source`` (export) and ``fingerprint``.
        state: what has to be done.
        assistant: config of the run of the assistant that teaches it, if one does.
    """

    cfg: DictConfig
    folder: Path
    settings: dict[str, Any]
    tests: list[dict[str, Any]]
    parents: dict[str, dict[str, str]]
    state: State
    assistant: DictConfig | None = None


def make_plan(cfg: DictConfig, compose: Callable[[list[str]], DictConfig]) -> list[Step]:
    """List the runs that a config needs, parents first, the run itself last.

    Args:
        cfg: a checked training config.
        compose: composes a training config from group overrides, for the parents' stages.

    Raises:
        ValueError: if a folder holds a run made with other settings, two runs of the plan would share one, or an experiment
            starts from itself, is its own assistant, or is named as one and isn't taught by a ranker, or ranks nothing.
    """
    steps: dict[Path, Step] = {}
    _add(cfg, compose, steps, (), asked=True)
    return list(steps.values())


def show(steps: list[Step], console: Console, expected: Sequence[str] = ()) -> None:
    """Print the plan as a table; ``expected`` says of each step how long it will take."""
    starts: dict[Path, str] = {}
    for step in steps:  # parents come first
        followed = Path(step.parents.get("student", {}).get("source", "")).parent
        starts[step.folder] = "-" if step.cfg.stage.learns == "nothing" else start_in_words(step.cfg, starts.get(followed, ""))
    cells = {
        "run": [str(step.folder) for step in steps], "stage": [step.cfg.stage.name for step in steps],
        "starts from": [starts[step.folder] for step in steps], "state": [step.state.name for step in steps],
        "why": [step.state.reason for step in steps],
    }  # fmt: skip
    columns = [Column(name, of, text=True, folds=name not in ("stage", "state")) for name, of in cells.items()]
    console.print(to_table([*columns, *([Column("expected", expected, text=True)] if expected else [])], "plan"))


def _add(
    cfg: DictConfig, compose: Callable[[list[str]], DictConfig], steps: dict[Path, Step], below: tuple[str, ...],
    asked: bool = False,
) -> Step:  # fmt: skip
    """Add a run and, before it, its parents, of which weights alone count; one that is ``asked`` for itself is tested, too."""
    parents: dict[str, dict[str, str]] = {}
    assistant = _assistant_config(cfg, compose) if asks_assistant(cfg) else None
    if assistant is not None:
        name = assistant_name(cfg)
        _refuse_circle(below, name, f"teacher.assistant={cfg.teacher.assistant}", "is its own assistant")
        parents["assistant"] = _parent(_add(assistant, compose, steps, (*below, name)))
    elif asks_teacher(cfg):
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
        _refuse_circle(below, start.path, f"follows={start.path}", "follows itself")
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
            "the run that it follows, teacher.assistant_run=<name> for its assistant."
        )
    tests = test_settings(cfg)
    found, by = state(folder, settings, tests if asked else None), holder(folder)
    now = found if by is None else State("running", f"in use by {by}")
    return steps.setdefault(folder, Step(cfg, folder, settings, tests, parents, now, assistant))


def _refuse_circle(below: tuple[str, ...], name: str, key: str, what: str) -> None:
    """Refuse an experiment that comes again among those which need it."""
    if name in below:
        raise ValueError(f"{key}: that experiment {what} ({' <- '.join((*below, name))}).")


def _parent(step: Step) -> dict[str, str]:
    return {"source": str(step.folder / "export"), "fingerprint": fingerprint(step.settings)}


def _outside(path: str) -> dict[str, str]:
    return {"source": path, "fingerprint": identity(path)}


def _teacher_config(cfg: DictConfig, compose: Callable[[list[str]], DictConfig]) -> DictConfig:
    parent = _inherit(cfg, compose(["stage=teacher"]))
    parent.seed, parent.folder = cfg.teacher.seed, cfg.teacher.run
    for key in ("negatives_margin", "negatives_scores", "negatives_runs"):  # its own scores and its own hits, usually
        parent.data[key] = None
    return parent


def _assistant_config(cfg: DictConfig, compose: Callable[[list[str]], DictConfig]) -> DictConfig:
    size = cfg.teacher.assistant_size
    own = compose([f"+experiment={cfg.teacher.assistant}", *([] if size is None else [f"student={size}"])])
    parent = _inherit(cfg, own, own_assistant=True)
    parent.run_name = parent.teacher.assistant_run = cfg.teacher.assistant_run
    parent.follows_run = cfg.follows_run
    if not asks_teacher(parent) or not makes_ranker(parent):
        raise ValueError(
            f"teacher.assistant={cfg.teacher.assistant} is an experiment of stage {parent.stage.name}; expected one that "
            "learns from the teacher ranker and ranks itself, such as ranker_distill_6l. A ranker that none has taught can be "
            "the teacher: teacher.assistant=null teacher.export=<its run>/export."
        )
    return parent


def _start_config(cfg: DictConfig, experiment: str, compose: Callable[[list[str]], DictConfig]) -> DictConfig:
    parent = _inherit(cfg, compose([f"+experiment={experiment}"]))
    OmegaConf.update(parent, "student", cfg._get_node("student"), merge=False)
    parent.run_name = parent.follows_run = cfg.follows_run
    return parent


def _inherit(cfg: DictConfig, parent: DictConfig, own_assistant: bool = False) -> DictConfig:
    """Give a parent everything that the child sets for all stages: data, teacher, trainer, steps, seed.

    An assistant is that of the whole procedure, unless the parent's experiment names its own; with ``own_assistant`` the parent
    has no other.
    """
    own = {key: parent.teacher[key] for key in OF_ASSISTANT}
    with open_dict(parent):
        for key in cfg:
            if key not in OWN:
                OmegaConf.update(parent, key, cfg._get_node(key), merge=False, force_add=True)
    if own_assistant or own["assistant"] is not None:
        parent.teacher.update(own)
    return parent


# The settings of ``data`` (patterns of keys) that decide what becomes of passages read as text: validation is a mean over
# batches, so their size counts.
READ_AS_TEXT = (
    "columns.corpus.*", "columns.triples_text.*", "valid_passages",
    "batch_size", "eval_batch_size", "max_length", "max_tokens", "on_bad", "store",
)  # fmt: skip
# Those that decide which pairs a teacher scores, and what it reads of them: with a store, pairs have another order, in which
# shards are cut.
SCORED = (
    "columns.*", "train_on", "relevance_level", "negatives", "negatives_*",
    "held_out_queries", "max_length", "on_bad", "store", "language",
)  # fmt: skip
# Those that decide which passages are found among a whole collection, and among candidates.
SEARCHED = ("columns.*", "relevance_level", "negatives_margin", "held_out_queries", "on_bad")
RERANKED = (*SEARCHED, "negatives_depth", "max_length", "store", "language")
# Those that decide nothing, or by what they name: files count by their content (``_contents``), scores are a parent.
BY_CONTENT = (
    "root", "corpus", "train", "train.*", "valid", "valid.*", "test", "test.*", "more_tests", "candidates", "passages",
    "negatives_scores", "negatives_runs", "workers",
)  # fmt: skip
TEST_ALONE = ("depth", "test_queries", "test_relevance_level")
TESTED = (*TEST_ALONE, "columns.*", "max_length", "windows.*", "on_bad", "allow_unknown", "language")
OF_TEXT = ("valid_passages",)  # where nothing reads passages as text, they decide nothing
SHARING = ("devices", "num_nodes", "strategy", "accumulate_grad_batches", "timeout")  # of ``trainer``
SHORT = {"32": "32-true", "64": "64-true", "bf16": "bf16-mixed"}  # what Lightning takes these for
SHARED = ("corpus", "run *")  # what all splits read
TRIPLES = ("triples", "docpairs")


def outcome_settings(cfg: DictConfig, parents: dict[str, str]) -> dict[str, Any]:
    """Flatten the settings that decide what a run computes, and say what the files hold that it reads.

    Folders, logging and timing aren't among them, nor loader processes, nor the student in a stage that trains none, nor how
    the outcome is tested, nor anything but the pairs and what is read of them where a teacher scores.

    Args:
        cfg: a training config.
        parents: fingerprint of each parent, by role.

    Returns:
        Value by dotted key.
    """
    left_out = ["negatives"]  # told by data
    if cfg.stage.get("averaging") is None:
        left_out.append("averaging")  # decides nothing
    stage = {key: value for key, value in recorded(cfg.stage).items() if key not in left_out}
    kinds: dict[str, Any] = {"stage": stage, "data": _data(cfg)}
    if cfg.stage.learns != "nothing":  # a score is the same whatever the seed, in float32, on any number of devices
        kinds |= {"seed": cfg.seed, "trainer": _trainer(recorded(cfg.trainer))}
    if not asks_teacher(cfg):  # else it is a parent
        kinds["teacher"] = deciding_parts(named_source(cfg))
    if asks_scorer(cfg):
        kinds["scorer"] = scorer_settings(cfg).deciding()
    if cfg.stage.learns == "student":
        of_stage = ("steps", "lr", "layer_map")
        student = {key: value for key, value in recorded(cfg.student).items() if key not in of_stage}
        # A start without its path: what stands there counts (see ``deciding_parts``), not where.
        kinds |= {"student": student | {"init_from": cfg.student.init_from.partition(":")[0]}, "follows": cfg.follows}
    kinds["parents"] = parents
    return flattened(kinds)


def test_settings(cfg: DictConfig) -> list[dict[str, Any]]:
    """Say for each test split of a run what its test depends on, beside the ranker; of a stage that makes none, nothing.

    They are kept apart from what decides the outcome: a finished run whose test alone would be another is tested again.
    """
    if tested_scorer(cfg):
        return [what_is_tested(each_test(cfg.data)[0])]
    return [what_is_tested(data) for data in each_test(cfg.data)] if makes_ranker(cfg) else []


def what_is_tested(data: DictConfig) -> dict[str, Any]:
    """Flatten the settings that a test depends on, and say what the files hold that it reads.

    Args:
        data: the settings ``data`` with one test split (``splits.each_test``).

    Returns:
        Value by dotted key.
    """
    reader = run_data.open_reader(data, "test")
    told = {
        key: value for key, value in flattened({"data": recorded(data)}).items() if among(key, [f"data.{k}" for k in TESTED])
    }
    held = {kind: content for kind, content in reader.contents().items() if not among(kind, TRIPLES)}
    told |= {f"data.{kind}" if among(kind, SHARED) else f"data.test.{kind}": content for kind, content in held.items()}
    return told | ({} if reader.holdout is None else {"data.holdout": list(reader.holdout)})


def _data(cfg: DictConfig) -> dict[str, Any]:
    """Choose the settings of ``data`` that decide an outcome, with what is read in place of where it lies."""
    data = recorded(cfg.data) | {
        "store": cfg.data.store is not None
    }  # not where it is; with one, batches are grouped by tokens
    if data.get("windows") is None:
        data.pop("windows", None)  # decides nothing
    data["held_out_queries"] = cfg.data.holdout * sum(cfg.data[split] is None for split in ("valid", "test"))
    flat = {key: value for key, value in flattened(data).items() if not among(key, BY_CONTENT)}
    if cfg.stage.reads == "passages" or cfg.stage.learns == "nothing":
        counted = READ_AS_TEXT if cfg.stage.reads == "passages" else SCORED
        if mines(cfg):
            counted = SEARCHED if searches(cfg) else RERANKED
        if asks_scorer(cfg):  # which cuts texts by a rule of its own
            counted = [key for key in counted if key != "max_length"]
        return {key: value for key, value in flat.items() if among(key, counted)} | _contents(cfg)
    left_out = [*TEST_ALONE, *OF_TEXT]
    if cfg.data.valid is not None:
        left_out.append("holdout")  # how many queries it keeps from training is told
    if makes_ranker(cfg):
        left_out.append("eval_batch_size")  # a pair's score is its own, whatever shares its batch; a mean over batches isn't
    return {key: value for key, value in flat.items() if not among(key, left_out)} | _contents(cfg)


def among(key: str, patterns: Iterable[str]) -> bool:
    """Whether a key is one of those named, ``*`` standing for anything."""
    return any(fnmatchcase(key, pattern) for pattern in patterns)


def _contents(cfg: DictConfig) -> dict[str, str]:
    """Say what the files hold that training and validation read: the same data in another folder are the same data."""
    if cfg.stage.reads == "passages":
        return {"passages": run_data.open_passages(cfg.data).origin("passages").content()}
    held: dict[str, str] = {}
    for split in ["train"] if cfg.stage.learns == "nothing" else ["train", "valid"]:
        reader = run_data.open_reader(cfg.data, split)
        if split == "train" or reader.holdout is None:  # else queries of the training split, whose files are told
            told = reader.contents()
            held |= {kind if among(kind, SHARED) else f"{split}.{kind}": content for kind, content in told.items()}
    return held


def _trainer(settings: dict[str, Any]) -> dict[str, Any]:
    """Choose the settings of ``trainer`` that decide an outcome, as this machine resolves them.

    Into how many parts a step is cut isn't among them: its groups are the same (see ``data.stream``).
    """
    counted = {key: value for key, value in settings.items() if key not in SHARING}
    accelerator = str(counted.get("accelerator", "auto"))
    precision = str(resolve_precision(counted.get("precision", "32-true"), accelerator))
    resolved = {"precision": SHORT.get(precision, precision), "accelerator": "cpu" if on_cpu(accelerator) else "gpu"}
    return counted | resolved
