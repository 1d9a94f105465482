"""Callbacks hear step outputs and write files; here the trainer around them is a stand-in with exactly what they use."""

import json
import math
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from rankdistil.callbacks import progress
from rankdistil.callbacks.checkpoints import AtomicCheckpointIO
from rankdistil.callbacks.measurements import RankingMetrics
from rankdistil.callbacks.progress import ProgressReport
from rankdistil.callbacks.steps import StreamPosition
from rankdistil.data.batches.datamodule import RerankingTask
from rankdistil.data.records import Candidate, PairBatch, Ranking, ScoredPairs
from rankdistil.data.windows import Windows
from rankdistil.metrics.ranking import read_run, tied_queries
from rankdistil.models.bert import CrossEncoder

TASK = RerankingTask(
    name="toy",
    candidates={"q1": [Candidate("a", 2.0), Candidate("b", 1.0)], "q2": [Candidate("c", 1.0)], "q3": []},
    qrels={"q1": {"b": 1}, "q2": {"c": 1}, "q3": {"d": 1}},
    first_stage="toy.run",
)


def trainer(task: RerankingTask = TASK) -> SimpleNamespace:
    data = SimpleNamespace(task=lambda split: task, trained_batches=0)
    return SimpleNamespace(
        datamodule=data, world_size=1, global_rank=0, is_global_zero=True, sanity_checking=False, global_step=7
    )


def measured(
    folder: Path, *batches: ScoredPairs, task: RerankingTask = TASK, windows: Windows | None = None
) -> dict:  # fmt: skip
    callback, around = RankingMetrics(folder, 1, "toy", windows=windows), trainer(task)
    callback.on_test_start(around, None)
    for batch in batches:
        callback.on_test_batch_end(around, None, batch, None, 0)
    callback.on_test_epoch_end(around, None)
    return json.loads((folder / "metrics.json").read_text())


def scored(*rows: tuple[str, str, float]) -> ScoredPairs:
    queries, passages, scores = zip(*rows, strict=True)
    return ScoredPairs(queries, passages, torch.tensor(scores))


def test_metrics_are_those_of_the_new_order_beside_those_of_the_first_stage(tmp_path: Path) -> None:
    told = measured(tmp_path, scored(("q1", "a", 0.0), ("q1", "b", 5.0)), scored(("q2", "c", -1.0)))
    assert told["measures"]["RR@10"] == pytest.approx((1 + 1 + 0) / 3)
    assert told["first_stage"]["RR@10"] == pytest.approx((1 / 2 + 1 + 0) / 3)
    assert told["first_stage_name"] == "toy.run"
    assert (told["queries"], told["pairs"], told["queries_without_candidates"]) == (3, 3, 1)


@pytest.mark.parametrize(
    ("settings", "expected"), [({}, {"a": 3.0, "b": 2.5, "c": -1.0}), ({"aggregate": "mean"}, {"a": 1.0, "b": 2.0, "c": -1.0})]
)
def test_windows_of_a_document_are_united_wherever_they_were_scored_and_duplicates_count_once(
    tmp_path: Path, settings: dict, expected: dict
) -> None:
    rows = [("q1", "a", 0, 3.0), ("q1", "b", 1, 1.5), ("q1", "a", 1, -1.0), ("q2", "c", 0, -1.0), ("q1", "b", 0, 2.5)]
    batches = []
    for some in (rows[:2], rows[2:], rows[:1]):
        queries, passages, numbers, scores = zip(*some, strict=True)
        batches.append(ScoredPairs(queries, passages, torch.tensor(scores), windows=numbers))
    told = measured(tmp_path, *batches, windows=Windows(4, 9, **settings))
    found = read_run(tmp_path / "test.run")
    assert {hit.passage_id: hit.score for row in found.values() for hit in row} == expected
    assert told["pairs"] == 3


def test_the_run_file_and_the_lines_per_query_are_complete(tmp_path: Path) -> None:
    measured(tmp_path, scored(("q1", "a", 0.0), ("q1", "b", 5.0), ("q2", "c", -1.0)))
    assert (tmp_path / "test.run").read_text() == "q1 Q0 b 1 5.0 toy\nq1 Q0 a 2 0.0 toy\nq2 Q0 c 1 -1.0 toy\n"
    rows = [json.loads(line) for line in (tmp_path / "per_query.jsonl").read_text().splitlines()]
    assert [row["query_id"] for row in rows] == ["q1", "q2", "q3"]
    assert rows[2]["measures"]["nDCG@10"] == 0.0


