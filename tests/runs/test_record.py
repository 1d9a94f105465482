"""Run folders: who may write, what state they are in, and what is left when nothing was written."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import ir_datasets
import pytest
import torch
from commands import command
from omegaconf import DictConfig, OmegaConf
from safetensors.torch import save_file
from support import composed

from rankdistil.files import changed_settings, fingerprint, locked
from rankdistil.inference import machine
from rankdistil.models.locate import account
from rankdistil.planning import plan as outcomes
from rankdistil.planning.plan import outcome_settings
from rankdistil.runs import record as run_record
from rankdistil.runs.entries import find_entries
from rankdistil.runs.record import discard_unstarted, prepare, read_record, run_config, state

SETTINGS = {"seed": 0, "stage.lr": 0.1}


def record(folder: Path, status: str, **more: object) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "run.json").write_text(json.dumps({"status": status, "settings": SETTINGS} | more))


def test_a_folder_without_a_run_is_to_run(tmp_path: Path) -> None:
    assert state(tmp_path / "new", SETTINGS).name == "to run"


def test_a_finished_run_of_the_same_settings_is_finished(tmp_path: Path) -> None:
    record(tmp_path, "finished", finished="then")
    (tmp_path / "export").mkdir()
    (tmp_path / "export/config.json").touch()
    assert state(tmp_path, SETTINGS) == ("finished", "finished then, same settings")


def test_a_finished_run_without_its_export_is_refused(tmp_path: Path) -> None:
    record(tmp_path, "finished", finished="then")
    with pytest.raises(ValueError, match="is a finished run without its export"):
        state(tmp_path, SETTINGS)


def test_a_stopped_run_is_to_resume_only_if_it_left_a_checkpoint(tmp_path: Path) -> None:
    record(tmp_path, "failed")
    assert state(tmp_path, SETTINGS).name == "to run"
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints/last.ckpt").touch()
    assert state(tmp_path, SETTINGS).name == "to resume"


@pytest.mark.fault("A10")
def test_other_settings_are_refused_with_each_difference(tmp_path: Path) -> None:
    record(tmp_path, "finished")
    with pytest.raises(ValueError) as caught:
        state(tmp_path, {"seed": 0, "stage.lr": 0.2, "stage.steps": 5})
    assert "\n  stage.lr: 0.1 -> 0.2\n  stage.steps: (absent) -> 5\nWays out: " in str(caught.value)


@pytest.mark.parametrize(
    "text", ['{"status"', "", "[]", "{}", '{"status": 3, "settings": {}}', '{"status": "x", "settings": []}']
)
def test_a_damaged_record_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "run.json").write_text(text)
    for read in (read_record, lambda folder: state(folder, SETTINGS), lambda folder: find_entries([str(folder)])):
        with pytest.raises(
            ValueError, match=rf"^{tmp_path}/run\.json is damaged \(.*\)\. Remove the folder {tmp_path} to run "
        ):
            read(tmp_path)


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        ({"finished": None}, "finished is null"),
        ({"tests": 0.5}, "tests is 0.5"),
        ({"tests": [3]}, "tests is [3]"),
        ({"parents": "x" * 999}, f'parents is "{"x" * 79}'),
        ({"parents": {"student": {"source": 3, "fingerprint": "ab"}}}, 'parents.student is {"source": 3, "fingerprint": "ab"}'),
        ({"stage": [1]}, "stage is [1]"),
    ],
)
def test_a_value_of_a_record_that_is_of_another_type_is_named(tmp_path: Path, damage: dict, told: str) -> None:
    record(tmp_path, "finished", **{"stage": "teacher", "parents": {}, "finished": "then"} | damage)
    (tmp_path / "export").mkdir()
    (tmp_path / "export/config.json").touch()
    with pytest.raises(ValueError) as caught:
        state(tmp_path, SETTINGS, [])
    assert str(caught.value) == f"{tmp_path}/run.json is damaged ({told}). Remove the folder {tmp_path} to run afresh."


@pytest.mark.parametrize("key", ["stage", "parents"])
def test_a_record_that_lacks_what_a_comparison_needs_is_named(tmp_path: Path, key: str) -> None:
    held = {"stage": "teacher", "parents": {}, "finished": "then"}
    record(tmp_path, "finished", **{name: value for name, value in held.items() if name != key})
    with pytest.raises(ValueError, match=rf"^{tmp_path}/run\.json is damaged \({key} is null\)\. Remove the folder "):
        find_entries([str(tmp_path)])


def test_a_finished_run_whose_export_was_changed_is_not_reused(tmp_path: Path) -> None:
    (tmp_path / "export").mkdir()
    (tmp_path / "export/config.json").write_text('{"hidden_act": "relu"}')
    record(tmp_path, "finished", finished="then", export=account(tmp_path / "export"))
    assert state(tmp_path, SETTINGS).name == "finished"
    (tmp_path / "export/config.json").write_text('{"hidden_act": "gelu"}')
    with pytest.raises(ValueError, match=rf"^{tmp_path}/export/config\.json was changed \(sha256 "):
        state(tmp_path, SETTINGS)


def test_a_run_that_ended_before_its_first_checkpoint_leaves_nothing_and_one_that_has_one_stays(tmp_path: Path) -> None:
    for name in ("early", "late"):
        prepare(tmp_path / name, OmegaConf.create({"a": 1}), SETTINGS, {}, None)
    (tmp_path / "late/checkpoints").mkdir()
    (tmp_path / "early/start/export").mkdir(parents=True)
    for name in ("valid.run", "trained_on.npy"):
        (tmp_path / "early" / name).touch()
    for name in ("early", "late"):
        discard_unstarted(tmp_path / name)
    assert not any((tmp_path / "early").iterdir())
    assert {path.name for path in (tmp_path / "late").iterdir()} == {".hydra", "run.json", "checkpoints"}


def test_a_run_that_ended_before_its_first_scores_leaves_nothing(tmp_path: Path) -> None:
    for name in ("early", "late"):
        prepare(tmp_path / name, OmegaConf.create({"a": 1}), SETTINGS, {}, None)
        (tmp_path / name / "scores").mkdir()
    (tmp_path / "late/scores/part-00000.parquet").touch()
    for name in ("early", "late"):
        discard_unstarted(tmp_path / name)
    assert [path.name for path in tmp_path.iterdir() if any(path.iterdir())] == ["late"]


def test_what_a_run_did_not_write_stays_when_it_is_discarded(tmp_path: Path) -> None:
    prepare(tmp_path, OmegaConf.create({"a": 1}), SETTINGS, {}, None)
    for name in ("metrics.csv", "hparams.yaml", "notes.txt"):
        (tmp_path / name).touch()
    for name in ("tensorboard", "seed0"):
        (tmp_path / name).mkdir()
    discard_unstarted(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"notes.txt", "seed0"}


def test_a_folder_that_holds_something_else_is_refused_with_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "teacher/minilm/seed0").mkdir(parents=True)
    with pytest.raises(ValueError) as caught:
        state(tmp_path / "teacher/minilm", SETTINGS)
    assert str(caught.value).startswith(f"{tmp_path}/teacher/minilm holds seed0, but no run (no run.json). Name another folder")


@pytest.mark.parametrize("file", ["config.yaml", "run.json"])
def test_a_run_that_was_killed_before_its_first_record_was_whole_can_be_started_again(tmp_path: Path, file: str) -> None:
    code = (
        "import os, signal, sys; from pathlib import Path; from omegaconf import OmegaConf\n"
        "from rankdistil.runs.record import prepare\nwhole = Path.replace\n"
        "def replace(place, target):\n"
        "    os.kill(os.getpid(), signal.SIGKILL) if target.name == sys.argv[2] else whole(place, target)\n"
        "Path.replace = replace\nprepare(Path(sys.argv[1]), OmegaConf.create({}), {}, {}, None)\n"
    )
    assert command("-c", code, str(tmp_path), file).returncode == -9
    assert any(f"{file}.rankdistil-" in path.name for path in tmp_path.rglob("*"))
    assert state(tmp_path, SETTINGS).name == "to run"
    discard_unstarted(tmp_path)
    assert not any(tmp_path.iterdir())


def test_a_run_that_says_running_though_nobody_holds_it_was_stopped(tmp_path: Path) -> None:
    record(tmp_path, "running")
    assert state(tmp_path, SETTINGS) == ("to run", "stopped before its first checkpoint")
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints/last.ckpt").touch()
    last = tmp_path / "checkpoints/last.ckpt"
    assert state(tmp_path, SETTINGS) == ("to resume", f"stopped before its end; {last} is there")


def test_a_run_that_is_discarded_loses_its_record_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prepare(tmp_path, OmegaConf.create({"a": 1}), SETTINGS, {}, None)
    (tmp_path / "metrics.csv").touch()
    gone: list[str] = []
    monkeypatch.setattr(Path, "unlink", lambda path: gone.append(path.name))
    discard_unstarted(tmp_path)
    assert gone == ["metrics.csv", "run.json"]


def test_a_run_that_is_just_starting_is_not_taken_for_something_else(tmp_path: Path) -> None:
    with locked(tmp_path / "run", wait=False):
        (tmp_path / "run/.hydra").mkdir()
        assert state(tmp_path / "run", SETTINGS).name == "to run"


def test_the_first_record_holds_settings_and_parents_before_anything_ran(tmp_path: Path) -> None:
    parents = {"teacher": {"source": "a/export", "fingerprint": "f"}}
    tests = [{"data.depth": 20}]
    prepare(tmp_path, OmegaConf.create({"a": 1}), SETTINGS, parents, None, tests)
    record = {"status": "prepared", "fingerprint": fingerprint(SETTINGS), "settings": SETTINGS, "parents": parents}
    record |= {"tests": tests, "tests_fingerprint": fingerprint({"tests": tests})}
    assert read_record(tmp_path) == record


def test_the_environment_stays_a_reference_in_the_written_config(tmp_path: Path) -> None:
    prepare(tmp_path, OmegaConf.create({"a": "${oc.env:HOME}"}), SETTINGS, {}, None)
    assert (tmp_path / ".hydra/config.yaml").read_text() == "a: ${oc.env:HOME}\n"


def test_folders_logging_and_timing_do_not_decide_an_outcome_and_the_rest_does() -> None:
    base = outcome_settings(composed("+experiment=smoke"), {})
    for override in (
        "run_name=x",
        "logger=wandb",
        "callbacks.inference_time.rounds=9",
        "paths.runs=y",
        "data.workers=2",
        "+trainer.timeout=9",
    ):
        assert outcome_settings(composed("+experiment=smoke", override), {}) == base
    for override in (
        "seed=1", "stage.lr=0.1", "data.valid_depth=3", "student=4l", "stage.losses.logits.weight=2", "data.on_bad=skip",
        "data.allow_unknown=true",
    ):  # fmt: skip
        changed = outcome_settings(composed("+experiment=smoke", override), {})
        assert fingerprint(changed) != fingerprint(base)
        assert changed_settings(base, changed)


@pytest.mark.parametrize(("able", "expected"), [(True, "bf16-mixed"), (False, "32-true")])
def test_the_precision_that_a_machine_computes_in_decides_an_outcome(able, expected, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "computes_bfloat16", lambda *_: able)
    found, named = (
        outcome_settings(composed("+experiment=smoke", *more), {}) for more in ([], [f"trainer.precision={expected}"])
    )
    assert found["trainer.precision"] == expected
    assert fingerprint(found) == fingerprint(named)


@pytest.mark.parametrize(
    "override",
    [["trainer=ddp_cpu"], ["+trainer.accumulate_grad_batches=4"], ["trainer.devices=2"], ["trainer.accelerator=auto"]],
)
def test_how_a_step_is_shared_out_does_not_decide_an_outcome(override, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    base, shared = (outcome_settings(composed("+experiment=smoke", *more), {}) for more in ([], override))
    assert base == shared


def test_a_precision_counts_by_what_it_means() -> None:
    short, long, default = (
        outcome_settings(composed("+experiment=smoke", *more), {})
        for more in (["trainer.precision=32"], ["trainer.precision=32-true"], ["~trainer.precision"])
    )
    assert short == long == default


def test_the_student_does_not_decide_what_a_teacher_becomes() -> None:
    teachers = [outcome_settings(composed("+experiment=teacher", f"student={size}"), {}) for size in ("6l", "2l")]
    assert teachers[0] == teachers[1]


def test_how_rankings_are_tested_does_not_decide_what_a_language_model_becomes() -> None:
    base, tested, read = (
        outcome_settings(composed("+experiment=lm_distill_6l", *override), {})
        for override in ([], ["data.depth=3", "data.test_queries=5"], ["data.max_length=50"])
    )
    assert base == tested
    assert base != read
    assert base == outcome_settings(composed("+experiment=lm_distill_6l", "data.allow_unknown=true"), {})  # of judgments
    assert base != outcome_settings(composed("+experiment=lm_distill_6l", "data.on_bad=skip"), {})  # of passages
    # Its validation is a mean over batches, so their size counts.
    assert base != outcome_settings(composed("+experiment=lm_distill_6l", "data.eval_batch_size=5"), {})


def test_a_finished_run_whose_test_would_be_another_is_to_test_and_its_weights_are_still_good(tmp_path: Path) -> None:
    record(tmp_path, "finished", finished="then", tests=[{"data.depth": 20, "data.test_queries": None}])
    (tmp_path / "export").mkdir()
    (tmp_path / "export/config.json").touch()
    asked = [{"data.depth": 10, "data.test_queries": None}]
    assert state(tmp_path, SETTINGS, asked) == (
        "to test", "finished then; other test settings (data.depth: 20 -> 10): tested again",
    )  # fmt: skip
    assert state(tmp_path, SETTINGS, asked * 2).reason == (
        "finished then; other test settings (1 test splits -> 2): tested again"
    )
    assert state(tmp_path, SETTINGS).name == state(tmp_path, SETTINGS, [{"data.depth": 20, "data.test_queries": None}]).name


def test_a_finished_run_keeps_its_record_when_it_is_tested_again_and_is_to_test_until_that_ends(tmp_path: Path) -> None:
    record(tmp_path, "finished", finished="then", train_s=7, tests=[{"data.depth": 20}])
    (tmp_path / "export").mkdir()
    (tmp_path / "export/config.json").touch()
    prepare(tmp_path, OmegaConf.create({"a": 1}), SETTINGS, {}, None, [{"data.depth": 10}])
    found = read_record(tmp_path)
    assert [found[key] for key in ("status", "finished", "train_s", "tests")] == ["finished", "then", 7, [{"data.depth": 10}]]
    reason = "finished then; its last test didn't end: tested again"
    assert state(tmp_path, SETTINGS, [{"data.depth": 10}]) == ("to test", reason)


SPLIT = "queries: q.{0}, qrels: r.{0}, triples: null, candidates: null"
FILES = ("data=files", "data.train.queries=q.train", "data.train.qrels=r.train", "data.train.triples=t.tsv")
FILES += tuple(f"data.{split}={{{SPLIT.format(split)}}}" for split in ("valid", "test"))
BOTH = ["finetune_6l", "score_teacher"]
NAMES = ("corpus.tsv", "q.train", "r.train", "t.tsv", "q.valid", "r.valid", "q.test", "r.test", "other", "run", "mined")


@pytest.fixture
def outcome(tmp_path: Path):
    """What decides an experiment's outcome on files that hold their own names; ROOT stands for their folder."""
    for name in NAMES:
        (tmp_path / name).write_text(f"{name}\n")

    def settings(experiment: str, *more: str, root: Path = tmp_path) -> dict[str, object]:
        return outcome_settings(on_files(experiment, root, *more), {})

    return settings


