"""Numbers, choices and names out of range, each with its key, its value and what is expected."""

import pytest
from support import composed

from rankdistil.config.checks import check, check_start

SMOKE = "+experiment=smoke"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("seed=99999999999", "seed is 99999999999; expected a whole number of at least 0 and at most 4294967295."),
        ("teacher.seed=true", "teacher.seed is True; expected a whole number of at least 0 and at most 4294967295."),
        ("stage.patience=0", "stage.patience is 0; expected a whole number of at least 1."),
        ("stage.averaging=1", "stage.averaging is 1; expected a decay in [0, 1), or null for no average of the weights."),
        ("stage.averaging=nan", "stage.averaging is nan; expected a decay in [0, 1), or null for no average of the weights."),
        ("resume=1", "resume is 1; expected true or false."),
        *(
            (
                f"checkpoint_every={value}",
                f"checkpoint_every is {told}; expected a number of steps of at least 1 (500), or of minutes (30min), or null.",
            )
            for value, told in (("0", "0"), ("true", "True"), ("0min", "'0min'"), ("30s", "'30s'"), ("1.5", "1.5"))
        ),
        ("+trainer.accumulate_grad_batches=0", "trainer.accumulate_grad_batches is 0; expected a whole number of at least 1."),
        ("+trainer.num_nodes=x", "trainer.num_nodes is 'x'; expected a whole number of at least 1."),
        (
            "trainer.precision=abc",
            "trainer.precision is 'abc'; expected one of auto, 32-true, bf16-mixed, bf16-true, 64-true.",
        ),
        ("trainer.accelerator=abc", "trainer.accelerator is 'abc'; expected one of auto, cpu, gpu, cuda, mps."),
        ("+trainer.deterministic=3", "trainer.deterministic is 3; expected one of true, false, warn."),
        ("+trainer.benchmark=x", "trainer.benchmark is 'x'; expected one of true, false, null."),
        ("+trainer.detect_anomaly=x", "trainer.detect_anomaly is 'x'; expected true or false."),
        (
            "trainer.devices=1.5",
            "trainer.devices is 1.5; expected a number of them, -1 or auto for all, or a list of places.",
        ),
        ("stage.losses.logits.loss.temperature=abc", "stage.losses.logits.loss.temperature is 'abc'; expected a number."),
        ("stage.losses.logits.loss.temperature=nan", "stage.losses.logits.loss.temperature is nan; expected a number."),
        ("stage.losses.logits.loss.temperature=true", "stage.losses.logits.loss.temperature is True; expected a number."),
        ("recipe.relative=maybe", "stage.losses.embedding.loss.relative is 'maybe'; expected true or false."),
        ("stage.losses.logits.loss.over=5", "stage.losses.logits.loss.over is 5; expected a text."),
        (
            "+stage.losses.first={weight: 1, loss: {_target_: rankdistil.losses.FirstTokenLoss, k: 1}}",
            "there is no setting 'stage.losses.first.loss.k'.",
        ),
        ("data.holdout=x", "data.holdout is 'x'; expected a whole number of at least 0."),
        (
            "data.test_relevance_level=x",
            "data.test_relevance_level is 'x'; expected a whole number of at least 1, or a list of them.",
        ),
        ("data.store=5", "data.store is 5; expected the name of a file or folder, or null."),
    ],
)
@pytest.mark.fault("A4")
def test_a_number_or_a_choice_out_of_range_names_key_value_and_range(override: str, message: str) -> None:
    with pytest.raises(ValueError) as caught:
        check(composed(SMOKE, override))
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("folder=../../x", "folder is '../../x'; expected a folder below the one of paths: each part of it a name of 1 to 64 "),
        ("folder=/x", "folder is '/x'; expected a folder below"),
        ("folder=null", "folder is None; expected a folder below"),
        ("folder=''", "folder is ''; expected a folder below"),
        (f"folder={'x' * 300}", "x'; expected a folder below"),
        ("paths.runs=null", "paths.runs is None; expected the name of a folder."),
        ("paths.runs=''", "paths.runs is ''; expected the name of a folder."),
    ],
)
@pytest.mark.fault("G7")
def test_a_run_lies_below_the_folder_of_runs(override: str, message: str) -> None:
    with pytest.raises(ValueError) as caught:
        check_start(composed(SMOKE, override))
    assert message in str(caught.value)
