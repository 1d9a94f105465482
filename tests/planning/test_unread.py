"""Settings that exist, and that the chosen stages and data can't use."""

from pathlib import Path

import pytest
from omegaconf import DictConfig, OmegaConf
from support import composed

from rankdistil.planning.unread import unread, unread_by_test


def told(*words: str, experiment: str = "finetune_6l") -> list[str]:
    """Complain about the words in a plan of one run."""
    return [one.text for one in unread(words, [composed(f"+experiment={experiment}", *words)])]


@pytest.mark.parametrize(
    ("word", "why"),
    [
        ("teacher.export=x", "no stage of it learns from a ranker"),
        ("teacher.scores=x", "no student of it learns from a ranker"),
        ("teacher.seed=3", "no stage of it asks a teacher's own run"),
        ("teacher.assistant=x", "no student of it learns from a ranker"),
        ("teacher.assistant_size=4l", "no student of it has an assistant"),
        ("teacher.assistant_run=x", "no student of it has an assistant"),
        ("follows_run=x", "it follows no other run"),
        ("+stage.projection=shared", "no loss of it compares hidden states"),
        ("data.passages=x", "no stage of it reads text"),
        ("data.holdout=5", "data.valid and data.test are named"),
        ("+data.root=x", "no split of it is read from files"),
        ("steps.teacher=5", "none of its stages (finetune) uses it"),
        ("lr.ranker_distill=1", "none of its stages (finetune) uses it"),
        ("recipe.attention=scores", "none of its stages (finetune) uses it"),
    ],
)
def test_a_setting_that_no_stage_uses_says_why(word: str, why: str) -> None:
    key = word.lstrip("+").partition("=")[0]
    assert told(word) == [f"{key} has no effect in this plan: {why}. Leave it out."]


@pytest.mark.parametrize(
    "word", ["steps.finetune=5", "student.steps=5", "dropout=0.1", "validations=2", "data.depth=5", "seed=3"]
)
def test_what_a_stage_uses_is_left_alone(word: str) -> None:
    assert told(word) == []
    assert told("teacher.assistant_size=4l", "teacher.assistant=x", "teacher.run=x", experiment="assistant_2l") == []
    assert told("teacher.export=x", "data.negatives_skip=3", "recipe.relative=false", experiment="ranker_distill_6l") == []


@pytest.mark.parametrize(
    ("word", "why"),
    [
        ("teacher.template='{query}{document}'", "no teacher of kind causal_lm scores in it"),
        ("teacher.passage_prompt=x", "no teacher of kind bi_encoder or sparse scores in it"),
        ("teacher.seed=3", "no stage of it asks a teacher's own run"),
        ("data.max_length=64", "its teacher cuts texts by teacher.max_length"),
    ],
)
def test_a_teacher_of_another_kind_reads_what_is_its_own(word: str, why: str) -> None:
    words = ["teacher.kind=cross_encoder", "teacher.dtype=float32", "teacher.max_length=9", "data.depth=5", "teacher.name=x"]
    assert told(*words, experiment="score_teacher") == []
    cfg = composed("+experiment=score_teacher", "teacher.kind=cross_encoder")
    key = word.partition("=")[0]
    assert [one.text for one in unread([word], [_with(cfg, word)])] == [
        f"{key} has no effect in this plan: {why}. Leave it out."
    ]


def _with(cfg: DictConfig, word: str) -> DictConfig:
    key, _, value = word.partition("=")
    OmegaConf.update(cfg, key, value)
    return cfg


def test_a_stage_that_trains_nothing_keeps_no_checkpoints() -> None:
    assert told("checkpoint_every=500", experiment="score_teacher") == [
        "checkpoint_every has no effect in this plan: no stage of it trains. Leave it out."
    ]


def test_a_ranker_scores_in_float32_whatever_is_said() -> None:
    assert told("teacher.dtype=float32", experiment="score_teacher") == [
        "teacher.dtype has no effect in this plan: no teacher of another kind than ranker scores in it. Leave it out."
    ]


def test_what_another_word_puts_aside_has_no_effect() -> None:
    assert told("student.steps=5", "stage.steps=6") == [
        "student.steps has no effect in this plan: none of its stages (finetune) uses it. Leave it out."
    ]


def test_mined_negatives_are_read_where_negatives_are_sampled() -> None:
    assert told("data.negatives_runs=x.run", experiment="infonce_6l") == []
    for words in (["data.train_on=docpairs"], ["stage=lm_distill"]):
        (complaint,) = told("data.negatives_runs=x.run", *words)
        assert complaint.startswith("data.negatives_runs has no effect in this plan: no stage of it samples negatives")