@pytest.fixture
def tested(outcome, tmp_path: Path):
    """What decides an experiment's tests on the same files."""

    def settings(experiment: str, *more: str) -> list[dict[str, object]]:
        return outcomes.test_settings(on_files(experiment, tmp_path, *more))

    return settings


def on_files(experiment: str, root: Path, *more: str) -> DictConfig:
    words = (word.replace("ROOT", str(root)) for word in more)
    return composed(f"+experiment={experiment}", *FILES, f"data.root={root}", *words)


def sha256(line: str) -> str:
    return hashlib.sha256(f"{line}\n".encode()).hexdigest()[:16]


@pytest.mark.parametrize(
    "override",
    [
        "data.test.qrels=other", "data.valid.qrels=other", "data.test_queries=5", "data.depth=3", "data.valid_depth=3",
        "data.valid_queries=3", "data.test_relevance_level=2", "data.eval_batch_size=5", "data.batch_size=5", "data.workers=2",
        "data.passages=x", "data.allow_unknown=true", "data.holdout=3", "seed=3", "trainer.precision=bf16-mixed",
    ],
)  # fmt: skip
def test_what_cannot_change_a_score_leaves_a_teacher_s_scores_as_they_are(outcome, override: str) -> None:
    assert outcome("score_teacher") == outcome("score_teacher", override)


