"""Words of a command line that Hydra alone can't read, the help of every command, and packages of extras."""

import importlib.metadata
import sys
from pathlib import Path

import pytest
from commands import command
from omegaconf import OmegaConf
from support import CONF

from rankdistil import files
from rankdistil import words as command_line
from rankdistil.commands.export import KEYS as EXPORT_KEYS
from rankdistil.commands.export import main as export
from rankdistil.data.files.lines import raw_lines, records
from rankdistil.data.import_scores import KEYS as IMPORT_KEYS
from rankdistil.data.import_scores import main as import_scores
from rankdistil.data.teacher_scores.folder import Shard, write_shard
from rankdistil.files import called
from rankdistil.words import first_choice, installing, keys_of, readable, require, several, unreadable


def read(*words: str, config: str = "train") -> list[str]:
    return readable(words, config, CONF)


def test_words_that_hydra_reads_stay_as_they_are() -> None:
    words = [
        "-m",
        "+experiment=smoke",
        "stage.lr=1e-4",
        "student=6l",
        "seed=0,1",
        "~stage.losses.logits",
        "hydra.sweeper.n_trials=20",
    ]
    words += ["+teacher.seed=1", "stage.lr=interval(1e-5,1e-3)", "hydra/launcher=ray", "data.root='a,b'", "--cfg", "job"]
    assert read(*words) == words


def test_sections_that_are_empty_take_keys() -> None:
    assert read("data.depth=100", "+data.test=x", "data=files", config="evaluate") == [
        "++data.depth=100",
        "++data.test=x",
        "data=files",
    ]
    assert read("trainer.timeout=60", "trainer=gpu") == ["++trainer.timeout=60", "trainer=gpu"]
    assert read("data.columns={corpus: {id: docno}}") == ["++data.columns={corpus: {id: docno}}"]


@pytest.mark.parametrize("group", ["+experiment=a,b", "+experiment=glob(*_6l)", "scale=laptop,smoke"])
def test_beside_a_group_that_is_swept_a_key_waits_for_the_group_that_has_it(group: str) -> None:
    assert read("-m", group, "stage.lr=1e-4", "seed=0,1") == ["-m", group, "++stage.lr=1e-4", "seed=0,1"]
    assert read("-m", group, "stage.lr=1e-4,2e-4") == ["-m", group, "stage.lr=1e-4,2e-4"]  # set for each job alone


@pytest.mark.parametrize(
    ("word", "typed"),
    [
        ("data.root=/data/東京", """'data.root="/data/東京"'"""),
        ("data.root=a b#c", """'data.root="a b#c"'"""),
        ("models=out/br[1]/seed0", """'models="out/br[1]/seed0"'"""),
        ("data.root=it's", """'data.root="it'"'"'s"'"""),
        ('data.root=a"b', """'data.root="a\\"b"'"""),
    ],
)
def test_a_value_that_needs_quotes_is_told_as_it_is_to_be_typed(word: str, typed: str) -> None:
    message = unreadable(word)
    assert message.startswith(f"{word} can't be read: a value with ")
    assert message.endswith(f" in it needs quotes, inside of those of the shell. Type: {typed}")


def test_other_words_that_cannot_be_read_say_what_they_lack() -> None:
    assert unreadable("smoke") == "'smoke' is no setting. Expected <key>=<value>."
    assert unreadable("sizes.6l.steps=5") == (
        "sizes.6l.steps=5 can't be read: sizes are what conf/scale says. Type student.steps=5 for the one chosen."
    )
    assert unreadable("a b=1") == "'a b=1' is no setting: 'a b' is no key. Expected <key>=<value>."
    assert unreadable("models=[a,b").startswith("models=[a,b can't be read: a bracket is not closed, or an item has signs that")


def test_a_comma_outside_of_a_sweep_has_three_meanings() -> None:
    assert several("data.root=/a,b") == (
        "data.root=/a,b names several values, and this is no sweep. For one text type 'data.root=\"/a,b\"', for a list "
        "'data.root=[/a,b]'; for a sweep add -m."
    )


def test_the_keys_of_a_word_are_those_inside_of_its_braces_too() -> None:
    assert keys_of("++data.columns={corpus:{id:docno,text: 'a b'}}") == ["data.columns.corpus.id", "data.columns.corpus.text"]
    assert (keys_of("stage.lr=${lr.teacher}"), keys_of("~stage.losses.logits")) == (["stage.lr"], [])


def test_the_first_of_several_choices_stands_for_them() -> None:
    assert (first_choice("+experiment=a,b"), first_choice("student=6l")) == ("+experiment=a", "student=6l")


