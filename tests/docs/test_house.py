"""The rules of the house that a machine can check."""

import ast
import re
import subprocess

import pytest
from support import REPOSITORY

FILES = [REPOSITORY / line for line in subprocess.run(
    ["git", "-C", str(REPOSITORY), "ls-files", "--cached", "--others", "--exclude-standard"],
    capture_output=True, text=True, check=True,
).stdout.splitlines()]  # fmt: skip
PACKAGE = REPOSITORY / "src/rankdistil"
SOURCES = [path for path in FILES if path.suffix == ".py" and "src" in path.parts and path.is_file()]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_a_source_file_is_small_says_why_it_exists_and_is_no_dumping_ground(path: object) -> None:
    text = path.read_text()
    assert text.count("\n") <= 400
    assert path.stem not in {"utils", "common", "misc", "helpers"}
    assert path.name == "__init__.py" or ast.get_docstring(ast.parse(text))


def test_the_house_has_few_rooms_and_a_short_hall() -> None:
    assert len([path for path in SOURCES if path.stat().st_size]) <= 120
    rooms = {path.parent for path in SOURCES}
    for room in rooms - {PACKAGE}:
        entries = {path.name for path in (*SOURCES, *rooms) if path.parent == room} - {"__init__.py"}
        assert len(entries) <= 12, room
    assert len([path for path in SOURCES if path.parent == PACKAGE and path.name != "__init__.py"]) <= 4


def test_the_map_in_contributing_names_every_module_and_no_other() -> None:
    text = (REPOSITORY / "CONTRIBUTING.md").read_text()
    lines = re.search(r"^src/rankdistil/\n(.*?)^benchmarks/", text, re.DOTALL | re.MULTILINE).group(1).splitlines()
    room, named = PACKAGE, {}
    for line in lines:
        indent, name, listed = re.fullmatch(r"( +)(\S+) +[^:]+: (.*)", line).groups()
        room = PACKAGE / name if len(indent) == 2 else PACKAGE / "data" / name
        named[room] = {*re.sub(r"\(.*?\)", "", listed).split()}
    found = {room: {path.stem for path in SOURCES if path.parent == room} - {"__init__"} for room in named}
    found[PACKAGE / "data/collections"] |= {"almanac"}
    assert found == named
    assert {path.parent for path in SOURCES} == {*named, PACKAGE / "data/collections/almanac"}


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


def test_every_path_that_the_makefile_names_exists() -> None:
    named = re.findall(r"\btests/[\w/.]+", (REPOSITORY / "Makefile").read_text())
    assert named
    assert [path for path in named if not (REPOSITORY / path).exists()] == []


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