@pytest.mark.parametrize(
    "override",
    [
        "data.corpus=other", "data.train.queries=other", "data.train.qrels=other", "data.train.triples=null",
        "data.train.candidates=run", "data.candidates=ROOT/run", "data.negatives_runs=ROOT/mined",
        "data.columns.corpus={id: docno}", "data.train_on=sampled",
        "data.negatives=3", "data.negatives_depth=7", "data.negatives_skip=2", "data.relevance_level=2", "data.max_length=9",
        "data.on_bad=skip", "data.store=stores", "data.valid=null", "data.test=null",
    ],
)  # fmt: skip
def test_what_decides_which_pairs_are_scored_or_what_is_read_of_them_makes_other_scores(outcome, override: str) -> None:
    assert changed_settings(outcome("score_teacher"), outcome("score_teacher", override))


SEARCHER = ("teacher.kind=bi_encoder", "teacher.dtype=float32")


@pytest.mark.parametrize(
    ("override", "searched", "reranked"),
    [
        ("data.corpus=other", True, True), ("data.train.qrels=other", True, True), ("data.negatives_margin=1", True, True),
        ("stage.depth=7", True, True), ("data.relevance_level=2", True, True), ("data.negatives_depth=7", False, True),
        ("data.language=de", False, True), ("data.max_length=9", False, True), ("data.negatives=3", False, False),
        ("data.train_on=sampled", False, False), ("data.negatives_skip=2", False, False), ("data.depth=3", False, False),
        ("teacher.query_prompt=x", True, False), ("seed=3", False, False), ("trainer=ddp_cpu", False, False),
    ],
)  # fmt: skip
def test_what_decides_which_negatives_are_mined(outcome, override: str, searched: bool, reranked: bool) -> None:
    for words, counts in ((SEARCHER, searched), ((), reranked)):
        base, other = outcome("mine_negatives", *words), outcome("mine_negatives", *words, override)
        assert bool(changed_settings(base, other)) is counts


