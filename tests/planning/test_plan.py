"""Plans: which runs a config needs, parents first, what reaches them, and what a test depends on."""

import io
import json
from pathlib import Path

import pytest
import torch
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from safetensors.torch import save_file
from support import composed

from rankdistil.config.choices import each_test, start_in_words, start_of
from rankdistil.files import fingerprint
from rankdistil.planning import plan
from rankdistil.planning.plan import what_is_tested

PROCEDURES = {"LMD+FT": "lm_finetune_6l", "RD": "ranker_distill_6l", "LMD+RD": "lm_ranker_distill_6l"}


@pytest.fixture
def planned(tmp_path: Path):
    """Plan a command line; what is composed for parents is composed in the same way, at its scale."""

    def steps(*overrides: str) -> list[plan.Step]:
        cfg = composed(*overrides, f"paths.runs={tmp_path}/runs")
        scale = [word for word in overrides if word.startswith("scale=")]
        return plan.make_plan(cfg, lambda parent: composed(*scale, *parent))

    return steps


def folders(steps: list[plan.Step]) -> list[str]:
    return ["/".join(step.folder.parts[-3:]) for step in steps]


def finish(step: plan.Step) -> None:
    """Leave a folder as a finished run of a step leaves it."""
    (step.folder / "export").mkdir(parents=True)
    (step.folder / "export/config.json").touch()
    record = {"status": "finished", "finished": "then", "settings": step.settings, "tests": step.tests}
    (step.folder / "run.json").write_text(json.dumps(record))


def checkpoint(folder: Path, value: float = 1.0) -> str:
    """Write a checkpoint of one weight; return its path."""
    folder.mkdir(parents=True)
    save_file({"weight": torch.tensor([value])}, folder / "model.safetensors")
    return str(folder)


def test_every_parent_comes_before_its_child_and_once(planned) -> None:
    steps = planned("+experiment=lm_two_step_6l")
    assert folders(steps) == [
        "teacher/minilm/seed0", "lm_distill/6l/seed0", "lm_layer_distill/6l/seed0", "lm_two_step/6l/seed0",
    ]  # fmt: skip
    assert [step.cfg.stage.name for step in steps] == ["teacher", "lm_distill", "layer_distill", "logit_distill"]
    assert {step.state.name for step in steps} == {"to run"}


def test_a_run_names_its_parents_by_role_export_and_fingerprint(planned) -> None:
    teacher, first, second, last = planned("+experiment=lm_two_step_6l")
    assert (teacher.parents, first.parents) == ({}, {})
    for child, start in ((second, first), (last, second)):
        assert child.parents == {
            "teacher": {"source": f"{teacher.folder}/export", "fingerprint": fingerprint(teacher.settings)},
            "student": {"source": f"{start.folder}/export", "fingerprint": fingerprint(start.settings)},
        }
        assert child.settings["parents.student"] == fingerprint(start.settings)


def test_the_lists_of_a_loss_are_its_own_stage_s_and_its_teacher_is_that_of_all_others(planned) -> None:
    teacher, child = planned("+experiment=listwise_kl_6l")
    assert (teacher.cfg.data.negatives, child.cfg.data.negatives) == (1, 7)
    assert child.settings["data.negatives"] == 7
    assert not any("stage.negatives" in step.settings for step in (teacher, child))
    for words in (["+experiment=margin_mse_6l", "loss=adr_mse"], ["+experiment=ranker_distill_6l"]):
        assert planned(*words)[0].settings == teacher.settings
    assert [step.cfg.data.negatives for step in planned("+experiment=listwise_kl_6l", "data.negatives=3")] == [3, 3]


def test_an_average_of_the_weights_decides_its_own_run_and_none_decides_nothing(planned) -> None:
    (teacher, off), (same, on) = (
        planned("+experiment=ranker_distill_6l", f"stage.averaging={decay}") for decay in ("null", 0.9)
    )
    assert on.settings == off.settings | {"stage.averaging": 0.9}
    assert "stage.averaging" not in off.settings
    assert same.settings == teacher.settings


@pytest.mark.parametrize("experiment", ["infonce_6l", "margin_mse_6l"])
def test_a_loss_over_judgments_has_no_teacher_to_train(planned, experiment: str) -> None:
    stages = [step.cfg.stage.name for step in planned(f"+experiment={experiment}")]
    assert stages == (["score_distill"] if experiment == "infonce_6l" else ["teacher", "score_distill"])


