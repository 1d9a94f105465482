"""The notebooks: clean in git, never training, and executed on the runs of a small sweep."""

import ast
import json
import os
import re
import shutil
from pathlib import Path

import nbformat
import pytest
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbformat import NotebookNode
from support import REPOSITORY, composed

FOLDER = REPOSITORY / "notebooks"
STUDENT = "ranker_distill/2l/seed0"  # the last to finish
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
TRAINING = {"fit", "backward", "train", "run_stage", "build_module", "build_losses", "system", "Popen", "get_ipython"}
LAUNCHERS = {
    "subprocess",
    "hydra",
    "lightning",
    "rankdistil.commands.train",
    "rankdistil.stages.train",
    "rankdistil.processes.launch",
    "rankdistil.modules.stage",
}


def read(name: str) -> NotebookNode:
    return nbformat.read(FOLDER / name, as_version=4)


def execute(notebook: NotebookNode, runs: Path, start: Path) -> NotebookNode:
    """Run a notebook on a folder of runs, in this test's own Python whatever kernels the user has installed."""
    specs = KernelSpecManager(kernel_dirs=[], data_dir=str(start))  # no folder of kernels: ipykernel's own, sys.executable
    manager = AsyncKernelManager(kernel_name="python3", kernel_spec_manager=specs)
    client = NotebookClient(notebook, km=manager, timeout=120, resources={"metadata": {"path": str(start)}})
    away = {"MPLBACKEND", "PYTHONWARNINGS"}  # a backend set for the tests would show no image
    client.execute(cleanup_kc=True, env={k: v for k, v in os.environ.items() if k not in away} | {"RANKDISTIL_RUNS": str(runs)})
    return notebook


def texts(notebook: NotebookNode) -> str:
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert not [output.text for output in outputs if output.get("name") == "stderr"]
    return "\n".join(output.get("text", "") or output.get("data", {}).get("text/plain", "") for output in outputs)


def images(notebook: NotebookNode) -> int:
    return sum("image/png" in output.get("data", {}) for cell in notebook.cells for output in cell.get("outputs", []))