def test_queries_that_are_set_apart_change_the_scores_by_their_number(outcome) -> None:
    apart = [outcome("score_teacher", "data.holdout=7", *more) for more in (["data.test=null"], [])]
    assert changed_settings(*apart) == ["data.held_out_queries: 7 -> 0"]


@pytest.mark.parametrize(
    ("override", "counts"),
    [
        ("data.holdout=3", False), ("data.train.qrels=other", False), ("data.train.triples=null", False),
        ("data.train.queries=other", False), ("data.valid.qrels=other", False), ("data.columns.qrels={grade: 2}", False),
        ("data.corpus=other", True), ("data.columns.corpus={id: docno}", True), ("data.train.triples_text=t.tsv", True),
        ("data.passages=rankdistil/almanac", True), ("data.store=stores", True),
    ],
)  # fmt: skip
def test_of_a_collection_only_its_passages_decide_what_a_language_model_becomes(outcome, override: str, counts: bool) -> None:
    assert bool(changed_settings(outcome("lm_distill_6l"), outcome("lm_distill_6l", override))) is counts


@pytest.mark.parametrize("experiment", ["finetune_6l", "lm_distill_6l", "score_teacher"])
def test_the_same_files_in_another_folder_make_the_same_run(outcome, tmp_path: Path, experiment: str) -> None:
    there = tmp_path / "elsewhere"
    there.mkdir()
    for name in NAMES:
        shutil.copy(tmp_path / name, there / name)
    assert outcome(experiment) == outcome(experiment, root=there)