@pytest.mark.parametrize("override", ["seed=1", "student=2l", "lr.lm_distill=1e-9", "steps.lm_distill=3"])
def test_what_changes_a_parent_changes_every_child_s_fingerprint(planned, override: str) -> None:
    *_, before = planned("+experiment=lm_two_step_6l")
    *_, after = planned("+experiment=lm_two_step_6l", override)
    assert before.settings["parents.student"] != after.settings["parents.student"]
    assert fingerprint(before.settings) != fingerprint(after.settings)


@pytest.mark.parametrize("experiment", ["lm_finetune_6l", "lm_distill_6l", "finetune_6l"])
def test_procedures_without_a_teacher_ranker_never_train_one(planned, experiment: str) -> None:
    steps = planned(f"+experiment={experiment}")
    assert not any(step.cfg.stage.learns == "teacher" or step.cfg.stage.teacher == "ranker" for step in steps)
    assert not any("teacher" in step.parents for step in steps)
    assert steps[-1].cfg.method == experiment.removesuffix("_6l")


@pytest.mark.parametrize(("name", "experiment"), PROCEDURES.items())
@pytest.mark.parametrize(("scale", "start"), [("laptop", "subclone"), ("paper", "random")])
def test_the_scale_chooses_what_every_stage_of_a_procedure_starts_from(planned, name, experiment, scale, start) -> None:
    teacher = "teacher.export=no/hub-id" if scale == "paper" and name != "LMD+FT" else "seed=0"
    steps = planned(f"+experiment={experiment}", f"scale={scale}", teacher)
    students = [step.cfg for step in steps if step.cfg.stage.learns == "student"]
    assert [cfg.student.init_from for cfg in students] == [start] * len(students)
    assert [cfg.follows for cfg in students] == ([None] if name == "RD" else [None, "lm_distill_6l"])


def test_a_start_that_is_typed_is_that_of_the_procedure_s_first_stage(planned) -> None:
    *_, first, last = planned("+experiment=lm_ranker_distill_6l", "student.init_from=random")
    assert [step.cfg.student.init_from for step in (first, last)] == ["random", "random"]
    assert [start_of(step.cfg).kind for step in (first, last)] == ["random", "experiment"]


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["+experiment=teacher"], "the pretrained language model minilm"),
        (["+experiment=ranker_distill_6l"], "cut out of the teacher ranker"),
        (["+experiment=finetune_6l"], "cut out of the pretrained language model"),
        (["+experiment=lm_distill_6l"], "cut out of the pretrained language model"),
        (["+experiment=finetune_6l", "student.init_from=random"], "random weights"),
        (["+experiment=ranker_distill_6l", "student.init_from=export:a/b"], "the export a/b"),
        (["+experiment=lm_ranker_distill_6l"], "lm_distill_6l, random weights"),
    ],
)  # fmt: skip
def test_a_start_is_told_in_words(overrides: list[str], words: str) -> None:
    assert start_in_words(composed(*overrides), followed="random weights") == words


def test_students_of_every_seed_share_one_teacher_and_have_language_models_of_their_own(planned) -> None:
    first, second = (planned("+experiment=lm_ranker_distill_6l", f"seed={seed}") for seed in (1, 2))
    for steps, seed in ((first, 1), (second, 2)):
        assert folders(steps) == [
            "teacher/minilm/seed0", f"lm_distill/6l/seed{seed}", f"lm_ranker_distill/6l/seed{seed}",
        ]  # fmt: skip
        assert [step.cfg.seed for step in steps] == [0, seed, seed]
    assert first[0].settings == second[0].settings
    assert first[1].settings != second[1].settings


def test_another_seed_of_the_teacher_is_another_teacher(planned) -> None:
    (zero, child), (one, other) = (planned("+experiment=ranker_distill_6l", f"teacher.seed={seed}") for seed in (0, 1))
    assert folders([zero, one]) == ["teacher/minilm/seed0", "teacher/minilm/seed1"]
    assert (one.cfg.seed, other.cfg.seed) == (1, 0)
    assert child.settings["parents.teacher"] != other.settings["parents.teacher"]