@pytest.mark.parametrize(
    ("word", "why"),
    [
        ("data.negatives_skip=3", "no stage of it samples negatives (triples have theirs)"),
        ("data.negatives_scores=x", "all stages of it read passages, or mine negatives"),
        ("data.negatives_depth=9", "no stage of it samples negatives (triples have theirs) or ranks candidates again"),
        ("teacher.score_test=false", "no teacher writes down scores in it"),
    ],
)
def test_a_miner_reads_its_margin_and_its_depth_and_an_encoder_no_candidates(word: str, why: str) -> None:
    dense = ("teacher.kind=bi_encoder", "data.negatives_margin=0.1", "stage.depth=5", "teacher.query_prompt=x")
    assert told(*dense, experiment="mine_negatives") == []
    assert told("data.negatives_depth=9", "data.negatives_runs=x.run", experiment="mine_negatives") == []
    assert told(word, "teacher.kind=sparse", experiment="mine_negatives") == [
        f"{word.partition('=')[0]} has no effect in this plan: {why}. Leave it out."
    ]


def test_a_size_counts_only_for_the_student_that_has_it() -> None:
    cfg = composed("+experiment=finetune_6l", "student=4l")
    assert unread(["++sizes={4l: {steps: 5}}"], [cfg]) == []
    assert [one.text for one in unread(["++sizes={2l: {steps: 5, lr: 1}}"], [cfg])] == [
        f"sizes.2l.{key} has no effect in this plan: none of its stages (finetune) uses it. Leave it out."
        for key in ("steps", "lr")
    ]


def test_a_parent_s_use_counts_and_null_is_no_setting() -> None:
    child, teacher = composed("+experiment=finetune_6l", "steps.teacher=5"), composed("+experiment=teacher", "steps.teacher=5")
    assert unread(["steps.teacher=5"], [teacher, child]) == []
    assert told("teacher.export=null", "~stage.losses.labels.loss.over") == []


def test_triples_bring_their_own_negatives(tmp_path: Path) -> None:
    for name in ("corpus.tsv", "queries.train.tsv", "qrels.train.txt", "t.tsv"):
        (tmp_path / name).touch()
    word, triples = "data.negatives_skip=3", ["data=files", f"data.root={tmp_path}", "data.train.triples=t.tsv"]
    assert told(word, experiment="ranker_distill_6l") == []
    (complaint,) = unread([word], [composed("+experiment=finetune_6l", word, *triples)])
    assert complaint.text == (
        "data.negatives_skip has no effect in this plan: no stage of it samples negatives (triples have theirs). Leave it out."
    )


def test_a_stage_s_own_negatives_count_unless_those_of_all_stages_are_named() -> None:
    assert told("stage.negatives=3", experiment="margin_mse_6l") == []
    text = "stage.negatives has no effect in this plan: data.negatives stands in its place, or all stages of it read passages."
    assert told("stage.negatives=3", "data.negatives=5", experiment="margin_mse_6l") == [f"{text} Leave it out."]
    assert told("stage.negatives=3", experiment="lm_distill_6l") == [f"{text} Leave it out."]


def test_depths_of_a_stage_that_ranks_nothing_are_told_and_not_grave() -> None:
    (complaint,) = unread(["data.depth=5"], [composed("+experiment=lm_distill_6l", "data.depth=5")])
    assert complaint == ("data.depth has no effect in this plan: no stage of it ranks. Leave it out.", False)


def test_a_test_is_told_what_trains_only_and_what_reads_no_file() -> None:
    data = OmegaConf.create({"test": "a/b", "train": "a/c"})
    words = ["++data.negatives=7", "++data.depth=5", "++data.root=x", "callbacks.gradient_shares.every=1", "rescore=true"]
    assert unread_by_test(words, data) == [
        "data.negatives has no effect in evaluate.py: it decides how a run is trained. Leave it out.",
        "data.root has no effect here: data.test=a/b is not read from files. Add data=files.",
        "callbacks.gradient_shares.every has no effect in evaluate.py, which trains nothing. Leave it out.",
    ]
    data.test = None  # held out of the training queries, which then count
    assert unread_by_test(["++data.train=a/b"], data) == []


def test_windows_are_read_by_what_ranks_documents_and_by_no_stage_that_reads_text_alone() -> None:
    assert told("data.windows={stride: 64, most: 4}") == []
    assert told("data.windows={stride: 64, most: 4}", experiment="lm_distill_6l") == [
        f"data.windows.{key} has no effect in this plan: all stages of it read passages alone. Leave it out."
        for key in ("stride", "most")
    ]
