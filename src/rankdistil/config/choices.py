"""Config accessors: a stage's teacher or its scores, its start, its losses, its test splits."""

import copy
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf, open_dict

from rankdistil.cli import conf_folder
from rankdistil.config.checks import target
from rankdistil.config.schema import MINUTES, listed, names, plain
from rankdistil.data.files.folder import BM25
from rankdistil.inference.machine import computes_bfloat16, on_cpu, require_bfloat16
from rankdistil.models.student import Start, read_start
from rankdistil.teachers.encoders import DENSE, SPARSE
from rankdistil.teachers.scorers import RANKER, ScorerSettings


def reads_scores(cfg: DictConfig) -> bool:
    """Whether a student learns from scores that were written down."""
    return cfg.stage.learns == "student" and cfg.stage.teacher == "ranker" and cfg.teacher.scores is not None


def asks_scorer(cfg: DictConfig) -> bool:
    """Whether a stage asks a teacher of another kind than our rankers, which gives scores and shows no layers."""
    return cfg.stage.learns == "nothing" and cfg.teacher.get("kind", RANKER) != RANKER


def scorer_settings(cfg: DictConfig) -> ScorerSettings:
    """Read which teacher of another kind scores, and how; ``teacher.dtype=auto`` is decided here.

    Raises:
        ValueError: for a precision that this processor lacks.
    """
    teacher, own = plain(cfg.teacher), cfg.trainer.get("accelerator", "auto")
    dtype, alone = teacher["dtype"], on_cpu(str(own))
    if dtype == "auto":
        dtype = "bfloat16" if not alone and computes_bfloat16("cuda") else "float32"
    elif dtype == "bfloat16" and alone:
        require_bfloat16("teacher.dtype=bfloat16", "teacher.dtype=float32")
    given = {name: teacher[name] for name in names(ScorerSettings)} | {"dtype": dtype, "answers": tuple(teacher["answers"])}
    return ScorerSettings(**given | {"path": str(teacher["path"])})


def tested_scorer(cfg: DictConfig) -> bool:
    """Whether a teacher of another kind scores test candidates, too."""
    return asks_scorer(cfg) and cfg.teacher.score_test and not mines(cfg)


def mines(cfg: DictConfig) -> bool:
    """Whether a stage writes down hard negatives that its teacher finds: it says how many."""
    return cfg.stage.get("depth") is not None


def searches(cfg: DictConfig) -> bool:
    """Whether a stage's teacher reads single texts, and so searches the whole collection; others rank candidates again."""
    return mines(cfg) and asks_scorer(cfg) and cfg.teacher.kind in (DENSE, SPARSE)


def checkpoint_interval(cfg: DictConfig) -> tuple[int | None, float | None]:
    """Read ``checkpoint_every``: steps and seconds between two checkpoints, None where they don't count."""
    minutes = MINUTES.fullmatch(str(cfg.checkpoint_every))
    return (None, 60.0 * int(minutes[1])) if minutes else (cfg.checkpoint_every, None)


def asks_teacher(cfg: DictConfig) -> bool:
    """Whether a stage needs the teacher ranker itself; scores that it wrote down stand in for it."""
    return cfg.stage.teacher == "ranker" and not reads_scores(cfg) and not asks_scorer(cfg)


def asks_assistant(cfg: DictConfig) -> bool:
    """Whether a student learns from another student's run in place of the teacher ranker itself."""
    return cfg.stage.learns == "student" and asks_teacher(cfg) and cfg.teacher.get("assistant") is not None


def assistant_name(cfg: DictConfig) -> str:
    """Name an assistant by its experiment and, where that is said, its size."""
    return " ".join(str(cfg.teacher[key]) for key in ("assistant", "assistant_size") if cfg.teacher[key] is not None)


def knows_ranker(cfg: DictConfig) -> bool:
    """Whether a stage has the network of a ranker, which a student can be cut out of; else it has a language model's."""
    return asks_teacher(cfg) or takes_export(cfg)


