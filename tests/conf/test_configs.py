"""Every config file composes, resolves and fits the constructors; the precedence is the one that train.yaml promises."""

from pathlib import Path

import pytest
import yaml
from hydra import compose, initialize_config_dir
from hydra.types import RunMode
from support import CONF, composed
from transformers import BertConfig

from rankdistil.config import choices
from rankdistil.config.checks import build, check
from rankdistil.config.schema import plain
from rankdistil.data.batches.training_groups import lists_groups
from rankdistil.models import checkpoints
from rankdistil.stages import networks
from rankdistil.stages.data import data_settings

EXPERIMENTS = sorted(path.stem for path in (CONF / "experiment").glob("*.yaml"))
SCALES = sorted(path.stem for path in (CONF / "scale").glob("*.yaml"))
LOSSES = sorted(path.stem for path in (CONF / "loss").glob("*.yaml"))
STUDENTS = sorted(path.stem for path in (CONF / "student").glob("*.yaml"))
ASKED = {"data=files": ["data.root=/anywhere"], "data=ir_dataset": ["data.train=a/train"]}
GROUPS = ("student", "data", "logger", "trainer", "teacher", "stage", "loss")


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_every_experiment_composes_and_binds_at_every_scale(experiment: str, scale: str) -> None:
    cfg = composed(f"+experiment={experiment}", f"scale={scale}")
    check(cfg)
    if cfg.stage.learns == "nothing":
        return
    assert networks.optim_settings(cfg.stage).steps == cfg.stage.steps
    weighted = {name for name, node in choices.kept_losses(cfg).items() if node.weight > 0}
    assert networks.build_losses(cfg, None).weights.keys() == weighted
    left_out = {"labels"} if cfg.stage.name == "score_distill" else {"attention"} if scale != "paper" else set()
    assert weighted == set(choices.kept_losses(cfg)) - left_out


@pytest.mark.parametrize("loss", LOSSES)
def test_a_loss_names_its_runs_asks_for_its_negatives_and_says_whether_it_has_a_teacher(loss: str) -> None:
    cfg = composed("+experiment=margin_mse_6l", f"loss={loss}")
    assert (cfg.method, cfg.folder) == (loss, f"{loss}/6l/seed0")
    assert cfg.data.negatives == (1 if loss in ("margin_mse", "logit_mse") else 7)
    assert composed("+experiment=margin_mse_6l", f"loss={loss}", "data.negatives=3").data.negatives == 3
    asked = build(cfg.stage.losses.scores.loss, "stage.losses.scores.loss").asks_teacher
    assert cfg.stage.teacher == ("ranker" if asked else "none")


def test_at_scale_paper_lists_are_sampled_and_pairs_are_the_dataset_s_own() -> None:
    for loss, lists in (("margin_mse", False), ("listwise_kl", True)):
        data = composed("+experiment=margin_mse_6l", "scale=paper", f"loss={loss}").data
        assert lists_groups(data.train_on, data.negatives, has_triples=True) is not lists
        assert data_settings(data).negatives == (7 if lists else 1)


@pytest.mark.parametrize(
    "override", [f"{group}={path.stem}" for group in GROUPS for path in sorted((CONF / group).glob("*.yaml"))]
)
def test_every_option_of_every_group_composes_and_binds(override: str) -> None:
    experiment = "margin_mse_6l" if override.startswith("loss=") else "ranker_distill_6l"
    cfg = composed(f"+experiment={experiment}", override, *ASKED.get(override, []))
    check(cfg)
    assert plain(cfg)["seed"] == 0


@pytest.fixture
def bert_base(monkeypatch: pytest.MonkeyPatch) -> None:
    """The shape of the paper's teacher without the hub: BertConfig's own defaults are those of bert-base-uncased."""
    read = checkpoints.read_config
    for module in (checkpoints, networks):
        monkeypatch.setattr(module, "read_config", lambda path: BertConfig() if path.startswith("google-bert/") else read(path))


@pytest.mark.usefixtures("bert_base")
@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("experiment", [name for name in EXPERIMENTS if name.endswith("_6l")])
def test_every_experiment_takes_every_student_at_every_scale(experiment: str, scale: str) -> None:
    for student in STUDENTS:
        cfg = composed(f"+experiment={experiment}", f"student={student}", f"scale={scale}")
        check(cfg)
        networks.check_student(cfg)  # its start, its layers and its losses fit its teacher
        assert networks.student_size(cfg.student).layers == int(student[0])
        assert cfg.folder == f"{cfg.method}/{student}/seed0"


@pytest.mark.parametrize("student", STUDENTS)
def test_a_student_s_file_says_its_size_and_not_its_start(student: str) -> None:
    told = yaml.safe_load((CONF / f"student/{student}.yaml").read_text())
    size = {"layers", "hidden_size", "heads", "intermediate_size"}
    assert told.keys() == {"name", *size, "drop_losses", "steps", "lr", "layer_map"}


def test_at_smoke_every_size_is_the_same_but_for_its_depth_and_the_command_line_still_wins() -> None:
    for student in STUDENTS:
        cfg = composed("+experiment=ranker_distill_6l", "scale=smoke", f"student={student}", "student.heads=6").student
        assert (cfg.layers, cfg.hidden_size, cfg.heads, cfg.intermediate_size) == (int(student[0]), 96, 6, 384)