def test_the_student_is_handed_down_to_the_runs_it_starts_from(planned) -> None:
    _, *students = planned("+experiment=lm_two_step_6l", "student=4l", "student.intermediate_size=312")
    assert folders(students) == ["lm_distill/4l/seed0", "lm_layer_distill/4l/seed0", "lm_two_step/4l/seed0"]
    shapes = [(step.settings["student.layers"], step.settings["student.intermediate_size"]) for step in students]
    assert shapes == [(4, 312)] * 3


def test_each_student_of_the_chain_keeps_its_own_start(planned) -> None:
    _, *students = planned("+experiment=lm_two_step_6l")
    assert [step.cfg.follows for step in students] == [None, "lm_distill_6l", "lm_layer_distill"]


def test_settings_of_named_stages_are_handed_down_and_those_of_the_stage_itself_are_not(planned) -> None:
    parent, child = planned(
        "+experiment=lm_finetune_6l", "lr.lm_distill=0.25", "steps.lm_distill=5", "stage.lr=0.5", "stage.warmup_share=0.2",
        "steps.finetune=7", "data.batch_size=3", "student.layer_map=uniform", "run_name=mine",
    )  # fmt: skip
    assert (parent.cfg.stage.lr, child.cfg.stage.lr) == (0.25, 0.5)
    assert (parent.cfg.stage.warmup_share, child.cfg.stage.warmup_share) == (0.1, 0.2)
    assert (parent.cfg.stage.steps, child.cfg.stage.steps) == (5, 7)
    assert parent.cfg.data.batch_size == child.cfg.data.batch_size == 3
    assert parent.cfg.stage.layer_map == "uniform"
    assert folders([parent, child]) == ["lm_distill/6l/seed0", "lm_finetune/6l/mine"]


def test_the_run_that_a_student_starts_from_can_be_named(planned) -> None:
    parent, _ = planned("+experiment=lm_finetune_6l", "follows_run=long", "seed=3")
    assert folders([parent]) == ["lm_distill/6l/long"]
    *_, grandparent, parent, _ = planned("+experiment=lm_two_step_6l", "follows_run=long")
    assert folders([grandparent, parent]) == ["lm_distill/6l/long", "lm_layer_distill/6l/long"]


def test_planning_leaves_the_child_s_own_config_as_it_was(tmp_path: Path) -> None:
    cfg = composed("+experiment=lm_two_step_6l", f"paths.runs={tmp_path}")
    before = OmegaConf.to_yaml(cfg)
    plan.make_plan(cfg, lambda parent: composed(*parent))
    assert OmegaConf.to_yaml(cfg) == before


def test_a_parent_alone_is_the_one_that_a_child_asks_for(planned) -> None:
    for experiment, child in (("lm_distill_6l", "lm_finetune_6l"), ("lm_layer_distill", "lm_two_step_6l")):
        alone, parent = planned(f"+experiment={experiment}")[-1], planned(f"+experiment={child}")[-2]
        assert (parent.folder, parent.settings, parent.parents) == (alone.folder, alone.settings, alone.parents)


def test_finished_parents_are_known_and_the_rest_is_to_run(planned) -> None:
    for step in planned("+experiment=lm_distill_6l"):
        finish(step)
    states = [step.state.name for step in planned("+experiment=lm_two_step_6l")]
    assert states == ["to run", "finished", "to run", "to run"]


@pytest.mark.parametrize("override", ["lr.lm_distill=0.25", "data.batch_size=3", "student.intermediate_size=384"])
def test_a_parent_made_with_other_settings_is_refused_with_the_key_that_differs(planned, override: str) -> None:
    (parent,) = planned("+experiment=lm_distill_6l")
    finish(parent)
    with pytest.raises(ValueError) as caught:
        planned("+experiment=lm_finetune_6l", override)
    opening, _, rest = str(caught.value).partition("\n  ")
    key, value = override.replace("lr.lm_distill", "stage.lr").split("=")
    assert opening == f"{parent.folder} holds a run made with other settings (there -> asked for):"
    assert rest.startswith(f"{key}: {parent.settings[key]} -> {value}\nWays out: ")


@pytest.mark.parametrize("override", ["checkpoint_every=500", "checkpoint_every=30min", "resume=true"])
def test_a_finished_run_and_its_parents_are_reused_however_often_checkpoints_are_asked_for(planned, override: str) -> None:
    for step in planned("+experiment=lm_finetune_6l"):
        finish(step)
    steps = planned("+experiment=lm_finetune_6l", override)
    assert [step.state.name for step in steps] == ["finished"] * 2
    assert steps[0].cfg.checkpoint_every == steps[1].cfg.checkpoint_every  # a parent is saved as often