def start_of(cfg: DictConfig) -> Start:
    """Return what a student starts from: the run of the experiment that it follows, or what ``student.init_from`` names."""
    return Start("experiment", str(cfg.follows)) if cfg.follows is not None else read_start(cfg.student.init_from)


def start_in_words(cfg: DictConfig, followed: str = "") -> str:
    """Say what the network of a stage starts from.

    Args:
        cfg: the run's config.
        followed: what the run that ``follows`` names started from, in words.
    """
    if cfg.stage.learns == "teacher":
        return f"the pretrained language model {cfg.teacher.name}"
    start, source = start_of(cfg), "teacher ranker" if knows_ranker(cfg) else "pretrained language model"
    if asks_assistant(cfg):
        source = f"assistant {assistant_name(cfg)}"
    return {
        "random": "random weights",
        "subclone": f"cut out of the {source}",
        "teacher_layers": f"layers copied from the {source}",
        "export": f"the export {place_name(start.path)}",
        "pretrained": f"the pretrained checkpoint {place_name(start.path)}",
        "experiment": f"{start.path}, {followed}",
    }[start.kind]


def kept_losses(cfg: DictConfig) -> dict[str, DictConfig]:
    """Return the losses of a stage that its student can take."""
    dropped = plain(cfg.student.drop_losses) if cfg.stage.learns == "student" else []
    return {name: node for name, node in cfg.stage.losses.items() if name not in dropped}


def makes_ranker(cfg: DictConfig) -> bool:
    """Whether a stage trains a ranking head, and so is tested (see ``WeightedSum.trains_head``)."""
    if cfg.stage.learns == "nothing":
        return False
    counted = {name: node.loss for name, node in kept_losses(cfg).items() if node.weight}
    return any(not target(node, f"stage.losses.{name}.loss").needs for name, node in counted.items())


def takes_export(cfg: DictConfig) -> bool:
    """Whether ``teacher.export`` names the network that a stage learns from or, with scores, that its tokens come from."""
    return cfg.stage.teacher == "ranker" and cfg.teacher.export is not None


def named_source(cfg: DictConfig) -> str:
    """Return the checkpoint that a config names for a stage's teacher or, where that isn't asked for, its tokens and shape."""
    return str(cfg.teacher.export if takes_export(cfg) else cfg.teacher.path)


def score_folders(cfg: DictConfig) -> list[Path]:
    """List the folders of scores that a student learns from."""
    if not reads_scores(cfg):
        return []
    scores = cfg.teacher.scores
    return [Path(str(folder)).expanduser() for folder in (scores if isinstance(scores, ListConfig) else [scores])]


def learnt_from(cfg: DictConfig, parents: Mapping[str, Mapping[str, str]]) -> list[Path]:
    """List the folders of the runs that a run starts or learns from, so that what they were trained on counts as its own.

    Args:
        cfg: the run's config.
        parents: by role their export as ``source``.
    """
    exports = [Path(parents[role]["source"]) for role in ("teacher", "assistant", "student") if role in parents]
    return [place.parent for place in (*exports, *score_folders(cfg))]


def teacher_name(cfg: DictConfig) -> str:
    """Name the ranker that a stage learns from, for tables: ``teacher.export`` by its place, where it is named."""
    return place_name(str(cfg.teacher.export)) if takes_export(cfg) else str(cfg.teacher.name)


def teacher_folder(cfg: DictConfig) -> Path:
    """Return the run folder of the teacher ranker."""
    return Path(cfg.paths.runs) / cfg.teacher.run


def place_name(path: str) -> str:
    """Name a folder for records and model cards: a path of this machine means nothing elsewhere.

    Args:
        path: a folder, a hub id, or ``package:<module>/<folder>``.

    Returns:
        Of a run's folder and of what is in it, the run's: ``teacher/minilm/seed0``. Of another folder, its name. Else the path.
    """
    folder = Path(path).expanduser()
    if not folder.is_dir():
        return path
    folder = folder.resolve()
    run = next((place for place in (folder, folder.parent) if (place / "run.json").is_file()), None)
    return folder.name if run is None else "/".join(part for part in run.parts[-3:] if part != run.anchor)