def test_each_query_has_its_topic_where_topics_are_known_and_what_a_random_order_would_give(tmp_path: Path) -> None:
    pairs = scored(("q1", "a", 0.0), ("q1", "b", 5.0), ("q2", "c", -1.0))
    for topics in (None, {"q1": "bees", "q2": "bees", "q3": "tides"}):
        measured(tmp_path, pairs, task=replace(TASK, topics=topics))
        rows = [json.loads(line) for line in (tmp_path / "per_query.jsonl").read_text().splitlines()]
        assert {row["query_id"]: row["topic"] for row in rows if "topic" in row} == (topics or {})
    expected = [(1 + 1 / math.log2(3)) / 2, 1.0, 0.0]  # one relevant of two, first or second; one of one; none
    assert [row["random_order"]["nDCG@10"] for row in rows] == pytest.approx(expected)


@pytest.mark.fault("F2")
def test_a_ranker_whose_head_has_no_weight_ties_every_query(
    tmp_path: Path, tiny_ranker: CrossEncoder, batch: PairBatch
) -> None:
    torch.nn.init.zeros_(tiny_ranker.bert.classifier.weight)
    with torch.no_grad():
        scores = tiny_ranker.bert(batch.input_ids, batch.attention_mask, batch.token_type_ids).logits[:, 0]
    told = measured(tmp_path, ScoredPairs(("q1", "q1", "q2", "q2"), ("a", "b", "c", "d"), scores))
    assert (told["tied_queries"], told["queries_with_choice"]) == (2, 2)
    read = {query: {hit.passage_id: hit.score for hit in row} for query, row in read_run(tmp_path / "test.run").items()}
    assert tied_queries(read) == 2


@pytest.mark.fault("F6")
def test_batches_pairs_seen_twice_and_their_order_change_nothing(tmp_path: Path) -> None:
    rows = [("q1", "a", 0.5), ("q1", "b", 0.25), ("q2", "c", 1.0)]
    (tmp_path / "x").mkdir()
    (tmp_path / "y").mkdir()
    once = measured(tmp_path / "x", scored(*rows))
    again = measured(tmp_path / "y", scored(rows[2]), scored(rows[1], rows[0]), scored(rows[1]))
    assert once == again
    assert (tmp_path / "x/test.run").read_text() == (tmp_path / "y/test.run").read_text()


@pytest.mark.fault("F4")
def test_a_score_that_is_no_number_is_refused_by_query_and_passage_and_nothing_is_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^query q1, passage a: the score is nan"):
        measured(tmp_path, scored(("q1", "a", float("nan"))))
    assert not any(tmp_path.iterdir())


def test_validation_logs_the_means_and_forgets_the_previous_round(tmp_path: Path) -> None:
    callback, around, logged = RankingMetrics(tmp_path, 1, "toy"), trainer(), {}
    module = SimpleNamespace(log=lambda name, value, **_: logged.__setitem__(name, value))
    for score in (5.0, -5.0):
        callback.on_validation_start(around, module)
        callback.on_validation_batch_end(around, module, scored(("q1", "a", 0.0), ("q1", "b", score)), None, 0)
        callback.on_validation_epoch_end(around, module)
    assert logged["val/RR@10"] == pytest.approx(1 / 2 / 3)
    measures = {"val/nDCG@10", "val/RR@10", "val/AP", "val/choice"}
    assert logged.keys() == {*measures, "val/tied_queries", "val/first_stage_nDCG@10"}


def test_every_step_has_its_own_randomness_whatever_ran_before() -> None:
    def draws(noise: int) -> list[float]:
        callback, around, found = StreamPosition(seed=3), trainer(), []
        for _ in range(3):
            torch.rand(noise)
            callback.on_train_batch_start(around)
            found.append(float(torch.rand(1)))
            callback.on_train_batch_end(around)
        assert around.datamodule.trained_batches == 3
        return found

    assert draws(0) == draws(5)
    assert len(set(draws(0))) == 3