@pytest.mark.parametrize(
    ("file", "key", "stages"),
    [
        ("corpus.tsv", "data.corpus", BOTH), ("q.train", "data.train.queries", BOTH), ("r.train", "data.train.qrels", BOTH),
        ("t.tsv", "data.train.triples", BOTH), ("run", "data.run 1", BOTH), ("q.valid", "data.valid.queries", BOTH[:1]),
        ("mined", "data.train.negatives run 1", BOTH),
        ("r.valid", "data.valid.qrels", BOTH[:1]), ("corpus.tsv", "data.passages", ["lm_distill_6l"]),
    ],
)  # fmt: skip
def test_a_file_that_holds_something_else_under_its_old_name_is_named(outcome, tmp_path, file, key, stages) -> None:
    runs = ["data.candidates=ROOT/run", "data.negatives_runs=[ROOT/mined]"]
    for experiment in stages:
        before = outcome(experiment, *runs)
        (tmp_path / file).write_text("other\n")
        told = f"{key}: {file} has changed since (sha256 {sha256(file)} -> {sha256('other')})"
        assert changed_settings(before, outcome(experiment, *runs)) == [told]
        (tmp_path / file).write_text(f"{file}\n")


TESTED = [
    ("data.depth=3", "data.depth: 20 -> 3"), ("data.test_queries=5", "data.test_queries: None -> 5"),
    ("data.test_relevance_level=2", "data.test_relevance_level: 1 -> 2"), ("data.passages=x", None),
    ("data.valid_passages=9", None), ("data.eval_batch_size=5", None), ("data.holdout=9", None),
    ("data.test.queries=q.valid", "data.test.queries: q.test sha256:"),
    ("data.more_tests=[{queries: q.valid, qrels: r.valid}]", None),
]  # fmt: skip


