"""What models=... names, over run folders that hold no more than their records."""

import json
from pathlib import Path

import pytest
from omegaconf import OmegaConf
from support import uneven_ranker

from rankdistil.data.windows import Windows
from rankdistil.files import locked
from rankdistil.inference.export_files import write_export
from rankdistil.runs.entries import Entry, find_entries, in_windows, told_windows, windows_of


@pytest.fixture
def make(tmp_path: Path):
    """Write a run folder and return it."""

    def write(method: str, student: str, name: str, **record: object) -> Path:
        folder = tmp_path / "runs" / method / student / name
        (folder / ".hydra").mkdir(parents=True)
        held = {
            "teacher": {"name": student},
            "student": {"name": student},
            "data": {"max_length": 64},
            "stage": {"learns": "x"},
        }
        OmegaConf.save(OmegaConf.create({"method": method, "run_name": name, **held}), folder / ".hydra" / "config.yaml")
        seed = int(name.removeprefix("seed")) if name.startswith("seed") else 0
        settings = {"seed": seed, "stage.lr": 0.1} | record.pop("settings", {})
        defaults = {"status": "finished", "stage": "ranker_distill", "ranks": True, "settings": settings, "parents": {}}
        (folder / "run.json").write_text(json.dumps(defaults | record))
        return folder

    return write


def test_runs_that_differ_by_seed_only_share_a_row(make, tmp_path):
    make("distill", "6l", "seed0"), make("distill", "6l", "seed1"), make("distill", "4l", "seed0")
    entries, notes = find_entries([f"{tmp_path}/runs/*/*/*"])
    assert [entry.row for entry in entries] == ["distill 4l", "distill 6l", "distill 6l"]
    assert notes == []


def test_a_run_with_other_settings_gets_a_row_of_its_own_and_is_named(make, tmp_path):
    first, other = make("distill", "6l", "seed0"), make("distill", "6l", "seed1", settings={"stage.lr": 0.2})
    entries, notes = find_entries([f"{tmp_path}/runs/*/*/*"])
    assert [entry.row for entry in entries] == ["distill 6l", "distill 6l seed1"]
    assert notes == [f"{other}: a row of its own, with other settings than {first}: stage.lr: 0.1 -> 0.2"]


def started_from(parent: Path, fingerprint: str, role: str = "student") -> dict[str, object]:
    """What a run's record says of the run that its student starts from, or of that of its assistant."""
    return {
        "settings": {f"parents.{role}": fingerprint},
        "parents": {role: {"source": f"{parent}/export", "fingerprint": fingerprint}},
    }


@pytest.mark.parametrize("role", ["student", "assistant"])
def test_seeds_whose_starts_or_assistants_differ_by_seed_only_share_a_row(make, tmp_path, role):
    for seed in ("seed0", "seed1"):
        parent = make("lm_distill", "6l", seed, ranks=False, stage="lm_distill")
        make("lm_finetune", "6l", seed, **started_from(parent, f"f{seed}", role))
    entries, notes = find_entries([f"{tmp_path}/runs/lm_finetune/*/*"])
    assert ([entry.row for entry in entries], notes) == (["lm_finetune 6l"] * 2, [])


@pytest.mark.parametrize(("role", "named"), [("student", "start"), ("assistant", "assistant")])
def test_a_start_or_an_assistant_made_with_other_settings_gets_its_run_a_row_of_its_own(make, tmp_path, role, named):
    folders = []
    for seed, steps in (("seed0", 200), ("seed1", 800)):
        parent = make("lm_distill", "6l", seed, ranks=False, stage="lm_distill", settings={"stage.steps": steps})
        folders.append(make("lm_finetune", "6l", seed, **started_from(parent, f"f{seed}", role)))
    entries, notes = find_entries([f"{tmp_path}/runs/lm_finetune/*/*"])
    assert [entry.row for entry in entries] == ["lm_finetune 6l", "lm_finetune 6l seed1"]
    assert notes == [f"{folders[1]}: a row of its own, with other settings than {folders[0]}: {named}.stage.steps: 200 -> 800"]


def test_another_teacher_is_no_seed(make, tmp_path):
    for seed, teacher in (("seed0", "a"), ("seed1", "b")):
        parents = {"teacher": {"source": "x/export", "fingerprint": teacher}}
        make("distill", "6l", seed, settings={"parents.teacher": teacher}, parents=parents)
    entries, notes = find_entries([f"{tmp_path}/runs/*/*/*"])
    assert [entry.row for entry in entries] == ["distill 6l", "distill 6l seed1"]
    assert "parents.teacher: a -> b" in notes[0]


def test_a_start_that_is_no_longer_there_counts_by_its_fingerprint(make, tmp_path):
    for seed in ("seed0", "seed1"):
        make("lm_finetune", "6l", seed, **started_from(tmp_path / "gone", f"f{seed}"))
    entries, notes = find_entries([f"{tmp_path}/runs/*/*/*"])
    assert [entry.row for entry in entries] == ["lm_finetune 6l", "lm_finetune 6l seed1"]
    assert "parents.student: fseed0 -> fseed1" in notes[0]