@pytest.mark.parametrize(
    ("script", "text"), [("train.py", command_line.train_help), ("evaluate.py", command_line.evaluate_help)]
)
def test_a_script_says_what_can_be_typed(script: str, text: object) -> None:
    for words, status in (((), 2), (("--help",), 0)):
        done = command(script, *words)
        said, other = (done.stdout, done.stderr) if status == 0 else (done.stderr, done.stdout)
        assert (done.returncode, said, other) == (status, text(CONF), "")


def test_hydra_s_own_questions_are_still_answered() -> None:
    assert OmegaConf.create(command("train.py", "+experiment=finetune_6l", "--cfg", "job").stdout).stage.name == "finetune"
    assert "Defaults List" in command("train.py", "+experiment=finetune_6l", "--info", "defaults").stdout
    assert "--config-path" in command("train.py", "--hydra-help").stdout


@pytest.mark.parametrize("path", sorted((CONF / "experiment").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_experiment_is_listed_with_what_its_file_claims(path: Path) -> None:
    claim = path.read_text().splitlines()[1].removeprefix("# Claim: ")
    assert f" {path.stem} {claim} " in " ".join(command_line.train_help(CONF).split())


def test_an_experiment_of_the_user_s_own_is_listed_too(tmp_path: Path) -> None:
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment/mine.yaml").write_text("# @package _global_\n")
    assert "\n  mine\n" in command_line.train_help(tmp_path)


@pytest.mark.parametrize(("main", "name", "keys"), [
    (export, "rankdistil.export", EXPORT_KEYS), (import_scores, "rankdistil.data.import_scores", IMPORT_KEYS),
])  # fmt: skip
def test_a_module_s_help_has_an_example_and_all_of_its_keys(
    main: object, name: str, keys: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert (main([]), main(["--help"]), main(["run=x", "-h"])) == (2, 0, 0)
    out, err = capsys.readouterr()
    assert out == 2 * err
    assert f"    python -m {name} " in err
    assert all(f"\n{key}\n" in err or f"{key}, " in err or f", {key}\n" in err for key in keys)
    assert "::" not in err
    assert "``" not in err


def test_fetching_nothing_says_what_can_be_fetched() -> None:
    done = command("-m", "rankdistil.data.fetch")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("Fetches the files of ir_datasets ids that this machine lacks")
    assert "\n    python -m rankdistil.data.fetch msmarco-passage/train/triples-small " in done.stderr
    asked = command("-m", "rankdistil.data.fetch", "--help")
    assert (asked.returncode, asked.stdout, asked.stderr) == (0, done.stderr, "")


def test_long_lines_are_folded_below_their_own_column() -> None:
    rows = command_line._row("key", "word " * 30).splitlines()
    assert all(len(row) <= command_line.WIDTH for row in rows)
    assert [row[: command_line.LEFT].strip() for row in rows] == ["key", ""]


def told(what: str, package: str) -> str:
    return f"{what} needs the package {package}, which isn't installed. Run: pip install -e '.[formats]'"


def test_a_package_that_is_there_is_imported():
    assert require("json", "nothing").loads("1") == 1


def test_a_missing_package_names_who_needs_it_and_the_command(tmp_path, monkeypatch):
    for package in ("pyarrow", "pyarrow.parquet", "zstandard"):
        monkeypatch.setitem(sys.modules, package, None)
    rows = tmp_path / "corpus.parquet"
    with pytest.raises(ValueError) as caught:
        next(records(rows))
    assert str(caught.value) == told(str(rows), "pyarrow")
    packed, shard = tmp_path / "corpus.tsv.zst", tmp_path / "part-00000.parquet"
    packed.write_bytes(b"")
    with pytest.raises(ValueError) as caught:
        next(raw_lines(packed))
    assert str(caught.value) == told(str(packed), "zstandard")
    with pytest.raises(ValueError) as caught:
        write_shard(shard, Shard(["q"], ["p"], [1.0]))
    assert str(caught.value) == told(f"{shard} (Parquet)", "pyarrow")
    assert not shard.exists()


def test_what_to_type_exists_in_a_checkout_and_beside_a_wheel(monkeypatch):
    assert (installing("onnx"), called("train")) == ("pip install -e '.[onnx]'", "python train.py")
    needed = ["torch>=2.11", 'onnx<2,>=1.20; extra == "onnx"', "onnxscript; extra == 'onnx'", 'onnxes; extra == "onnxes"']
    monkeypatch.setattr(importlib.metadata, "requires", lambda name: needed)
    for module in (files, command_line):
        monkeypatch.setattr(module, "CHECKOUT", False)
    assert (installing("onnx"), called("train")) == ("pip install 'onnx<2,>=1.20' onnxscript", "rankdistil train")