@pytest.mark.fault("C8")
def test_a_save_that_fails_leaves_the_old_checkpoint_and_no_other_file(tmp_path: Path) -> None:
    io, path = AtomicCheckpointIO(), tmp_path / "last.ckpt"
    io.save_checkpoint({"step": 1}, path)
    with pytest.raises(AttributeError):
        io.save_checkpoint({"step": lambda: 2}, path)  # can't be pickled
    assert [file.name for file in tmp_path.iterdir()] == ["last.ckpt"]
    assert io.load_checkpoint(path) == {"step": 1}


@pytest.mark.fault("C8")
def test_a_checkpoint_is_never_in_the_system_s_temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which may lie on another disk: moving it from there would be copying, and a kill would leave half of it."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))
    monkeypatch.setattr(shutil, "move", lambda *_: pytest.fail("moved"))
    AtomicCheckpointIO().save_checkpoint({"step": 1}, tmp_path / "last.ckpt")
    assert [file.name for file in tmp_path.iterdir()] == ["last.ckpt"]


@pytest.mark.fault("G1")
def test_a_hostile_checkpoint_is_refused_and_not_executed(tmp_path: Path) -> None:
    class Hostile:
        def __reduce__(self) -> tuple:
            return Path.touch, (tmp_path / "executed",)

    torch.save({"state_dict": Hostile()}, tmp_path / "last.ckpt")
    with pytest.raises(Exception, match="Weights only load failed"):
        AtomicCheckpointIO().load_checkpoint(tmp_path / "last.ckpt", weights_only=False)
    assert not (tmp_path / "executed").exists()


def test_progress_without_a_terminal_says_a_last_line_with_rate_and_time_left(capsys: pytest.CaptureFixture) -> None:
    report, around = ProgressReport("teacher toy"), trainer()
    around.max_steps, around.global_step, around.callback_metrics = 2, 0, {"train/loss": torch.tensor(0.5)}
    batch = SimpleNamespace(query_ids=("q",) * 4)
    report.on_train_start(around)
    module = SimpleNamespace(log=lambda *_: None)
    for step in (1, 2):
        around.global_step = step
        report.on_train_batch_end(around, module, None, batch, 0)
    assert "teacher toy: train 2/2, " in (said := capsys.readouterr().err)
    assert "pairs/s, 0:00 left loss 0.5000" in said


def validated(*batches: ScoredPairs, teacher: Ranking | None = None, task: RerankingTask = TASK) -> dict[str, float]:
    """What a round of validation logs."""
    callback, around, logged = RankingMetrics(Path(tempfile.mkdtemp()), 1, "toy", teacher), trainer(task), {}
    module = SimpleNamespace(log=lambda name, value, **_: logged.__setitem__(name, value))
    callback.on_validation_start(around, module)
    for batch in batches:
        callback.on_validation_batch_end(around, module, batch, None, 0)
    callback.on_validation_epoch_end(around, module)
    return logged


@pytest.mark.parametrize(("teacher", "tau", "top1"), [([0.0, 5.0, 2.0], 1, 1), ([5.0, 0.0, 2.0], -1, 0.5)])
def test_validation_beside_a_teacher_logs_how_alike_the_two_rank(teacher: list[float], tau: float, top1: float) -> None:
    rows = scored(("q1", "a", -3.0), ("q1", "b", 4.0), ("q2", "c", 1.0))._replace(teacher_scores=torch.tensor(teacher))
    logged = validated(rows)
    assert logged["val/teacher_tau"] == tau  # q2 has one candidate: no pair, and always the same first
    assert logged["val/teacher_top1"] == top1


def test_agreement_that_no_query_can_have_is_not_logged() -> None:
    rows = scored(("q1", "a", 1.0), ("q2", "c", 1.0))._replace(teacher_scores=torch.zeros(2))
    assert "val/teacher_tau" not in validated(rows)
    assert validated(rows)["val/teacher_top1"] == 1