@pytest.mark.parametrize(("scale", "start"), [("laptop", "subclone"), ("smoke", "subclone"), ("paper", "random")])
def test_the_start_is_chosen_by_the_scale_whatever_the_student_and_the_experiment(scale: str, start: str) -> None:
    for name in EXPERIMENTS:
        if name != "smoke":
            assert composed(f"+experiment={name}", f"scale={scale}", "student=2l").student.init_from == start


def test_every_experiment_that_another_follows_exists() -> None:
    named = {composed(f"+experiment={name}").follows for name in EXPERIMENTS} - {None}
    assert named == {"lm_distill_6l", "lm_layer_distill"} <= set(EXPERIMENTS)


def test_every_assistant_that_an_experiment_names_exists_and_is_larger_than_its_student() -> None:
    named = {name: composed(f"+experiment={name}").teacher for name in EXPERIMENTS}
    assert {name: (one.assistant, one.assistant_size) for name, one in named.items() if one.assistant is not None} == {
        "assistant_2l": ("ranker_distill_6l", "4l")
    }
    assert {"ranker_distill_6l"} <= set(EXPERIMENTS)


def test_no_two_experiments_share_a_run_folder() -> None:
    folders = [composed(f"+experiment={name}").folder for name in EXPERIMENTS]
    assert len(set(folders)) == len(EXPERIMENTS)


@pytest.mark.parametrize("scale", ["laptop", "paper"])
def test_the_two_steps_together_take_as_many_steps_as_one(scale: str) -> None:
    for student in STUDENTS:
        steps = composed("+experiment=lm_two_step_6l", f"scale={scale}", f"student={student}").steps
        assert steps.layer_distill + steps.logit_distill == steps.ranker_distill


def test_what_is_cut_down_most_learns_longest() -> None:
    stages = [composed("+experiment=ranker_distill_6l", f"student={student}").stage for student in ("6l", "4l", "3l", "2l")]
    assert [stage.steps for stage in stages] == sorted({stage.steps for stage in stages})
    assert [stage.lr for stage in stages] == sorted({stage.lr for stage in stages})


def test_a_student_s_steps_and_rate_are_one_word_away_in_every_stage_that_trains_it() -> None:
    for name in EXPERIMENTS:
        cfg = composed(f"+experiment={name}", "student.steps=40", "student.lr=0.5")
        if cfg.stage.learns == "student" and name != "smoke":
            assert (cfg.stage.steps, cfg.stage.lr) == (20 if cfg.method == "lm_two_step" or "layer" in name else 40, 0.5)


def test_the_same_experiment_is_small_on_a_laptop_and_large_on_paper() -> None:
    laptop, paper = (composed("+experiment=ranker_distill_6l", f"scale={scale}") for scale in ("laptop", "paper"))
    assert (laptop.student.hidden_size, laptop.data.name, laptop.trainer.accelerator) == (384, "almanac", "cpu")
    assert (paper.student.hidden_size, paper.data.name, paper.trainer.accelerator) == (768, "msmarco_passage", "gpu")


def test_the_command_line_beats_the_experiment_and_the_experiment_beats_the_scale() -> None:
    cfg = composed("+experiment=smoke", "student=4l", "data=files", "data.root=x", "stage.lr=0.5", "data.depth=3")
    assert (cfg.student.name, cfg.data.name, cfg.stage.lr, cfg.data.depth) == ("4l", "files", 0.5, 3)
    assert cfg.steps.ranker_distill == 9  # the experiment's, not the scale's
    assert cfg.data.max_length == 155  # the scale's, for any collection


@pytest.mark.parametrize("path", sorted((CONF / "experiment").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_experiment_opens_with_its_five_line_header(path: Path) -> None:
    lines = path.read_text().splitlines()
    assert lines[0] == "# @package _global_"
    starts = [line.partition(":")[0] for line in lines[1:6]]
    assert starts == ["# Claim", "# Row", "# Command", "# Expected", "# Cost"]


def test_a_cluster_s_jobs_are_queued_again_and_settings_of_the_launcher_are_left_to_the_user() -> None:
    words = ["+experiment=smoke", "+cluster=slurm", "hydra.launcher.partition=gpus", "hydra.launcher.nodes=2"]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = compose("train", overrides=words, return_hydra_config=True)
    check(composed("+experiment=smoke", "+cluster=slurm"))
    assert cfg.hydra.mode == RunMode.MULTIRUN
    assert cfg.hydra.launcher._target_.endswith("SlurmLauncher")
    assert (cfg.hydra.launcher.partition, cfg.hydra.launcher.nodes) == ("gpus", 2)
    assert cfg.hydra.launcher.max_num_timeout > 0  # submitit's own 0 never queues a job again


def test_a_size_that_cannot_take_the_attention_loss_drops_it_and_names_it() -> None:
    cfg = composed("+experiment=ranker_distill_6l", "student=2l", "scale=paper")
    assert "attention" in cfg.stage.losses
    assert "attention" not in choices.kept_losses(cfg)
