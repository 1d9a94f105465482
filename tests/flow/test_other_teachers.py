"""Teachers of other kinds and architectures: each scores by one command, and teaches a BERT student by another."""

import json
import shutil
from io import BytesIO
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import tiny_teachers
from commands import command, training

from rankdistil.teachers.scorers import ScorerSettings, open_scorer
from tests.data.conftest import FILES

FOLDER = {"queries": "queries.tsv", "qrels": "qrels.txt", "triples": "triples.tsv", "candidates": "run.txt"}
SMOKE = [
    "scale=smoke", "data=files", "data.corpus=corpus.tsv", "data.holdout=1", "data.valid_queries=1",
    *(f"data.{split}.{kind}={file}" for split in ("train", "test") for kind, file in FOLDER.items()),
]  # fmt: skip
SCORE = "+experiment=score_teacher"
LOGITS = ["stage=logit_distill", "student=2l", "student.init_from=random", "callbacks.inference_time=null"]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_teachers.collection(tmp_path_factory.mktemp("collection"))


@pytest.fixture(scope="module")
def train(root: Path):
    return training(root, *SMOKE)


def scored(train, root: Path, kind: str, *more: str) -> tuple[Path, str]:
    """Let a teacher score; return the folder of its run, and what was said."""
    done = train(SCORE, f"teacher.kind={kind}", f"teacher.path={root / f'tiny-{kind}'}", *more)
    assert done.returncode == 0, done.stderr
    return root / f"runs/score_teacher/tiny-{kind}/seed0", done.stdout


@pytest.mark.parametrize("kind", tiny_teachers.MAKE)
def test_a_teacher_scores_is_measured_and_teaches_a_student(train, root: Path, kind: str) -> None:
    run, said = scored(train, root, kind)
    rows = pq.read_table(run / "scores/part-00000.parquet").to_pylist()
    texts = {name: dict(line.split("\t") for line in FILES[f"{name}.tsv"].splitlines()) for name in ("queries", "corpus")}
    scorer = open_scorer(ScorerSettings(kind, str(root / f"tiny-{kind}"), instruction=tiny_teachers.INSTRUCTION))
    expected = scorer.score(
        *zip(*((texts["queries"][r["query_id"]], texts["corpus"][r["passage_id"]]) for r in rows), strict=True)
    )
    np.testing.assert_allclose([row["score"] for row in rows], expected, atol=1e-5)
    measured = json.loads((run / "metrics.json").read_text())
    assert f"teacher tiny-{kind}: nDCG@10 {measured['measures']['nDCG@10']:.4f} on " in said
    assert f"Train from them: teacher.scores={run}/scores" in said
    done = train(*LOGITS, f"teacher.scores={run / 'scores'}", f"run_name={kind}")
    assert done.returncode == 0, done.stderr
    record = json.loads((root / f"runs/logit_distill/2l/{kind}/run.json").read_text())
    assert (record["status"], record["learnt_from"]) == ("finished", f"score_teacher/tiny-{kind}/seed0")
    assert "nothing to do" in scored(train, root, kind)[1]


def test_teachers_of_all_kinds_teach_one_student_together(train, root: Path) -> None:
    folders = ",".join(str(scored(train, root, kind)[0] / "scores") for kind in tiny_teachers.MAKE)
    done = train(*LOGITS, f"teacher.scores=[{folders}]", "run_name=all")
    assert done.returncode == 0, done.stderr


def test_the_teacher_is_a_row_beside_its_student_in_the_table(train, root: Path) -> None:
    run, _ = scored(train, root, "sparse")
    where = f"paths.evaluations={root / 'evaluations'}"
    done = command("evaluate.py", f"models=[{run}]", "callbacks.inference_time=null", where, "folder=one", cwd=root)
    assert done.returncode == 0, done.stderr
    rows = json.loads((root / "evaluations/one/report.json").read_text())["rows"]
    measured = json.loads((run / "metrics.json").read_text())["measures"]
    found = {row["name"]: row["measures"] for row in rows}
    assert found["sparse tiny-sparse"] == pytest.approx(measured)


