"""Every config file composes, resolves and fits the constructors; the precedence is the one that train.yaml promises."""

from pathlib import Path

import pytest
from support import CONF, composed

from rankdistil import parts
from rankdistil.settings import check, plain

EXPERIMENTS = sorted(path.stem for path in (CONF / "experiment").glob("*.yaml"))
GROUPS = ("student", "data", "logger", "trainer", "teacher", "stage")


@pytest.mark.parametrize("scale", ["laptop", "paper"])
@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_every_experiment_composes_and_binds_at_both_scales(experiment: str, scale: str) -> None:
    cfg = composed(f"+experiment={experiment}", f"scale={scale}")
    check(cfg)
    assert parts.optim_settings(cfg.stage).steps == cfg.stage.steps
    assert parts.build_losses(cfg, None).weights.keys() == parts.kept_losses(cfg).keys()


@pytest.mark.parametrize(
    "override", [f"{group}={path.stem}" for group in GROUPS for path in sorted((CONF / group).glob("*.yaml"))]
)
def test_every_option_of_every_group_composes_and_binds(override: str) -> None:
    cfg = composed("+experiment=ranker_distill_6l", override, *(["data.root=/anywhere"] if override == "data=files" else []))
    check(cfg)
    assert plain(cfg)["seed"] == 0


@pytest.mark.parametrize("scale", ["laptop", "paper"])
@pytest.mark.parametrize("student", ["6l", "4l", "3l", "2l"])
def test_every_student_has_a_shape_at_both_scales(student: str, scale: str) -> None:
    size = parts.student_size(composed("stage=ranker_distill", f"student={student}", f"scale={scale}").student)
    assert size.layers == int(student[0])
    assert size.hidden_size % size.heads == 0


def test_the_same_experiment_is_small_on_a_laptop_and_large_on_paper() -> None:
    laptop, paper = (composed("+experiment=ranker_distill_6l", f"scale={scale}") for scale in ("laptop", "paper"))
    assert (laptop.student.hidden_size, laptop.data.name, laptop.trainer.accelerator) == (192, "almanac", "cpu")
    assert (paper.student.hidden_size, paper.data.name, paper.trainer.accelerator) == (768, "msmarco_passage", "gpu")


def test_the_command_line_beats_the_experiment_and_the_experiment_beats_the_scale() -> None:
    cfg = composed("+experiment=smoke", "student=4l", "data=files", "data.root=x", "stage.lr=0.5", "data.depth=3")
    assert (cfg.student.name, cfg.data.name, cfg.stage.lr, cfg.data.depth) == ("4l", "files", 0.5, 3)
    assert cfg.steps.ranker_distill == 9  # the experiment's, not the scale's
    assert cfg.data.query_tokens == 24  # the scale's, for any collection


@pytest.mark.parametrize("path", sorted((CONF / "experiment").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_experiment_opens_with_its_five_line_header(path: Path) -> None:
    lines = path.read_text().splitlines()
    assert lines[0] == "# @package _global_"
    starts = [line.partition(":")[0] for line in lines[1:6]]
    assert starts == ["# Claim", "# Row", "# Command", "# Expected", "# Cost"]


def test_a_size_that_cannot_take_the_attention_loss_drops_it_and_names_it() -> None:
    cfg = composed("+experiment=ranker_distill_6l", "student=2l", "scale=paper")
    assert "attention" in cfg.stage.losses
    assert "attention" not in parts.kept_losses(cfg)
