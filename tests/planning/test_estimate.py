"""How long a plan takes: operations counted by hand, and the pace of finished runs."""

import json
from io import StringIO
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf
from rich.console import Console
from support import composed

from rankdistil.planning import estimate, plan
from rankdistil.runs.record import State, device

TEACHER = 6, 384, 1536
STUDENT = 2, 96, 384  # student=2l at scale=smoke


def counted(shape: tuple[int, int, int], fill: float = estimate.FILL) -> float:
    return estimate.forward_flops(*shape, 155 * fill)


def test_a_forward_pass_is_counted_by_hand() -> None:
    one_layer = 2 * 5 * (4 * 2 * 2 + 2 * 2 * 3) + 4 * 5 * 5 * 2  # four projections and two feed-forward layers; attention
    assert estimate.forward_flops(1, 2, 3, 5) == one_layer + 2 * 2 * 2
    assert estimate.forward_flops(12, 768, 3072, 80.8) == pytest.approx(14.0e9, rel=0.01)


def test_fine_tuning_is_three_passes_a_pair_and_its_validations_test_and_timing_are_one() -> None:
    cfg = composed("+experiment=finetune_6l", "scale=smoke", "student=2l")
    student = counted(STUDENT)
    training, validations, test, timing = 6 * 4 * 3, 3 * 7 * 4, 10 * 10, (10 + 20) * 3
    assert estimate.run_flops(cfg, 10) == pytest.approx((training + validations + test + timing) * student)


def test_a_live_teacher_adds_a_pass_in_training_and_timing_and_one_validation() -> None:
    student, teacher = (counted(shape) for shape in (STUDENT, TEACHER))
    both = (9 * 4 * 3 + 3 * 28 + 100 + 90) * student + (9 * 4 + 28 + 90) * teacher
    assert estimate.run_flops(composed("+experiment=smoke"), 10) == pytest.approx(both)


def test_an_assistant_stands_for_the_teacher_but_in_timing(tmp_path: Path) -> None:
    student, assistant, teacher = (counted(shape) for shape in (STUDENT, (4, *STUDENT[1:]), TEACHER))
    scale = "scale=smoke"
    cfg = composed("+experiment=assistant_2l", scale, f"paths.runs={tmp_path}")
    step = plan.make_plan(cfg, lambda parent: composed(scale, *parent))[-1]
    both = (9 * 4 * 3 + 3 * 28 + 100 + 90) * student + (9 * 4 + 28) * assistant + 90 * teacher
    assert estimate.run_flops(step.cfg, 10, step.assistant) == pytest.approx(both)


def test_a_language_model_reads_passages_and_has_no_test() -> None:
    student, teacher = (counted(shape, estimate.FILL_ALONE) for shape in (STUDENT, TEACHER))
    cfg = composed("+experiment=lm_distill_6l", "scale=smoke", "student=2l")
    assert estimate.run_flops(cfg, None) == pytest.approx((6 * 4 * 3 + 3 * 4) * student + (6 * 4 + 3 * 4) * teacher)


def test_what_this_machine_cannot_know_has_no_count() -> None:
    assert estimate.run_flops(composed("+experiment=smoke"), None) is None
    paper = composed("+experiment=lm_distill_6l", "scale=paper", "teacher.path=nobody/anywhere", "trainer=cpu")
    assert estimate.run_flops(paper, 10) is None  # the shape of a teacher that is on the hub only


def test_test_queries_of_all_splits_are_counted() -> None:
    splits = ["data.test=[rankdistil/almanac/test,rankdistil/almanac/valid]"]
    assert estimate.tested_queries(composed("+experiment=teacher", *splits)) == 192 + 216
    assert estimate.tested_queries(composed("+experiment=teacher", *splits, "data.test_queries=200")) == 192 + 200
    files = ["data=files", "data.root=nowhere", "data.test=null"]
    assert estimate.tested_queries(composed("+experiment=teacher", *files)) == 100  # held out


@pytest.fixture
def step(tmp_path: Path) -> plan.Step:
    cfg = composed("+experiment=finetune_6l", "scale=smoke", "student=2l", f"paths.runs={tmp_path}")
    (found,) = plan.make_plan(cfg, lambda parent: composed(*parent))
    return found