def each_test(data: DictConfig) -> list[DictConfig]:
    """Return ``data`` once for each test split that it names, with that one alone.

    Raises:
        ValueError: if ``data.test`` is empty or lists a split twice, or ``data.test_relevance_level`` lists levels of other
            splits.
    """
    tests, levels = [None] if data.test is None else listed(data.test), listed(data.test_relevance_level)
    if not tests:
        raise ValueError("data.test is empty. Name at least one split to test on.")
    tests = [*tests, *listed(data.get("more_tests"))]
    if len(levels) not in (1, len(tests)):
        raise ValueError(
            f"data.test_relevance_level has {len(levels)} levels for {len(tests)} test splits. Give one for all, or one each."
        )
    splits = list(zip(tests, levels if len(levels) == len(tests) else levels * len(tests), strict=True))
    if twice := [test for number, (test, level) in enumerate(splits) if (test, level) in splits[:number]]:
        raise ValueError(f"data.test names {twice[0]} twice, at one relevance level. Name it once.")
    return [_of_one(plain(data), test, level) for test, level in splits]


def choose_tests(data: DictConfig, given: DictConfig) -> list[DictConfig]:
    """Change settings of ``data``, and return them once for each test split that the changes name, else for the first.

    Args:
        data: of a run.
        given: the changes. A split takes the place of those of ``data``; files of a split change single files of its first.

    Raises:
        ValueError: if the relevance level of another split than the run's can't be known.
    """
    own, changes = plain(data), plain(given)
    changed = _changed(own, {key: value for key, value in changes.items() if key != "test"})
    more = changes.get("more_tests") or []
    if "test" not in changes and not more:
        return each_test(OmegaConf.create(changed))[:1]
    test, level = changes.get("test", own["test"]), changed["test_relevance_level"]
    if isinstance(test, dict) and isinstance(own["test"], dict):
        test = own["test"] | test
    if isinstance(level, list) and "test_relevance_level" not in changes:
        known = [(plain(split.test), split.test_relevance_level) for split in each_test(OmegaConf.create(own))]
        tests = [test] if test is None else listed(test)
        level = [next((grade for split, grade in known if split == one), None) for one in [*tests, *more]]
        if None in level:
            raise ValueError(
                f"data.test_relevance_level={changed['test_relevance_level']} is of the run's own test splits. Give the one of "
                f"{[*tests, *more][level.index(None)]}: data.test_relevance_level=<grade>."
            )
    return each_test(OmegaConf.create(changed | ({"more_tests": more} if "more_tests" in changed else {})
                                      | {"test": test, "test_relevance_level": level}))  # fmt: skip


def named_tests(data: DictConfig, given: Mapping[str, DictConfig]) -> dict[str, DictConfig]:
    """Return the settings of ``data`` for each test, by name.

    Args:
        data: of a run.
        given: changes of it for each collection, see ``choose_tests``, by the collection's name.
    """
    found: dict[str, DictConfig] = {}
    for name, changes in given.items():
        splits = choose_tests(data, changes)
        for settings in splits:
            test = settings.test
            split = f"{settings.root}/{test.get('qrels') or test.get('queries')}" if isinstance(test, DictConfig) else str(test)
            title = name if name and len(splits) == 1 else split
            found[f"{title}, grades from {settings.test_relevance_level}" if title in found else title] = settings
    return found


def of_collection(data: DictConfig) -> str:
    """Return what tests on splits of one collection have in common: all settings of ``data`` but what names the split."""
    return json.dumps({key: each for key, each in plain(data).items() if key not in ("test", "test_relevance_level")})