def test_a_run_name_that_is_no_seed_is_part_of_its_row_and_never_its_size(make, tmp_path):
    make("distill", "6l", "4l")
    (entry,) = find_entries([f"{tmp_path}/runs/*/*/*"])[0]
    assert (entry.row, entry.size) == ("distill 6l 4l", "6l")


def test_teachers_come_first(make, tmp_path):
    make("distill", "6l", "seed0"), make("teacher", "minilm", "seed0", stage="teacher")
    assert [entry.row for entry in find_entries([f"{tmp_path}/runs/*/*/*"])[0]] == ["teacher minilm", "distill 6l"]


def test_a_glob_leaves_out_what_can_t_rank_and_says_so(make, tmp_path):
    make("distill", "6l", "seed0")
    language_model = make("lm_distill", "6l", "seed0", ranks=False, stage="lm_distill")
    stopped = make("distill", "4l", "seed0", status="stopped")
    (tmp_path / "runs/a/b/c").mkdir(parents=True)
    entries, notes = find_entries([f"{tmp_path}/runs/*/*/*"])
    assert [entry.row for entry in entries] == ["distill 6l"]
    assert notes == [
        f"left out: {tmp_path}/runs/a/b/c is neither a run (run.json) nor an export (config.json).",
        f"left out: {stopped} is not finished (stopped). Run its command again, with resume=true if it left a checkpoint.",
        f"left out: {language_model} is a language model (stage lm_distill) and can't rank yet. "
        "Name a run that starts from it: finetune or ranker_distill.",
    ]


@pytest.mark.fault("F7")
def test_runs_that_are_only_prepared_or_under_way_are_left_out_of_a_glob_and_refused_by_name(make, tmp_path):
    make("distill", "6l", "seed0")
    prepared = make("distill", "4l", "seed0")
    for status in ("prepared", "running"):  # the first of which a job writes before it knows its stage
        (prepared / "run.json").write_text(json.dumps({"status": status, "settings": {}, "parents": {}}))
        with locked(prepared, wait=False):
            entries, notes = find_entries([f"{tmp_path}/runs/*/*/*"])
        assert [entry.row for entry in entries] == ["distill 6l"]
        assert notes == [f"left out: {prepared} is not finished ({status}). It is under way."]
        with pytest.raises(ValueError, match=r"is not finished \(stopped\)\. Run its command again"):
            find_entries([str(prepared)])


def test_a_run_whose_export_was_changed_is_not_left_out_of_a_glob_but_refused(make, tmp_path):
    make("distill", "6l", "seed0")
    changed = make("distill", "4l", "seed0", export={"model.safetensors": "0" * 16})
    (changed / "export").mkdir()
    (changed / "export/model.safetensors").write_bytes(b"other")
    with pytest.raises(ValueError, match=rf"^{changed}/export/model\.safetensors was changed \(sha256 "):
        find_entries([f"{tmp_path}/runs/*/*/*"])


def test_a_damaged_record_is_left_out_of_a_glob_and_named(make, tmp_path):
    make("distill", "6l", "seed0")
    (make("distill", "4l", "seed0") / "run.json").write_text('{"status": "fin')
    entries, notes = find_entries([f"{tmp_path}/runs/*/*/*"])
    assert [entry.row for entry in entries] == ["distill 6l"]
    assert "distill/4l/seed0/run.json is damaged" in notes[0]


def test_a_run_name_that_is_a_number_is_part_of_its_row(make):
    folder = make("distill", "6l", "7")
    config = (folder / ".hydra" / "config.yaml").read_text()
    (folder / ".hydra" / "config.yaml").write_text(config.replace("'7'", "7"))
    assert find_entries([str(folder)])[0][0].row == "distill 6l 7"


def test_a_folder_that_exists_is_itself_inside_of_a_glob_too(make):
    folder, other = make("br[1]", "2l", "seed0"), make("br1", "2l", "seed0")
    assert [entry.run for entry in find_entries([f"{folder.parents[1]}/*/seed0"])[0]] == [folder]
    assert [entry.run for entry in find_entries([f"{other.parents[2]}/br[0-9]/2l/*"])[0]] == [other]


@pytest.mark.fault("H4")
def test_a_language_model_named_outright_is_an_error(make):
    folder = make("lm_distill", "6l", "seed0", ranks=False, stage="lm_distill")
    with pytest.raises(ValueError, match=r"is a language model \(stage lm_distill\) and can't rank yet"):
        find_entries([str(folder)])


