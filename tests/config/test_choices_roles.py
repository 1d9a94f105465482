"""What a stage asks of its teacher, and how the teacher is called."""

from pathlib import Path

import pytest
from support import MINILM, composed

from rankdistil.config.choices import asks_assistant, assistant_name, learnt_from, place_name, teacher_name


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / "runs/teacher/minilm/seed0"
    (folder / "export").mkdir(parents=True)
    (folder / "run.json").write_text("{}")
    return folder


def test_a_run_and_what_is_in_it_are_called_by_method_size_and_run_name(run: Path) -> None:
    assert place_name(str(run)) == place_name(str(run / "export")) == "teacher/minilm/seed0"


def test_another_folder_is_called_by_its_name_from_wherever_it_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "rankers/mine").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "rankers/mine")
    assert place_name(str(tmp_path / "rankers/mine")) == place_name(".") == place_name("../mine/") == "mine"


@pytest.mark.parametrize("path", ["cross-encoder/ms-marco-MiniLM-L6-v2", MINILM])
def test_what_means_the_same_everywhere_keeps_its_name(path: str) -> None:
    assert place_name(path) == path


def test_a_teacher_that_is_named_outright_is_called_by_its_folder_and_the_run_by_its_checkpoint(run: Path) -> None:
    mine = run.parents[3] / "mine"
    mine.mkdir()
    assert teacher_name(composed("+experiment=smoke", f"teacher.export={mine}")) == "mine"
    assert teacher_name(composed("+experiment=smoke", f"teacher.export={run}/export")) == "teacher/minilm/seed0"
    assert teacher_name(composed("+experiment=smoke")) == "minilm"
    assert teacher_name(composed("+experiment=finetune_6l", f"teacher.export={mine}")) == "minilm"  # it has no teacher


def test_an_assistant_is_named_by_its_experiment_and_its_size_where_that_is_said() -> None:
    words = ["+experiment=assistant_2l"]
    assert assistant_name(composed(*words)) == "ranker_distill_6l 4l"
    assert assistant_name(composed(*words, "teacher.assistant_size=null")) == "ranker_distill_6l"


def test_a_stage_without_a_student_or_a_ranker_has_no_assistant() -> None:
    named = ["teacher.assistant=ranker_distill_6l"]
    asked = {
        stage: asks_assistant(composed(f"stage={stage}", *named))
        for stage in ("teacher", "finetune", "lm_distill", "score_teacher")
    }
    assert not any(asked.values())
    assert asks_assistant(composed("stage=logit_distill", *named))
    assert not asks_assistant(composed("stage=logit_distill"))


def test_what_a_run_learnt_from_are_the_runs_of_its_teacher_its_start_and_its_scores() -> None:
    parents = {role: {"source": f"runs/{role}/export"} for role in ("teacher", "student")} | {"negatives": {"source": "n"}}
    cfg = composed("stage=logit_distill", "teacher.scores=[a/scores,b/scores]")
    assert learnt_from(cfg, parents) == [Path("runs/teacher"), Path("runs/student"), Path("a"), Path("b")]
    assert learnt_from(composed("+experiment=teacher"), {}) == []