def refuse_beside(given: DictConfig, group: str | None) -> None:
    """Refuse settings of ``data`` that name what ``collections`` names, or can't be of several.

    Args:
        given: the settings that are the same for all collections.
        group: which of conf/data the command names.

    Raises:
        ValueError: naming the key.
    """
    if group is not None:
        raise ValueError(f"data={group} stands beside collections, which names what is tested on. Add it to that list.")
    for key in ("root", "corpus", "test", "more_tests", "holdout"):
        if key in given:
            raise ValueError(
                f"data.{key} stands beside collections: which one is it of? Say it there: collections=[{{..., {key}: ...}}]."
            )
    for run in listed(given.get("candidates")):
        if run not in (None, BM25):
            raise ValueError(
                f"data.candidates={run} stands beside collections, whose queries may have the same ids. Name it for its own: "
                f"collections=[{{root: <folder>, candidates: [{BM25}, {run}]}}, ...]."
            )


def collections(asked: Sequence[Any], common: DictConfig, compose: Callable[[str], DictConfig]) -> dict[str, DictConfig]:
    """Return the settings of ``data`` of each collection, by its name.

    Args:
        asked: each a file of conf/data (``almanac``), a folder of files, an ir_datasets id, or keys of ``data``, among them the
            folder as ``root`` or the id as ``test``.
        common: settings of all of them.
        compose: gives a config with one of conf/data as its ``data``.

    Raises:
        FileNotFoundError: for a folder that isn't there.
        ValueError: for what names no collection, or two of one name.
    """
    found: dict[str, DictConfig] = {}
    for number, one in enumerate(asked):
        kind, given = ("files" if "root" in one else "ir_dataset", one) if isinstance(one, Mapping) else _collection(str(one))
        name = str(given.get("name") or (Path(given["root"]).name if "root" in given else given.get("test", kind)))
        if kind == "ir_dataset" and not given.get("test"):
            raise ValueError(
                f"collections[{number}] is {one!r}; expected a file of conf/data, a folder, an ir_datasets id, or keys of data "
                "with a root or a test: {root: <folder>, candidates: [bm25, <TREC run>]}."
            )
        if name in found:
            raise ValueError(f"collections names {name} twice. Give one of them another name: {{name: <name>, ...}}.")
        cfg = compose(kind)
        for key, value in given.items():
            OmegaConf.update(cfg, f"data.{key}", value, merge=key != "windows", force_add=True)
        if OmegaConf.is_missing(cfg.data, "train"):
            cfg.data.train = None  # nothing is trained
        own = OmegaConf.create(plain(cfg.data))
        found[name] = OmegaConf.create(_changed(plain(own if "windows" in given else without_default(own)), plain(common)))
    return found


def without_default(given: DictConfig) -> DictConfig:
    """Leave out the ``windows: null`` that files of conf/data have: how documents are read is a ranker's own."""
    if "windows" not in given or given.windows is not None:
        return given
    given = copy.deepcopy(given)
    with open_dict(given):
        del given["windows"]
    return given


def _changed(data: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Change settings of ``data``; windows are one setting, and so replaced whole."""
    merged = plain(OmegaConf.merge(data, changes))
    return merged | ({"windows": changes["windows"]} if "windows" in changes else {})


def _collection(name: str) -> tuple[str, dict[str, Any]]:
    """Say of which kind a collection is that is named by a word, and which keys of ``data`` that sets."""
    if (conf_folder() / "data" / f"{name}.yaml").is_file():
        return name, {}
    if Path(name).expanduser().is_dir():
        return "files", {"root": name}
    if name[:1] in (".", "/", "~"):
        raise FileNotFoundError(f"collections: {name} is no folder. Name one that holds a corpus, queries and judgments.")
    return "ir_dataset", {"test": name}


def _of_one(data: dict[str, Any], test: Any, level: int) -> DictConfig:
    further = {"more_tests": []} if "more_tests" in data else {}
    return OmegaConf.create(data | further | {"test": test, "test_relevance_level": level})
