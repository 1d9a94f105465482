"""A stage and its export with a teacher of another family than BERT, as a user runs them."""

import json
from pathlib import Path

import pytest
from commands import command
from families import tiny, tokenizer_of

from rankdistil import Reranker
from rankdistil.inference.export_files import write_export

pytestmark = pytest.mark.slow  # whole runs

LENGTH = 60
SIZE = [
    "student.hidden_size=16",
    "student.heads=4",
    "student.intermediate_size=24",
    "student.init_from=random",
    "student.layer_map=uniform",
]


@pytest.mark.parametrize(
    ("name", "layout"),
    [("xlm-roberta", "<s> query </s> </s> passage </s>"), ("modernbert", "[CLS] query [SEP] passage [SEP]")],
)
def test_a_teacher_of_another_family_teaches_a_student_of_its_own(name: str, layout: str, tmp_path: Path) -> None:
    teacher = tmp_path / "teacher"
    write_export(teacher, tiny(name), tokenizer_of(name), LENGTH)
    settings = [f"teacher.export={teacher}", f"data.max_length={LENGTH}", f"paths.runs={tmp_path}/runs", *SIZE]
    done = command("train.py", "+experiment=ranker_distill_6l", "scale=smoke", "student=2l", *settings)
    assert done.returncode == 0, done.stderr
    run = tmp_path / "runs/ranker_distill/2l/seed0"
    exported = json.loads((run / "export/config.json").read_text())
    assert exported["model_type"] == name
    assert layout in (run / "export/README.md").read_text()
    pairs = [("how do bees fly", text) for text in ("wings beat fast", "a bridge of stone", "", "pollen " * 90)]
    peer = pytest.importorskip("sentence_transformers").CrossEncoder(str(run / "export"), device="cpu")
    assert Reranker(run / "export", device="cpu").score(pairs) == pytest.approx(peer.predict(pairs).tolist(), abs=1e-5)
    graphs = command("-m", "rankdistil.export", f"run={run}", "to=onnx")
    assert graphs.returncode == 0, graphs.stderr
    assert (run / "export/onnx/model.onnx").is_file()