@pytest.fixture(scope="module")
def runs(procedures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of runs, moved from where they were made: those of a sweep, a stage that isn't tested, a run that failed."""
    folder = tmp_path_factory.mktemp("moved") / "runs"
    shutil.copytree(procedures, folder, ignore=shutil.ignore_patterns("checkpoints"))
    for name, status in (("untested/2l/seed0", "finished"), ("broken/2l/seed0", "failed")):
        (folder / name).mkdir(parents=True)
        parents = {"teacher": {"source": "teacher/minilm/seed0", "fingerprint": "0" * 64}}
        record = {"status": status, "stage": "some_stage", "settings": {}, "parents": parents, "finished": "9999"}
        (folder / name / "run.json").write_text(json.dumps(record))
    return folder


@pytest.fixture(autouse=True)
def _no_traces_at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("IPYTHONDIR", "JUPYTER_RUNTIME_DIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR"):
        monkeypatch.setenv(name, str(tmp_path))


def test_there_are_three_notebooks() -> None:
    assert [path.name[:3] for path in NOTEBOOKS] == ["01_", "02_", "03_"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_carries_no_output_and_nothing_of_a_machine(path: Path) -> None:
    notebook = read(path.name)
    nbformat.validate(notebook)
    for cell in notebook.cells:
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None
        assert not cell.metadata
    assert not re.search(r"/(home|root|work|tmp|Users|mnt)/|[A-Z]:\\\\", path.read_text())
    assert notebook.metadata.language_info == {"name": "python"}


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_has_short_cells_of_code_that_never_trains(path: Path) -> None:
    for cell in read(path.name).cells:
        if cell.cell_type != "code":
            continue
        assert cell.source.count("\n") < 20, cell.id
        for node in ast.walk(ast.parse(cell.source)):  # a line with ! or % wouldn't parse
            if isinstance(node, ast.Call):
                assert getattr(node.func, "attr", getattr(node.func, "id", "")) not in TRAINING, cell.id
            if isinstance(node, ast.Attribute):
                assert not node.attr.startswith("_"), cell.id
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = {alias.name for alias in node.names} | {getattr(node, "module", "")}
                assert not names & LAUNCHERS, cell.id


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_train_py_stands_only_where_the_repository_is_looked_for_and_in_messages(path: Path) -> None:
    for cell in read(path.name).cells:
        for line in cell.source.splitlines():
            if "train.py" in line:
                assert '(folder / "train.py").is_file()' in line or re.search(r'f".*python train\.py \+experiment=', line)


@pytest.mark.slow
def test_one_query_shows_its_rankings_and_scores_them_again_alike(runs: Path) -> None:
    notebook = execute(read("01_one_query.ipynb"), runs, FOLDER)
    text = texts(notebook)
    assert images(notebook) == 1
    assert f"student: {runs}/{STUDENT}\nteacher: {runs}/teacher/minilm/seed0/export" in text
    differences = [float(value) for value in re.findall(r"from the run's score (\S+)", text)]
    assert len(differences) == 2
    assert max(differences) < 1e-4
    query = re.search(r"(\S+): .*\n.*\n.*first", text).group(1).removeprefix("\x1b[3m")
    rows = [line.split() for line in (runs / STUDENT / "test.run").read_text().splitlines()]
    order = [row[2] for row in rows if row[0] == query]
    shown = re.findall(r"([\w-]+-\d+): ", text.partition("grade")[2])
    assert [passage for passage in shown if passage in order][: len(order)] == order


@pytest.mark.slow
def test_what_was_learnt_measures_no_gap_between_the_teacher_and_itself(runs: Path) -> None:
    notebook = read("02_what_was_learnt.ipynb")
    oracle = (
        'print("itself", relative_error(states["teacher"][1], states["teacher"][1]))\n'
        'print("heads", min(min(correlation(look, look)) for look in looks["teacher"]))\n'
        'print("random", max(abs(value) for look in zip(looks["random"], looks["teacher"]) for value in correlation(*look)))'
    )
    notebook.cells.append(nbformat.v4.new_code_cell(oracle))
    text = texts(execute(notebook, runs, REPOSITORY))
    assert images(notebook) == 5
    assert f"student: {runs}/{STUDENT}" in text
    assert "100 pairs of 10 queries" in text
    assert float(re.search(r"itself (\S+)", text).group(1)) < 1e-4
    assert float(re.search(r"heads (\S+)", text).group(1)) == pytest.approx(1, abs=1e-4)
    assert float(re.search(r"random (\S+)", text).group(1)) < 0.5


@pytest.mark.slow
def test_speed_and_quality_lists_runs_best_first_and_what_it_left_out(runs: Path) -> None:
    notebook = execute(read("03_speed_and_quality.ipynb"), runs, FOLDER)
    text = texts(notebook)
    assert images(notebook) == 3
    assert "left out: untested/2l/seed0 (some_stage without metrics.json, per_query.jsonl)" in text
    assert "left out: broken/2l/seed0 (its status is failed)" in text
    told = {file.parent: json.loads(file.read_text()) for file in runs.glob("*/*/*/metrics.json")}
    assert re.search(r"teacher/minilm/seed0 .* 1\.00x", text)
    values = {str(folder.relative_to(runs)): one["measures"]["nDCG@10"] for folder, one in told.items()}
    values["BM25"] = told[runs / STUDENT]["first_stage"]["nDCG@10"]
    assert len(values) == 5
    table = [
        line.split()[:2]
        for line in text.partition("speed over its teacher's")[2].partition("what was run")[0].splitlines()
        if re.search(r" \d\.\d{4} ", line)
    ]
    assert [(name, value) for name, value in table] == [
        (name, f"{value:.4f}") for name, value in sorted(values.items(), key=lambda item: -item[1])
    ]
    curve = re.search(rf"{STUDENT}((?: +\d\.\d{{4}})+)", text.partition("Depth")[2]).group(1).split()
    assert curve[-1] == f"{values[STUDENT]:.4f}"  # of all candidates
    assert "Fusion with the first stage" in text
    assert "Where it hurts" in text


@pytest.mark.slow
def test_without_a_run_the_first_notebook_answers_with_the_command_that_makes_one(tmp_path: Path) -> None:
    notebook = read("01_one_query.ipynb")
    with pytest.raises(CellExecutionError) as stopped:
        execute(notebook, tmp_path / "none", FOLDER)
    assert stopped.value.ename == "SystemExit"
    message = stopped.value.evalue
    words = message.partition("run: python train.py ")[2].split()
    assert message.startswith(f"{tmp_path}/none: no finished run of a student here.")
    assert composed(*words).paths.runs == f"{tmp_path}/none"
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert [output.output_type for output in outputs] == ["error"]