def test_a_test_is_made_when_it_is_asked_for_and_a_lost_shard_is_scored_again_alike(train, root: Path) -> None:
    kind, named = "bi_encoder", "run_name=later"
    run = scored(train, root, kind, named, "teacher.score_test=false")[0].parent / "later"
    shard = run / "scores/part-00000.parquet"
    assert not (run / "metrics.json").exists()
    before = shard.read_bytes()
    assert "tested again" in scored(train, root, kind, named)[1]
    assert (run / "metrics.json").is_file()
    assert shard.read_bytes() == before
    shard.unlink()
    record = json.loads((run / "run.json").read_text())
    assert (record["status"], "test_pending" in record) == ("finished", False)
    (run / "run.json").write_text(json.dumps(record | {"status": "running"}))
    scored(train, root, kind, named, "resume=true")
    found, expected = (pq.read_table(table).to_pydict() for table in (shard, BytesIO(before)))
    assert found.pop("score") == pytest.approx(expected.pop("score"), abs=1e-5)
    assert found == expected


@pytest.mark.slow
def test_two_processes_write_what_one_does(train, root: Path) -> None:
    one = scored(train, root, "causal_lm")[0]
    scored(train, root, "causal_lm", "trainer=ddp_cpu", "run_name=two")
    two = one.parent / "two"
    found, expected = (pq.read_table(run / "scores/part-00000.parquet").to_pydict() for run in (two, one))
    assert found.pop("score") == pytest.approx(expected.pop("score"), abs=1e-5)
    assert found == expected
    assert json.loads((two / "metrics.json").read_text()) == json.loads((one / "metrics.json").read_text())


def test_another_way_of_scoring_is_not_mixed_with_the_old_scores(train, root: Path) -> None:
    scored(train, root, "causal_lm")
    done = train(SCORE, "teacher.kind=causal_lm", f"teacher.path={root / 'tiny-causal_lm'}", "teacher.instruction=Other.")
    assert done.returncode == 1
    assert "scorer.instruction: " in done.stderr
    assert " -> Other." in done.stderr


@pytest.mark.parametrize("plan", ["show", "check"])
def test_a_plan_needs_no_scores(train, root: Path, plan: str) -> None:
    done = train(SCORE, "teacher.kind=causal_lm", f"teacher.path={root / 'tiny-causal_lm'}", f"plan={plan}", "run_name=planned")
    assert done.returncode == 0, done.stderr
    expected = {
        "show": "score_teacher",
        "check": "corpus.tsv: 0.0% of 5 passages have more than 400 tokens (teacher.max_length).",
    }
    assert expected[plan] in done.stdout
    assert not (root / "runs/score_teacher/tiny-causal_lm/planned").exists()


@pytest.mark.parametrize("kind", ["causal_lm", "bi_encoder"])
def test_a_live_teacher_of_another_kind_is_refused_with_the_way_out(train, root: Path, tmp_path: Path, kind: str) -> None:
    path = shutil.copytree(root / f"tiny-{kind}", tmp_path / "export")
    if kind == "bi_encoder":
        listed = [{"type": "models.Transformer", "path": ""}, {"type": "models.Pooling", "path": "1_Pooling"}]
        (path / "modules.json").write_text(json.dumps(listed))
    done = train(*LOGITS, f"teacher.export={path}")
    assert done.returncode == 1
    assert (
        f"error: teacher.export={path} is no ranker whose layers and tokens a student can share; it looks like a {kind}, "
        "and stage logit_distill needs the network itself. Let it score, then learn from its scores: python train.py "
        f"+experiment=score_teacher teacher.kind={kind} teacher.path={path}, and here teacher.scores=<the folder that this "
        "names> in place of it."
    ) in " ".join(done.stderr.split())


def test_a_kind_that_gives_scores_is_refused_where_a_student_needs_the_network(train, root: Path) -> None:
    done = train(*LOGITS, "teacher.kind=sparse", f"teacher.path={root / 'tiny-sparse'}")
    assert done.returncode == 1
    assert "teacher.kind=sparse gives scores, no layers, and stage logit_distill needs the network itself." in done.stderr