def test_a_teacher_s_scores_are_called_what_they_are(make, tmp_path):
    make("distill", "6l", "seed0")
    scores = make("score_teacher", "minilm", "seed0", ranks=False, stage="scoring", settings={"stage.learns": "nothing"})
    entries, notes = find_entries([f"{tmp_path}/runs/*/*/*"])
    assert [entry.row for entry in entries] == ["distill 6l"]
    message = f"{scores} holds a teacher's scores (stage scoring), not a ranker. Name the students that learnt from them."
    assert notes == [f"left out: {message}"]
    with pytest.raises(ValueError) as caught:
        find_entries([str(scores)])
    assert str(caught.value) == message
    mined = make("mine", "x", "seed0", ranks=False, stage="mining", settings={"stage.learns": "nothing", "stage.depth": 9})
    with pytest.raises(ValueError, match=r" holds mined negatives \(stage mining\), not a ranker\. "):
        find_entries([str(mined)])


def test_a_glob_that_finds_only_language_models_names_them(make, tmp_path):
    make("lm_distill", "6l", "seed0", ranks=False, stage="lm_distill")
    with pytest.raises(ValueError, match=r"models names nothing that ranks:\n  left out: .*lm_distill/6l/seed0"):
        find_entries([f"{tmp_path}/runs/*/*/*"])


def test_a_glob_without_matches_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError) as caught:
        find_entries([f"{tmp_path}/none/*"])
    assert str(caught.value) == f"models={tmp_path}/none/* matches nothing. Name run folders or export folders."


def test_a_path_that_exists_is_itself_with_the_signs_of_a_glob_in_it(make):
    folder, other = make("br[1]", "2l", "seed0"), make("br1", "2l", "seed0")
    assert [entry.run for entry in find_entries([str(folder)])[0]] == [folder]
    assert [entry.run for entry in find_entries([f"{folder.parents[2]}/*/2l/seed0"])[0]] == [other, folder]


def test_a_run_and_its_own_export_are_one_thing_named_twice(make):
    folder = make("distill", "6l", "seed0")
    (folder / "export").mkdir()
    with pytest.raises(ValueError) as caught:
        find_entries([str(folder), f"{folder}/export"])
    assert str(caught.value) == (
        f"models names distill_6l_seed0 twice: {folder} and {folder}/export. Their results would share a folder. "
        "Name one of them."
    )


def test_files_are_rankings_and_everything_else_is_an_export_or_a_hub_id(tmp_path):
    ranking = tmp_path / "run.splade.txt"
    ranking.write_text("q1 Q0 p1 1 2.0 splade\n")
    entries, _ = find_entries([str(ranking), "cross-encoder/ms-marco-MiniLM-L6-v2"])
    assert [(entry.kind, entry.row) for entry in entries] == [
        ("ranking", "run.splade.txt"),
        ("export", "cross-encoder_ms-marco-MiniLM-L6-v2"),
    ]


def test_a_ranker_is_tested_in_its_own_windows_unless_others_are_asked_for(make, tmp_path):
    wide, lean = {"stride": 64, "most": 16, "size": 100, "aggregate": "mean", "top": 3}, {"stride": 32, "most": 4}
    write_export(tmp_path / "wide", *uneven_ranker(1), 64, windows=Windows.of(wide))
    write_export(tmp_path / "plain", *uneven_ranker(1), 64)
    run = make("distill", "6l", "seed0")
    cfg = OmegaConf.load(run / ".hydra" / "config.yaml")
    OmegaConf.save(OmegaConf.merge(cfg, {"data": {"windows": lean}}), run / ".hydra" / "config.yaml")
    (run / "test.run").write_text("1 Q0 a 1 1.0 x\n")
    entries, _ = find_entries([str(run), str(tmp_path / "wide"), str(tmp_path / "plain")])
    entries.append(Entry(str(run / "test.run"), "ranking", "test.run", "test.run"))
    assert [windows_of(one, None, {}) for one in entries] == [lean, wide, None, None]
    assert [windows_of(one, None, {"windows": None}) for one in entries] == [None] * 4
    *rows, ranking = in_windows([entries[0], entries[3]], {"other": wide, "cut": None})
    assert ([one.row for one in rows], ranking) == (["distill 6l other", "distill 6l cut"], entries[3])
    assert [windows_of(one, {"other": wide, "cut": None}, {"windows": lean}) for one in rows] == [wide, None]
    assert told_windows(entries[2:], {entries[2].label: None}) == []
    names = [one.label for one in entries[:3]]
    assert told_windows(entries, dict(zip(names, (lean, wide, None), strict=True))) == [
        "distill 6l: a longer document is read in windows of as many tokens as the query leaves, one every 32, 4 at most "
        "(MaxP).",
        f"{entries[1].row}: a longer document is read in windows of 100 tokens, one every 64, 16 at most (the mean of the 3 "
        "highest scores).",
        f"{entries[2].row}: a longer document is cut.",
    ]
    assert told_windows(entries[:1], {names[0]: None}) == [
        "distill 6l: a longer document is cut, not read in windows of as many tokens as the query leaves, one every 32, 4 at "
        "most (MaxP), as in its training."
    ]