@pytest.mark.parametrize("override", ["data.depth=3", "data.test_queries=5", "data.test=rankdistil/almanac/valid"])
def test_a_teacher_whose_test_would_be_another_is_used_as_a_parent_and_tested_again_for_itself(planned, override: str) -> None:
    (teacher,) = planned("+experiment=teacher")
    finish(teacher)
    parent, _ = planned("+experiment=ranker_distill_6l", override)
    (alone,) = planned("+experiment=teacher", override)
    assert parent.state == ("finished", "finished then, same settings")
    assert alone.state.name == "to test"
    assert alone.state.reason.startswith("finished then; other test settings (data.")
    assert alone.state.reason.endswith("): tested again")


ASSISTED = ("teacher/minilm/seed0", "ranker_distill/4l/seed0", "assistant/2l/seed0")


def test_an_assistant_comes_between_its_teacher_and_its_student_which_has_no_other_parent(planned) -> None:
    _, assistant, child = steps = planned("+experiment=assistant_2l", "stage.lr=0.5", "student.heads=6")
    assert folders(steps) == [*ASSISTED]
    assert assistant.parents.keys() == {"teacher"}
    assert child.parents == {
        "assistant": {"source": f"{assistant.folder}/export", "fingerprint": fingerprint(assistant.settings)}
    }
    assert child.settings["parents.assistant"] == fingerprint(assistant.settings)
    assert (child.assistant, assistant.assistant) == (assistant.cfg, None)
    assert [step.cfg.student.heads for step in (assistant, child)] == [12, 6]
    assert start_in_words(child.cfg) == "cut out of the assistant ranker_distill_6l 4l"


@pytest.mark.parametrize("common", [(), ("seed=3",), ("data.batch_size=3", "steps.ranker_distill=9", "scale=smoke")])
def test_a_run_of_its_own_is_reused_as_an_assistant_where_its_settings_agree(planned, common: tuple[str, ...]) -> None:
    for step in planned("+experiment=ranker_distill_6l", "student=4l", *common):
        finish(step)
    assert [step.state.name for step in planned("+experiment=assistant_2l", *common)] == ["finished", "finished", "to run"]
    with pytest.raises(ValueError, match=r"ranker_distill/4l/seed\d holds a run made with other settings"):
        planned("+experiment=assistant_2l", *common, "lr.ranker_distill=0.5")
    *_, child = planned("+experiment=assistant_2l", *common, "lr.ranker_distill=0.5", "teacher.assistant_run=other")
    assert child.parents["assistant"]["source"].endswith("/ranker_distill/4l/other/export")


def test_assistants_of_assistants_make_a_chain_of_sizes_under_one_teacher(planned) -> None:
    words = ["+experiment=assistant_2l", "teacher.assistant=assistant_2l", "teacher.assistant_size=3l", "teacher.seed=2"]
    *_, middle, child = steps = planned(*words)
    assert folders(steps) == ["teacher/minilm/seed2", "ranker_distill/4l/seed0", "assistant/3l/seed0", "assistant/2l/seed0"]
    assert [step.parents.keys() for step in steps] == [set(), {"teacher"}, {"assistant"}, {"assistant"}]
    assert child.parents["assistant"]["source"] == f"{middle.folder}/export"


def test_all_steps_of_a_procedure_have_its_assistant_and_an_experiment_that_is_followed_keeps_its_own(planned) -> None:
    words = ["+experiment=lm_two_step_6l", "student=2l", "teacher.assistant=ranker_distill_6l", "teacher.assistant_size=4l"]
    steps = {step.cfg.method: step.parents.keys() for step in planned(*words)}
    assert steps == {
        "teacher": set(), "ranker_distill": {"teacher"}, "lm_distill": set(), "lm_layer_distill": {"assistant", "student"},
        "lm_two_step": {"assistant", "student"},
    }  # fmt: skip
    *_, followed, child = planned("+experiment=finetune_6l", "student=2l", "follows=assistant_2l")
    alone = planned("+experiment=assistant_2l")[-1]
    assert (followed.folder, followed.settings) == (alone.folder, alone.settings)
    assert child.parents.keys() == {"student"}


