"""What tells checkpoints apart: all that decides their scores, and nothing else."""

import json
import shutil
from pathlib import Path

import pytest
from conftest import MINILM

from rankdistil.files import write_json
from rankdistil.inference.export_files import write_export
from rankdistil.models.checkpoints import load_ranker, load_student, load_tokenizer
from rankdistil.models.locate import account, deciding_parts, identity, is_content, locate, require_as_written


@pytest.fixture
def folder(tiny_ranker, tmp_path: Path) -> Path:
    """An export, with a vocabulary in a file of its own beside it."""
    write_export(tmp_path / "export", tiny_ranker, load_tokenizer(MINILM), 38)
    shutil.copy(locate(MINILM) / "vocab.txt", tmp_path / "export")
    return tmp_path / "export"


def edit(file: Path, **values: object) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


@pytest.fixture
def run(folder: Path) -> Path:
    """The run that left the export."""
    write_json(folder.parent / "run.json", {"status": "finished", "settings": {}, "export": account(folder)})
    require_as_written(folder)
    return folder.parent


def test_an_export_of_which_a_byte_has_changed_since_its_run_wrote_it_is_told(run: Path) -> None:
    file, written = run / "export/model.safetensors", account(run / "export")["model.safetensors"]
    held = bytearray(file.read_bytes())
    held[len(held) // 2] ^= 1
    file.write_bytes(held)
    changed = account(run / "export")[file.name]
    told = (
        f"{file} was changed (sha256 {changed}, sha256 {written} when the run ended: {run}/run.json). "
        f"Copy it back from another copy of the run, or remove {run} to run it again; a ranker that is changed on purpose goes "
        "into a folder of its own."
    )
    for read in (load_ranker, load_student_of, identity):
        with pytest.raises(ValueError) as caught:
            read(str(run / "export"))
        assert str(caught.value) == told


def load_student_of(path: str) -> None:
    load_student(path, seed=0)


def test_a_file_that_is_gone_or_has_come_since_a_run_ended_is_told(run: Path) -> None:
    (run / "export/tokenizer_config.json").rename(run / "kept")
    with pytest.raises(FileNotFoundError, match=r"export/tokenizer_config\.json isn't there, and was when the run ended \("):
        require_as_written(run / "export")
    (run / "kept").rename(run / "export/tokenizer_config.json")
    (run / "export/added_tokens.json").write_text("{}")
    with pytest.raises(ValueError, match=r"export/added_tokens\.json was changed \(sha256 .*, not there when the run ended: "):
        require_as_written(run / "export")


def test_what_decides_nothing_may_change_and_a_copy_outside_of_its_run_is_its_owner_s(run: Path, tmp_path: Path) -> None:
    before = identity(str(run / "export"))
    edit(run / "export/config.json", transformers_version="9", dtype="float16")
    (run / "export/README.md").write_text("# A card")
    assert identity(str(run / "export")) == before  # which asks require_as_written
    shutil.copytree(run / "export", tmp_path / "mine")
    edit(tmp_path / "mine/config.json", hidden_act="relu")
    assert identity(str(tmp_path / "mine")) != before
    write_json(run / "run.json", {"status": "running", "settings": {}})  # it will write another
    edit(run / "export/config.json", hidden_act="relu")
    assert identity(str(run / "export")) == identity(str(tmp_path / "mine"))


def test_the_same_files_elsewhere_are_the_same_checkpoint(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "b/copy")
    assert identity(str(folder)) == identity(str(tmp_path / "b/copy"))
    assert is_content(identity(str(folder)))


@pytest.mark.parametrize(
    ("file", "values", "part"),
    [
        ("config.json", {"hidden_act": "relu"}, "config"), ("config.json", {"layer_norm_eps": 1e-5}, "config"),
        ("config.json", {"id2label": {"0": "NO"}}, "config"), ("tokenizer_config.json", {"do_lower_case": False}, "tokenizer"),
        ("tokenizer.json", {"normalizer": None}, "tokenizer"), ("special_tokens_map.json", {"sep_token": "[X]"}, "tokenizer"),
    ],
)  # fmt: skip
def test_another_activation_epsilon_label_or_token_is_another_checkpoint(folder: Path, file, values, part) -> None:
    before, told = identity(str(folder)), deciding_parts(str(folder))
    edit(folder / file, **values)
    after = deciding_parts(str(folder))
    assert [name for name in told if told[name] != after[name]] == [part]
    assert identity(str(folder)) != before


def test_another_vocabulary_or_other_weights_are_another_checkpoint(folder: Path) -> None:
    for file, part in (("vocab.txt", "tokenizer"), ("model.safetensors", "weights")):
        told, raw = deciding_parts(str(folder)), (folder / file).read_bytes()
        (folder / file).write_bytes(raw[:-1] + b"!")
        after = deciding_parts(str(folder))
        assert [name for name in told if told[name] != after[name]] == [part]


@pytest.mark.parametrize(
    ("file", "values"),
    [
        ("config.json", {"transformers_version": "9", "_name_or_path": "x", "torch_dtype": "float16", "dtype": "float16"}),
        ("tokenizer_config.json", {"name_or_path": "x", "is_local": False}),
        ("tokenizer.json", {"truncation": {"max_length": 5}, "padding": {"length": 9}}),
    ],
)  # fmt: skip
def test_what_tools_write_of_themselves_makes_no_other_checkpoint(folder: Path, file: str, values: dict) -> None:
    before = identity(str(folder))
    edit(folder / file, **values)
    (folder / "README.md").write_text("another card")
    assert identity(str(folder)) == before


def test_the_order_and_the_layout_of_json_make_no_other_checkpoint(folder: Path) -> None:
    before, held = identity(str(folder)), json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(dict(reversed(held.items())), indent=7))
    assert identity(str(folder)) == before


def test_what_has_yet_to_be_fetched_stands_for_itself() -> None:
    assert identity("some.owner/model") == "some.owner/model"
    assert deciding_parts("some.owner/model@abc") == {"weights": "some.owner/model@abc"}


def test_a_folder_without_weights_and_a_damaged_config_are_named(folder: Path, tmp_path: Path) -> None:
    (folder / "config.json").write_text('{"hidden_act"')
    with pytest.raises(ValueError, match=r"export/config\.json is damaged \(.*Copy the checkpoint again\."):
        identity(str(folder))
    with pytest.raises(FileNotFoundError, match=r"holds no \.safetensors file: it is no checkpoint"):
        identity(str(tmp_path))
