"""What decides the outcome of a run, and what decides its test: settings as they are resolved, and the content of files."""

from collections.abc import Iterable
from fnmatch import fnmatchcase
from typing import Any

from omegaconf import DictConfig

from rankdistil import parts
from rankdistil.files import flattened
from rankdistil.inference.processor import on_cpu, resolve_precision
from rankdistil.models.checkpoint import deciding_parts
from rankdistil.roles import asks_teacher, makes_ranker, named_source
from rankdistil.secrets import recorded
from rankdistil.splits import each_test

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
    "held_out_queries", "max_length", "on_bad", "store",
)  # fmt: skip
# Those that decide nothing, or by what they name: files count by their content (``_contents``), scores are a parent.
BY_CONTENT = (
    "root", "corpus", "train", "train.*", "valid", "valid.*", "test", "test.*", "more_tests", "candidates", "passages",
    "negatives_scores", "workers",
)  # fmt: skip
TEST_ALONE = ("depth", "test_queries", "test_relevance_level")
TESTED = (*TEST_ALONE, "columns.*", "max_length", "on_bad", "allow_unknown")
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
    kinds: dict[str, Any] = {"stage": recorded(cfg.stage), "data": _data(cfg)}
    if cfg.stage.learns != "nothing":  # a score is the same whatever the seed, in float32, on any number of devices
        kinds |= {"seed": cfg.seed, "trainer": _trainer(recorded(cfg.trainer))}
    if not asks_teacher(cfg):  # else it is a parent
        kinds["teacher"] = deciding_parts(named_source(cfg))
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
    return [what_is_tested(data) for data in each_test(cfg.data)] if makes_ranker(cfg) else []


def what_is_tested(data: DictConfig) -> dict[str, Any]:
    """Flatten the settings that a test depends on, and say what the files hold that it reads.

    Args:
        data: the settings ``data`` with one test split (``splits.each_test``).

    Returns:
        Value by dotted key.
    """
    reader = parts.open_reader(data, "test")
    told = {
        key: value for key, value in flattened({"data": recorded(data)}).items() if _among(key, [f"data.{k}" for k in TESTED])
    }
    held = {kind: content for kind, content in reader.contents().items() if not _among(kind, TRIPLES)}
    told |= {f"data.{kind}" if _among(kind, SHARED) else f"data.test.{kind}": content for kind, content in held.items()}
    return told | ({} if reader.holdout is None else {"data.holdout": list(reader.holdout)})


def _data(cfg: DictConfig) -> dict[str, Any]:
    """Choose the settings of ``data`` that decide an outcome, with what is read in place of where it lies."""
    data = recorded(cfg.data) | {
        "store": cfg.data.store is not None
    }  # not where it is; with one, batches are grouped by tokens
    data["held_out_queries"] = cfg.data.holdout * sum(cfg.data[split] is None for split in ("valid", "test"))
    flat = {key: value for key, value in flattened(data).items() if not _among(key, BY_CONTENT)}
    if cfg.stage.reads == "passages" or cfg.stage.learns == "nothing":
        counted = READ_AS_TEXT if cfg.stage.reads == "passages" else SCORED
        return {key: value for key, value in flat.items() if _among(key, counted)} | _contents(cfg)
    left_out = [*TEST_ALONE, *OF_TEXT]
    if cfg.data.valid is not None:
        left_out.append("holdout")  # how many queries it keeps from training is told
    if makes_ranker(cfg):
        left_out.append("eval_batch_size")  # a pair's score is its own, whatever shares its batch; a mean over batches isn't
    return {key: value for key, value in flat.items() if not _among(key, left_out)} | _contents(cfg)


def _among(key: str, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(key, pattern) for pattern in patterns)


def _contents(cfg: DictConfig) -> dict[str, str]:
    """Say what the files hold that training and validation read: the same data in another folder are the same data."""
    if cfg.stage.reads == "passages":
        return {"passages": parts.open_passages(cfg.data).origin("passages").content()}
    held: dict[str, str] = {}
    for split in ["train"] if cfg.stage.learns == "nothing" else ["train", "valid"]:
        reader = parts.open_reader(cfg.data, split)
        if split == "train" or reader.holdout is None:  # else queries of the training split, whose files are told
            told = reader.contents()
            held |= {kind if _among(kind, SHARED) else f"{split}.{kind}": content for kind, content in told.items()}
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