def test_an_experiment_that_is_its_own_assistant_is_refused_with_the_circle(tmp_path: Path) -> None:
    def circle(overrides: list[str]) -> DictConfig:
        return composed(*overrides, "teacher.assistant=ranker_distill_6l", f"paths.runs={tmp_path}")

    with pytest.raises(ValueError) as caught:
        plan.make_plan(circle(["+experiment=ranker_distill_6l", "teacher.assistant_size=4l"]), circle)
    assert str(caught.value) == (
        "teacher.assistant=ranker_distill_6l: that experiment is its own assistant (ranker_distill_6l 4l <- ranker_distill_6l "
        "<- ranker_distill_6l)."
    )


@pytest.mark.parametrize(("named", "stage"), [("finetune_6l", "finetune"), ("lm_layer_distill", "layer_distill")])
def test_an_assistant_that_no_ranker_teaches_or_that_ranks_nothing_is_refused(planned, named: str, stage: str) -> None:
    with pytest.raises(ValueError) as caught:
        planned("+experiment=assistant_2l", f"teacher.assistant={named}")
    assert str(caught.value) == (
        f"teacher.assistant={named} is an experiment of stage {stage}; expected one that learns from the teacher ranker and "
        "ranks itself, such as ranker_distill_6l. A ranker that none has taught can be the teacher: teacher.assistant=null "
        "teacher.export=<its run>/export."
    )


def test_an_experiment_that_starts_from_itself_is_refused_with_the_circle(planned) -> None:
    with pytest.raises(ValueError) as caught:
        plan.make_plan(circular("lm_finetune_6l"), lambda parent: circular(parent[0].removeprefix("+experiment=")))
    assert str(caught.value) == ("follows=lm_finetune_6l: that experiment follows itself (lm_finetune_6l <- lm_finetune_6l).")


def circular(experiment: str) -> DictConfig:
    return composed(f"+experiment={experiment}", f"follows={experiment}")


def test_a_start_counts_by_its_weights_and_not_by_where_it_lies(planned, tmp_path: Path) -> None:
    here, there, changed = (checkpoint(tmp_path / name, value) for name, value in (("a", 1.0), ("b/c", 1.0), ("d", 2.0)))
    steps = [planned("+experiment=finetune_6l", f"student.init_from=export:{path}")[-1] for path in (here, there, changed)]
    assert [step.parents["student"]["source"] for step in steps] == [here, there, changed]
    prints = [fingerprint(step.settings) for step in steps]
    assert prints[0] == prints[1] != prints[2]


def test_the_same_weights_as_another_kind_of_start_are_another_run(planned, tmp_path: Path) -> None:
    path = checkpoint(tmp_path / "a")
    exported, pretrained = (
        planned("+experiment=finetune_6l", f"student.init_from={kind}:{path}")[-1] for kind in ("export", "pretrained")
    )
    assert exported.settings["student.init_from"] == "export"
    assert fingerprint(exported.settings) != fingerprint(pretrained.settings)


def test_a_teacher_s_export_counts_by_its_weights_and_needs_no_run(planned, tmp_path: Path) -> None:
    here, there, changed = (checkpoint(tmp_path / name, value) for name, value in (("a", 1.0), ("b/c", 1.0), ("d", 2.0)))
    found = [planned("+experiment=ranker_distill_6l", f"teacher.export={path}") for path in (here, there, changed)]
    assert [len(steps) for steps in found] == [1, 1, 1]
    prints = [fingerprint(step.settings) for (step,) in found]
    assert prints[0] == prints[1] != prints[2]


def test_a_teacher_trained_by_itself_is_the_one_that_a_student_asks_for(planned) -> None:
    (alone,) = planned("+experiment=teacher")
    parent, _ = planned("+experiment=ranker_distill_6l", "student=4l", "stage.lr=0.3", "run_name=other")
    assert (parent.folder, parent.settings) == (alone.folder, alone.settings)


def test_mined_negatives_are_the_child_s_own_as_its_teacher_may_have_mined_them(planned, tmp_path: Path) -> None:
    (tmp_path / "mined").write_text("")
    (alone,) = planned("+experiment=teacher")
    parent, child = planned("+experiment=ranker_distill_6l", f"data.negatives_runs=[{tmp_path}/mined]")
    assert parent.settings == alone.settings
    assert "data.train.negatives run 1" in child.settings
    parent, miner = planned("+experiment=mine_negatives")
    assert (parent.settings, [*miner.parents], miner.tests) == (alone.settings, ["teacher"], [])
    assert folders([miner]) == ["mine_negatives/minilm/seed0"]