def test_pairs_per_second_are_those_of_the_step_without_validation(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, logged = iter([0.0, 0.5, 10.0, 12.0]), []  # start; end of a step; validation; end of a step
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    report, around = ProgressReport("toy"), trainer()
    around.max_steps, around.callback_metrics, around.world_size = 99, {}, 1
    module, batch = SimpleNamespace(log=lambda *row: logged.append(row)), SimpleNamespace(query_ids=("q",) * 4)
    report.on_train_start(around)
    report.on_train_batch_end(around, module, None, batch)
    report.on_validation_end(around)
    report.on_train_batch_end(around, module, None, batch)
    assert logged == [("train/pairs_per_second", 8.0), ("train/pairs_per_second", 2.0)]


def test_time_spent_training_counts_all_parts_of_a_resumed_run(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 5.0, 100.0, 103.0])  # start and checkpoint of the first part, start and end of the second
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    around, (first, second) = trainer(), (ProgressReport("toy"), ProgressReport("toy"))
    around.max_steps = 99
    first.on_train_start(around)
    second.load_state_dict(first.state_dict())
    second.on_train_start(around)
    around.should_stop = False
    second.on_train_end(around)
    assert second.seconds == 8.0


def test_what_a_ranker_is_to_reach_is_logged_at_the_first_validation_only(tmp_path: Path) -> None:
    callback, around, logged = RankingMetrics(tmp_path, 1, "toy"), trainer(), []
    module = SimpleNamespace(log=lambda name, value, **_: logged.append((name, value)))
    rows = scored(("q1", "a", 1.0), ("q1", "b", 0.0), ("q2", "c", 1.0))._replace(teacher_scores=torch.tensor([0.0, 1.0, 0.0]))
    for _ in range(2):
        callback.on_validation_start(around, module)
        callback.on_validation_batch_end(around, module, rows, None, 0)
        callback.on_validation_epoch_end(around, module)
    second = 1 / math.log2(3)  # the gain of a relevant passage in second place; q3 has no candidate
    beside = [row for row in logged if row[0] in ("val/first_stage_nDCG@10", "val/teacher_nDCG@10")]
    assert sorted(beside) == [
        ("val/first_stage_nDCG@10", pytest.approx((second + 1) / 3)),
        ("val/teacher_nDCG@10", pytest.approx(2 / 3)),
    ]


def test_a_first_stage_without_an_order_is_nothing_to_be_held_against() -> None:
    unordered = replace(TASK, candidates={"q1": [Candidate("a", 1.0), Candidate("b", 1.0)]})
    assert "val/first_stage_nDCG@10" not in validated(scored(("q1", "a", 1.0), ("q1", "b", 0.0)), task=unordered)


@pytest.mark.parametrize(("other", "tied"), [(-127.9519, 1), (-127.95191, 1), (-127.94, 0)])
def test_queries_whose_scores_float32_can_t_tell_apart_are_counted(other: float, tied: int) -> None:
    logged = validated(scored(("q1", "a", -127.9519), ("q1", "b", other), ("q2", "c", 1.0)))  # q2 has one candidate
    assert logged["val/tied_queries"] == tied


def said(capsys: pytest.CaptureFixture, task: RerankingTask = TASK, **metrics: float) -> list[str]:
    """What progress prints after the validation of step 7 of 20, the second of six."""
    report, around = ProgressReport("toy", (3, 7, 10, 13, 17, 20)), trainer(task)
    around.callback_metrics = {"train/loss": torch.tensor(8.0)}
    around.callback_metrics |= {
        f"val/{name.replace('nDCG', 'nDCG@10')}": torch.tensor(value) for name, value in metrics.items()
    }
    report.on_validation_end(around)
    return capsys.readouterr().err.splitlines()


def test_progress_says_how_far_validation_is_and_its_loss(capsys: pytest.CaptureFixture) -> None:
    assert said(capsys, loss=0.25, hidden=9.0) == ["toy: val 2/6 (step 7): loss 0.2500"]


def test_progress_says_a_ranking_beside_what_it_is_to_reach(capsys: pytest.CaptureFixture) -> None:
    assert said(capsys, nDCG=0.5, first_stage_nDCG=0.25, teacher_nDCG=0.75, teacher_tau=0.125, tied_queries=0) == [
        "toy: val 2/6 (step 7): nDCG@10 0.5000 (toy.run 0.2500, teacher 0.7500), tau with the teacher 0.1250"
    ]
    assert said(capsys, nDCG=0.5, first_stage_nDCG=0.25) == ["toy: val 2/6 (step 7): nDCG@10 0.5000 (toy.run 0.2500)"]
    assert said(capsys, nDCG=0.5) == ["toy: val 2/6 (step 7): nDCG@10 0.5000"]