@pytest.mark.parametrize(("override", "told"), TESTED)
def test_what_decides_a_test_alone_is_kept_apart_from_what_decides_the_weights(outcome, tested, override, told) -> None:
    assert outcome("finetune_6l") == outcome("finetune_6l", override)
    changed = changed_settings(tested("finetune_6l")[0], tested("finetune_6l", override)[0])
    assert [row for row in changed if not (told and row.startswith(told))] == []
    assert len(changed) == bool(told)


def test_every_test_split_is_told(tested) -> None:
    first, further = tested("finetune_6l", "data.more_tests=[{queries: q.valid, qrels: r.valid}]")
    assert changed_settings(first, further) == [
        f"data.test.{kind}: {name}.test sha256:{sha256(f'{name}.test')} -> {name}.valid sha256:{sha256(f'{name}.valid')}"
        for kind, name in (("qrels", "r"), ("queries", "q"))
    ]


@pytest.mark.parametrize(
    ("file", "key"),
    [("corpus.tsv", "corpus"), ("q.test", "test.queries"), ("r.test", "test.qrels"), ("run", "run 1")],
)  # fmt: skip
def test_a_test_of_files_that_have_changed_is_another_test(tested, tmp_path: Path, file: str, key: str) -> None:
    (before,) = tested("finetune_6l", "data.candidates=ROOT/run")
    (tmp_path / file).write_text("other")
    (after,) = tested("finetune_6l", "data.candidates=ROOT/run")
    assert [row.partition(" (")[0] for row in changed_settings(before, after)] == [f"data.{key}: {file} has changed since"]