def test_settings_for_all_stages_reach_the_teacher_and_those_of_the_stage_do_not(planned) -> None:
    parent, child = planned("+experiment=smoke", "steps.teacher=77", "stage.steps=5", "teacher.seed=3")
    assert (parent.cfg.stage.steps, child.cfg.stage.steps) == (77, 5)
    assert (parent.cfg.seed, child.cfg.seed) == (3, 0)
    assert folders([parent]) == ["smoke_teacher/minilm/seed3"]
    assert parent.cfg.stage.learns == "teacher"


@pytest.mark.parametrize(
    ("overrides", "folder", "stages"),
    [
        (
            ["+experiment=ranker_distill_6l", "follows=ranker_distill_6l"],
            "ranker_distill/6l/seed0", ("ranker_distill", "ranker_distill"),
        ),
        (["+experiment=lm_finetune_6l", "method=lm_distill"], "lm_distill/6l/seed0", ("lm_distill", "finetune")),
        (
            ["+experiment=ranker_distill_6l", "teacher.run=ranker_distill/6l/seed0"],
            "ranker_distill/6l/seed0", ("teacher", "ranker_distill"),
        ),
    ],
)  # fmt: skip
def test_two_runs_of_a_plan_that_would_share_a_folder_are_refused(
    planned, tmp_path: Path, overrides: list[str], folder: str, stages: tuple[str, str]
) -> None:
    with pytest.raises(ValueError) as caught:
        planned(*overrides)
    assert str(caught.value).startswith(
        f"two runs of this plan would share the folder {tmp_path}/runs/{folder}: one of stage {stages[0]} and one of stage "
        f"{stages[1]}, with other settings. Name another folder for one of them: run_name=<name>"
    )


def test_an_export_named_as_teacher_needs_no_parent(planned) -> None:
    (step,) = planned("+experiment=smoke", "teacher.export=some/folder")
    assert step.cfg.stage.name == "ranker_distill"
    assert step.settings["parents.teacher"] == "some/folder"


@pytest.mark.parametrize("key", ["path", "export"])
def test_what_gives_tokens_and_shape_to_a_student_of_scores_counts_by_its_content(planned, tmp_path: Path, key: str) -> None:
    scores = tmp_path / "scores"
    scores.mkdir()
    (scores / "scores.json").write_text(json.dumps({"made_of": {}, "shards": {}}))
    here, there, changed = (checkpoint(tmp_path / name, value) for name, value in (("a", 1.0), ("b/c", 1.0), ("d", 2.0)))
    found = [
        planned("stage=logit_distill", "student.init_from=random", f"teacher.scores={scores}", f"teacher.{key}={path}")
        for path in (here, there, changed)
    ]
    assert [len(steps) for steps in found] == [1, 1, 1]
    prints = [fingerprint(step.settings) for (step,) in found]
    assert prints[0] == prints[1] != prints[2]


def test_the_plan_shows_what_each_run_starts_from(planned) -> None:
    console = Console(width=400, file=io.StringIO())
    plan.show(planned("+experiment=lm_ranker_distill_6l"), console)
    rows = [[cell.strip() for cell in line.split("│")] for line in console.file.getvalue().splitlines() if "│" in line]
    assert [row[3] for row in rows] == [
        "the pretrained language model minilm", "cut out of the pretrained language model",
        "lm_distill_6l, cut out of the pretrained language model",
    ]  # fmt: skip


DRAWN = ["+experiment=smoke", "data.test=null", "data.holdout=5"]


def depends_on(*overrides: str) -> dict[str, object]:
    (data,) = each_test(composed(*overrides).data)
    return what_is_tested(data)


@pytest.mark.parametrize("changed", ["data.holdout=6", "data.train=rankdistil/almanac/test", "data.valid=null"])
def test_a_test_that_is_drawn_from_the_training_queries_depends_on_the_draw(changed: str) -> None:
    assert depends_on(*DRAWN) != depends_on(*DRAWN, changed)
    named = "data.test=rankdistil/almanac/test"
    assert depends_on(*DRAWN, named) == depends_on(*DRAWN, changed, named)
