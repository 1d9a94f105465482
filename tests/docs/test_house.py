"""The rules of the house that a machine can check."""

import ast
import re
import subprocess

import pytest
from support import REPOSITORY

READERS = tuple(f"data.{path.stem}" for path in (REPOSITORY / "src/rankdistil/data").glob("*") if path.stem != "batch")
FILES = [REPOSITORY / line for line in subprocess.run(
    ["git", "-C", str(REPOSITORY), "ls-files", "--cached", "--others", "--exclude-standard"],
    capture_output=True, text=True, check=True,
).stdout.splitlines()]  # fmt: skip
SOURCES = [path for path in FILES if path.suffix == ".py" and "src" in path.parts and path.is_file()]


def imports(path: object) -> set[str]:
    tree = ast.parse(path.read_text())
    names = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module}
    return names | {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_a_source_file_is_small_says_why_it_exists_and_is_no_dumping_ground(path: object) -> None:
    text = path.read_text()
    assert text.count("\n") <= 400
    assert path.stem not in {"utils", "common", "misc", "helpers"}
    assert path.name == "__init__.py" or ast.get_docstring(ast.parse(text))


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_only_the_top_of_the_package_knows_hydra_and_omegaconf(path: object) -> None:
    top = {
        "run",
        "plan",
        "jobs",
        "announcements",
        "parts",
        "roles",
        "score",
        "testing",
        "networks",
        "settings",
        "splits",
        "cli",
        "fit",
        "lineage",
        "outcome",
        "card",
        "summary",
        "evaluation",
        "entries",
        "estimate",
        "held_out",
        "ranges",
        "secrets",
        "unread",
        "words",
    }
    hydra = {name for name in imports(path) if name.split(".")[0] in {"hydra", "omegaconf"}}
    assert not hydra or path.stem in top


@pytest.mark.parametrize(
    ("folder", "forbidden"),
    [
        ("losses", ("modules", "callbacks", "report", "inference", "run", "parts", "networks", *READERS)),
        ("models", ("losses", "modules", "callbacks", "report", "inference", "run", "parts", "networks", *READERS)),
        ("data", ("losses", "modules", "callbacks", "report", "inference", "run", "parts", "networks", "metrics", "models")),
        ("metrics", ("modules", "callbacks", "report", "inference", "run", "parts", "networks", "losses", "models")),
        ("modules", ("callbacks", "report", "inference", "run", "parts", "networks", "metrics")),
        ("callbacks", ("report", "run", "parts", "networks", "fit")),
    ],
)
def test_imports_go_downward(folder: str, forbidden: tuple[str, ...]) -> None:
    for path in SOURCES:
        if path.parent.name == folder:
            upward = [name for name in imports(path) for part in forbidden if (name + ".").startswith(f"rankdistil.{part}.")]
            assert not upward, f"{path.name} imports {upward}"


def test_metrics_never_import_lightning() -> None:
    assert not any("lightning" in name for path in SOURCES if path.parent.name == "metrics" for name in imports(path))


def test_every_experiment_and_student_is_named_in_the_readme() -> None:
    text = (REPOSITORY / "README.md").read_text()
    for group in ("experiment", "student"):
        for path in (REPOSITORY / "conf" / group).glob("*.yaml"):
            assert path.stem in text, path.stem


def test_the_readme_is_short_and_opens_with_two_commands_that_the_makefile_knows() -> None:
    text = (REPOSITORY / "README.md").read_text()
    assert text.count("\n") <= 200
    first = re.search(r"```\w*\n(.*?)```", text, re.DOTALL).group(1)
    commands = [line.partition("#")[0].split() for line in first.splitlines() if line.strip()]
    assert [command[0] for command in commands] == ["make", "make"]
    makefile = (REPOSITORY / "Makefile").read_text()
    assert all(f"\n{target}:" in makefile for _, target in commands)


@pytest.mark.parametrize(
    "name", ["README.md", "CONTRIBUTING.md", "EXPERIMENTS.md", "conf/data/README.md", "conf/cluster/README.md"]
)
def test_every_training_command_in_the_documents_composes(name: str) -> None:
    from support import composed

    text = (REPOSITORY / name).read_text().replace("\\\n", " ")
    lines = re.findall(r"python train\.py ([^\n`|]*)", text)
    assert lines
    for line in lines:
        words = [word.strip("'") for word in line.partition("#")[0].split() if word != "-m" and "<" not in word]
        words = [word.partition(",")[0] for word in words if "glob(" not in word]
        cfg = composed(*words, *([] if any("experiment" in word for word in words) else ["+experiment=smoke"]))
        assert cfg.stage.name