def test_a_test_on_held_out_queries_is_told_by_which_they_are_and_keeps_others_from_training(outcome, tested) -> None:
    held = ["data.test=null", "data.holdout=7"]
    assert changed_settings(outcome("finetune_6l"), outcome("finetune_6l", *held)) == ["data.held_out_queries: 0 -> 7"]
    (told,) = tested("finetune_6l", *held)
    assert told["data.holdout"] == [7, True, 0, 1]
    assert told["data.test.queries"] == f"q.train sha256:{sha256('q.train')}"


def test_stages_that_are_not_tested_have_no_test_and_their_validation_is_a_mean_over_batches(outcome, tested) -> None:
    for experiment in ("lm_distill_6l", "lm_layer_distill", "score_teacher"):
        assert tested(experiment, "follows=null") == []
    base, other = (outcome("lm_layer_distill", "follows=null", *more) for more in ([], ["data.eval_batch_size=5"]))
    assert changed_settings(base, other) == ["data.eval_batch_size: 32 -> 5"]


def test_a_published_dataset_counts_by_its_version_and_rows() -> None:
    settings = outcome_settings(composed("+experiment=finetune_6l", "data=msmarco_passage"), {})
    told = f"msmarco-passage (ir_datasets {ir_datasets.__version__}, 8841823 rows)"
    assert [settings[f"data.{split}.passages"] for split in ("train", "valid")] == [told] * 2
    tests = outcomes.test_settings(composed("+experiment=finetune_6l", "data=msmarco_passage"))
    assert [test["data.test.passages"] for test in tests] == [told] * 2


def test_the_weights_that_are_learnt_from_count_by_content_and_not_by_place(tmp_path: Path) -> None:
    def settings(folder: Path, value: float) -> dict[str, object]:
        folder.mkdir(parents=True, exist_ok=True)
        save_file({"weight": torch.tensor([value])}, folder / "model.safetensors")
        return outcome_settings(composed("+experiment=lm_distill_6l", f"teacher.path={folder}"), {})

    here, there, changed = settings(tmp_path / "a", 1.0), settings(tmp_path / "b/c", 1.0), settings(tmp_path / "a", 2.0)
    assert here == there
    assert changed_settings(here, changed) == [f"teacher.weights: {here['teacher.weights']} -> {changed['teacher.weights']}"]


def test_an_installed_package_inside_of_another_checkout_has_no_commit(tmp_path: Path) -> None:
    installed = tmp_path / ".venv/rankdistil"
    shutil.copytree(Path(run_record.__file__).parents[1], installed, ignore=shutil.ignore_patterns("__pycache__"))
    commit = ["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-q", "--allow-empty", "-m", "x"]
    for words in (["init", "-q"], commit):
        subprocess.run(["git", "-C", str(tmp_path), *words], check=True)
    code = "from rankdistil.runs.record import origin; import rankdistil; print(rankdistil.__file__, origin()['commit'])"
    environment = os.environ | {"PYTHONPATH": str(installed.parent)}
    line = [sys.executable, "-c", code]
    done = subprocess.run(line, env=environment, capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout == f"{installed}/__init__.py unknown\n"


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b"data: {a: 1", "while parsing a flow mapping"), (b"\xff\xfe\x00", "'utf-8' codec can't decode byte 0xff"),
        (b"- 1", "it lacks data.max_length, stage.learns, student.name, "), (b"student: 3", "it lacks data.max_length, "),
        (b"a: ${b", "no viable alternative at input"),
    ],
)  # fmt: skip
def test_a_damaged_config_of_a_run_is_named_with_its_fault(tmp_path: Path, content: bytes, fault: str) -> None:
    (tmp_path / ".hydra").mkdir()
    file = tmp_path / ".hydra" / "config.yaml"
    file.write_bytes(content)
    with pytest.raises(ValueError, match="Put it back, or train the run again") as caught:
        run_config(tmp_path)
    assert str(caught.value).startswith(f"{file} is damaged ({fault}")
    file.unlink()
    with pytest.raises(FileNotFoundError, match="is not there: it holds the settings of the run"):
        run_config(tmp_path)