def finished(step: plan.Step, name: str, **record: object) -> None:
    folder = step.folder.parent / name
    (folder / ".hydra").mkdir(parents=True)
    OmegaConf.save(step.cfg, folder / ".hydra/config.yaml")
    settings = step.settings | {"seed": 9, "stage.steps": 60, "stage.lr": 0.5} | record.pop("settings", {})
    here = {"device": device(), "threads": torch.get_num_threads()}
    own = {"status": "finished", "finished": name, "settings": settings, "origin": here, "train_s": 30.0, "wall_s": 50.0}
    own["tests"] = step.tests
    (folder / "run.json").write_text(json.dumps(own | record))


def test_a_finished_run_of_the_same_kind_gives_the_pace_of_its_steps_and_the_time_of_its_test(step: plan.Step) -> None:
    finished(step, "a")
    assert estimate.seconds(step) == 6 * 30 / 60 + 20
    finished(step, "b", train_s=60.0, wall_s=70.0)  # the last one counts
    assert estimate.seconds(step) == 6 * 60 / 60 + 10


@pytest.mark.parametrize(
    "other",
    [
        {"settings": {"data.batch_size": 3}}, {"settings": {"student.layers": 4}}, {"status": "failed"},
        {"origin": {"device": "another", "threads": 1}}, {"tests": []},
    ],
)  # fmt: skip
def test_a_run_of_another_kind_says_nothing_about_the_pace(step: plan.Step, other: dict[str, object]) -> None:
    finished(step, "a", **other)
    assert estimate.finished_pace(step) is None


def test_without_one_the_operations_are_divided_by_what_the_machine_does(
    step: plan.Step, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(estimate, "thread_rate", lambda: 1e9)
    rate = 1e9 * torch.get_num_threads() * estimate.EFFICIENCY
    assert estimate.seconds(step) == pytest.approx(estimate.run_flops(step.cfg, 10) / rate)


def test_a_test_that_is_made_again_takes_as_long_as_all_that_came_after_training(step: plan.Step) -> None:
    finished(step, step.folder.name)
    assert estimate.seconds(step._replace(state=State("to test", ""))) == 20


def test_a_gpu_without_a_finished_run_and_a_teacher_s_scores_have_no_time(tmp_path: Path) -> None:
    for words in (["+experiment=finetune_6l", "trainer=gpu"], ["+experiment=score_teacher", "teacher.export=a/b"]):
        (step,) = plan.make_plan(composed(*words, f"paths.runs={tmp_path}"), lambda parent: composed(*parent))
        assert estimate.seconds(step) is None


def test_the_rate_of_a_thread_is_measured_in_a_moment_and_leaves_the_threads_as_they_were() -> None:
    threads = torch.get_num_threads()
    assert estimate.thread_rate() > 1e8
    assert torch.get_num_threads() == threads


@pytest.mark.parametrize(
    ("time_s", "text"),
    [(None, "-"), (59.0, "under 1 min"), (60.0, "about 1 min"), (5300.0, "about 88 min"), (9000.0, "about 2 h"),
     (172_000.0, "about 48 h"), (864_000.0, "about 10 days")],
)  # fmt: skip
def test_a_time_is_told_in_the_unit_that_fits_it(time_s: float | None, text: str) -> None:
    assert estimate.told(time_s) == text


def test_the_plan_tells_the_time_of_each_run_that_is_left_and_of_all(step: plan.Step, monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([240.0, None, 3600.0])
    monkeypatch.setattr(estimate, "seconds", lambda _: next(times))
    steps = [step._replace(state=State(name, "")) for name in ("finished", "to resume", "to run", "to run")]
    texts, line = estimate.expected(steps)
    assert texts == ["", "at most 4 min", "-", "about 60 min"]
    assert line == "expected: about 64 min in all, without 1 runs whose time is not known here."
    out = StringIO()
    plan.show(steps, Console(file=out, width=200), texts)
    assert [row.split("│")[-2].strip() for row in out.getvalue().splitlines() if row.startswith("│")] == texts
    assert estimate.expected(steps[:1]) == ([""], "nothing is left to run.")
