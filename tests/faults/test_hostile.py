"""Files that came from somebody else and would run code, in every place that reads one."""

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from commands import command
from faulty import RUN, STEP, record, train
from omegaconf import OmegaConf
from support import MINILM

from rankdistil.data.collections.reader import Reader
from rankdistil.data.collections.texts import open_collection
from rankdistil.data.encode import PairEncoder
from rankdistil.models.checkpoints import load_tokenizer
from rankdistil.models.locate import locate

QUICK = "callbacks.inference_time={queries: 1, candidates: 10, rounds: 1, throughput_pairs: 20}"


class Hostile:
    """Touches a file when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self._marker = marker

    def __reduce__(self) -> tuple[Callable[[Path], None], tuple[Path]]:
        return Path.touch, (self._marker,)


@pytest.mark.slow
@pytest.mark.fault("G1", "G3", "G4", "G5")
def test_no_command_runs_what_came_with_a_checkpoint_a_folder_or_a_config(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")  # asks torch to load anything
    runs, marker, folder = tmp_path / "runs", tmp_path / "executed", tmp_path / "folder"
    assert train(runs, at=STEP, call=7, do="signal SIGKILL").status == -9
    last = runs / RUN / "checkpoints/last.ckpt"
    whole = last.read_bytes()
    shutil.copytree(locate(MINILM), folder)
    for file in folder.glob("*.safetensors"):
        file.unlink()
    torch.save({"weight": Hostile(marker)}, folder / "pytorch_model.bin")
    elsewhere = [f"paths.runs={tmp_path / 'other'}", "student=2l", "scale=smoke"]
    for legacy in (False, True):
        torch.save({"state_dict": Hostile(marker)}, last, _use_new_zipfile_serialization=not legacy)
        ended = train(runs, "resume=true")
        assert (ended.status, ended.said.startswith(f"error: {last} is damaged: ")) == (1, True), ended.said
        done = command("evaluate.py", f"models={last}", f"paths.evaluations={tmp_path / 'evaluations'}")
        assert (done.returncode, str(last) in done.stderr) == (1, True), done.stderr
    for words in (
        ["train.py", "+experiment=finetune_6l", f"student.init_from=export:{folder}", *elsewhere],
        ["train.py", "+experiment=ranker_distill_6l", f"teacher.path={folder}", *elsewhere],
        ["evaluate.py", f"models={folder}", f"paths.evaluations={tmp_path / 'evaluations'}"],
        ["-m", "rankdistil.export", f"run={folder}", "to=int8"],
    ):
        done = command(*words)
        assert (done.returncode, done.stderr.count("error: ")) == (1, 1), done.stderr
        assert str(folder) in done.stderr
    last.write_bytes(whole)
    saved = torch.load(last, weights_only=True)
    saved["hyper_parameters"] = {"_instantiator": "pathlib.Path.touch", "self": str(marker), "_target_": "pathlib.Path.touch"}
    torch.save(saved, last)
    ended = train(runs, "resume=true")
    assert ended.status == 0, ended.said
    written = runs / RUN / ".hydra/config.yaml"
    cfg = OmegaConf.load(written)
    for node in (cfg.stage, cfg.logger, cfg.trainer, cfg.callbacks.inference_time):
        OmegaConf.update(node, "_target_", "pathlib.Path.touch", force_add=True)
        OmegaConf.update(node, "_args_", [str(marker)], force_add=True)
    OmegaConf.save(cfg, written)
    command("evaluate.py", f"models={runs / RUN}", f"paths.evaluations={tmp_path / 'evaluations'}", QUICK)
    command("-m", "rankdistil.export", f"run={runs / RUN}", "to=fitted")
    assert not marker.exists()
    assert record(runs)["status"] == "finished"


@pytest.mark.fault("G10")
def test_no_file_of_a_store_runs_code_whatever_takes_its_place(tmp_path: Path) -> None:
    """Texts, tokens and BM25's index, as a pickle and as an array of objects."""
    (tmp_path / "home").mkdir()
    marker, store = tmp_path / "executed", tmp_path / "home/store"
    files = {"corpus.tsv": "a\tapples grow\nb\tbees fly\n", "queries.tsv": "1\tapples\n", "qrels.txt": "1 0 a 1\n"}
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    from rankdistil.data.files.folder import FolderSplit

    def read() -> object:
        reader = Reader(FolderSplit(str(tmp_path), "corpus.tsv", "queries.tsv", "qrels.txt", None, None), store=store)
        collection = open_collection(reader, PairEncoder(load_tokenizer(MINILM), 20), store)
        rows = collection.passages.rows(["a", "b"])
        return reader.texts(["a", "b"]), [*collection.passages.gather(rows).rows()], reader.candidates(2)

    whole = read()
    array = np.empty(1, object)
    array[0] = Hostile(marker)
    tried = []
    for file in sorted(path for path in store.rglob("*") if path.is_file() and path.name != ".lock"):
        kept = file.read_bytes()
        file.write_bytes(pickle.dumps(Hostile(marker)))
        _ended(read, whole)
        with file.open("wb") as held:
            np.save(held, array, allow_pickle=True)
        _ended(read, whole)
        if file.exists():
            file.write_bytes(kept)
        tried.append(file.relative_to(store).as_posix())
    assert len(tried) > 5
    assert any("bm25" in name.lower() for name in tried), tried
    assert not marker.exists()


def _ended(read: Callable[[], object], whole: object) -> None:
    """Read; what isn't refused is what was written."""
    try:
        found = read()
    except (ValueError, OSError, RuntimeError, KeyError, EOFError, json.JSONDecodeError):
        return
    assert found == whole