def test_progress_says_that_a_ranker_has_collapsed(capsys: pytest.CaptureFixture) -> None:
    told = "all scores of 1 of 1 queries are equal: the order is by id"  # of three queries, one has two candidates
    assert said(capsys, nDCG=0.5, tied_queries=1)[1:] == [
        f"toy: val 2/6 (step 7): collapsed: {told}, and any other validation is better"
    ]


def test_progress_says_how_many_of_many_queries_have_no_order(capsys: pytest.CaptureFixture) -> None:
    candidates = {f"q{number}": [Candidate("a", 2.0), Candidate("b", 1.0)] for number in range(3)}
    assert said(capsys, task=replace(TASK, candidates=candidates), nDCG=0.5, tied_queries=1)[1:] == [
        "toy: val 2/6 (step 7): all scores of 1 of 3 queries are equal: the order is by id"
    ]


def test_the_ranking_of_the_best_validation_is_left_for_students(tmp_path: Path) -> None:
    callback, around, module = RankingMetrics(tmp_path, 1, "toy"), trainer(), SimpleNamespace(log=lambda *_, **__: None)
    for best, other in (("a", "b"), ("b", "a"), ("a", "b")):  # b is the relevant one
        callback.on_validation_start(around, module)
        callback.on_validation_batch_end(around, module, scored(("q1", best, 5.0), ("q1", other, 4.0)), None, 0)
        callback.on_validation_epoch_end(around, module)
    assert (tmp_path / "valid.run").read_text() == "q1 Q0 b 1 5.0 toy\nq1 Q0 a 2 4.0 toy\n"


def test_a_validation_of_a_collapsed_ranker_is_never_the_best_whatever_the_luck_of_its_order(tmp_path: Path) -> None:
    """By id, descending, b comes first, which is relevant; the other ranker puts it second."""
    callback, around, logged = RankingMetrics(tmp_path, 1, "toy"), trainer(), []
    module = SimpleNamespace(log=lambda name, value, **_: logged.append((name, value)))
    for a in (4.0, 5.0):
        callback.on_validation_start(around, module)
        callback.on_validation_batch_end(around, module, scored(("q1", "a", a), ("q1", "b", 4.0)), None, 0)
        callback.on_validation_epoch_end(around, module)
    second = 1 / math.log2(3) / 3
    for name, values in (("val/nDCG@10", [1 / 3, second]), ("val/choice", [0.0, second])):
        assert [value for other, value in logged if other == name] == pytest.approx(values)
    assert (tmp_path / "valid.run").read_text() == "q1 Q0 a 1 5.0 toy\nq1 Q0 b 2 4.0 toy\n"


def test_a_resumed_run_keeps_its_best_validation_s_ranking() -> None:
    first, second = RankingMetrics(Path(), 1, "toy"), RankingMetrics(Path(), 1, "toy")
    first._best = 0.75
    second.load_state_dict(first.state_dict())
    assert second._best == 0.75


def test_a_teacher_s_own_ranking_of_the_candidates_takes_the_place_of_its_scores() -> None:
    rows = scored(("q1", "a", 0.0), ("q1", "b", 5.0), ("q2", "c", 1.0))
    teacher = {"q1": [Candidate("a", 2.0), Candidate("b", 1.0)], "q2": [Candidate("c", 1.0)]}
    logged = validated(rows, teacher=teacher)
    assert (logged["val/teacher_tau"], logged["val/teacher_top1"]) == (-1.0, 0.5)


def test_progress_says_that_training_stopped_early(capsys: pytest.CaptureFixture) -> None:
    report, around = ProgressReport("toy"), trainer()
    around.max_steps, around.should_stop = 20, True
    report.on_train_end(around)
    line = "toy: stopped behind step 7 of 20: validation no longer gets better (stage.patience)\n"
    assert capsys.readouterr().err == line
