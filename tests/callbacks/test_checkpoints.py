"""A checkpoint that isn't what was written is told, wherever it is damaged, with what to go on from."""

import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from rankdistil.callbacks.checkpoints import AtomicCheckpointIO, RunCheckpoint, SaveExport, require_resumable, require_whole

STATE = {"global_step": 6, "state_dict": {"weight": torch.arange(3000.0)}}


@pytest.fixture
def last(tmp_path: Path) -> Path:
    """``last.ckpt`` of a run, as training saves it; alone."""
    file = tmp_path / "seed0/checkpoints/last.ckpt"
    AtomicCheckpointIO().save_checkpoint(STATE, file)
    require_whole(file)
    return file


def flip(file: Path, at: int) -> None:
    content = bytearray(file.read_bytes())
    content[at] ^= 0xFF
    file.write_bytes(content)


@pytest.mark.parametrize("share", [0.5, 0.999])
@pytest.mark.fault("C9")
def test_a_cut_checkpoint_is_told(last: Path, share: float) -> None:
    last.write_bytes(last.read_bytes()[: int(share * last.stat().st_size)])
    with pytest.raises(ValueError) as error:
        require_whole(last)
    run = last.parent.parent
    assert str(error.value) == (
        f"{last} is damaged: it has lost its end or was changed (File is not a zip file). Remove {run} to start again."
    )


@pytest.mark.fault("C9")
def test_an_empty_checkpoint_is_told_with_the_whole_one_that_is_there(last: Path) -> None:
    best = last.with_name("best.ckpt")
    AtomicCheckpointIO().save_checkpoint(STATE | {"global_step": 4}, best)
    last.write_bytes(b"")
    with pytest.raises(ValueError) as error:
        require_whole(last)
    assert str(error.value) == (
        f"{last} is damaged: it is empty. {best} is whole, of step 4: to go on from there, cp {best} {last}. Or remove "
        f"{last.parent.parent}."
    )


@pytest.mark.fault("C9")
def test_one_wrong_byte_in_the_weights_is_told_and_a_damaged_alternative_is_not_named(last: Path) -> None:
    best = last.with_name("best.ckpt")
    best.write_bytes(last.read_bytes()[:-1000])
    flip(last, last.read_bytes().index(torch.arange(3000.0).numpy().tobytes()) + 5000)
    with pytest.raises(ValueError) as error:
        require_whole(last)
    assert str(error.value) == (
        f"{last} is damaged: its part archive/data/0 isn't what was written. Remove {last.parent.parent} to start again."
    )


@pytest.mark.fault("C9")
def test_a_wrong_byte_anywhere_is_told_or_changes_nothing(last: Path) -> None:
    whole, told = last.read_bytes(), []
    for at in range(0, len(whole), 97):
        flip(last, at)
        try:
            require_whole(last)
        except ValueError as error:
            told.append(str(error))
        else:
            found = torch.load(last, weights_only=True)
            assert found["global_step"] == 6
            assert torch.equal(found["state_dict"]["weight"], STATE["state_dict"]["weight"])
        last.write_bytes(whole)
    assert all(message.startswith(f"{last} is damaged: ") for message in told)
    assert len(told) > len(whole) / 97 / 2  # most of the file is weights


def test_a_file_of_something_else_is_no_checkpoint(last: Path) -> None:
    with zipfile.ZipFile(last, "w") as archive:
        archive.writestr("readme.txt", "nothing")
    with pytest.raises(ValueError, match=r"last\.ckpt is damaged: it has lost its end or was changed \(.+\)\. Remove "):
        require_whole(last)


def best_of(folder: Path) -> RunCheckpoint:
    return RunCheckpoint(folder / "checkpoints", "best", monitor="val/nDCG@10", mode="max")


@pytest.fixture
def moved(tmp_path: Path) -> tuple[RunCheckpoint, dict]:
    """Return the best checkpoint of a folder to which a run was moved, not loaded yet, and what it knew in the other."""
    before, value = best_of(tmp_path / "old"), torch.tensor(0.7)
    file = f"{tmp_path}/old/checkpoints/best.ckpt"
    before.best_model_path = before.kth_best_model_path = file
    before.best_model_score, before.kth_value, before.best_k_models = value, value, {file: value}
    return best_of(tmp_path / "new"), before.state_dict()


def test_a_run_that_is_resumed_in_another_folder_remembers_its_best_checkpoint(tmp_path: Path, moved) -> None:
    best, known = moved
    for place in ("old", "new"):  # a copy leaves the other one there
        AtomicCheckpointIO().save_checkpoint(STATE, tmp_path / place / "checkpoints/best.ckpt")
    best.load_state_dict(known)
    trainer = SimpleNamespace(strategy=SimpleNamespace(reduce_boolean_decision=bool))
    assert (best.best_model_path, float(best.best_model_score)) == (f"{tmp_path}/new/checkpoints/best.ckpt", pytest.approx(0.7))
    assert [best.check_monitor_top_k(trainer, torch.tensor(value)) for value in (0.6, 0.8)] == [False, True]


@pytest.fixture
def stopped(tmp_path: Path, moved) -> Path:
    """``best.ckpt`` of a run that was moved, stopped after it."""
    io, (_, known) = AtomicCheckpointIO(), moved
    io.save_checkpoint(STATE | {"callbacks": {"best": known, "other": {}}}, tmp_path / "new/checkpoints/last.ckpt")
    file = tmp_path / "new/checkpoints/best.ckpt"
    io.save_checkpoint(STATE, file)
    require_resumable(file.with_name("last.ckpt"))
    return file


def test_a_best_checkpoint_that_is_gone_is_told_before_the_run_goes_on(stopped: Path) -> None:
    stopped.unlink()
    with pytest.raises(FileNotFoundError) as error:
        require_resumable(stopped.with_name("last.ckpt"))
    assert str(error.value) == (
        f"{stopped} isn't there, the run's best checkpoint so far. Put it back from a copy of the run, or remove "
        f"{stopped.parent.parent} to start again."
    )


def test_a_best_checkpoint_that_is_cut_or_has_a_wrong_byte_is_told(stopped: Path) -> None:
    whole = stopped.read_bytes()
    faults = {
        "it has lost its end or was changed (File is not a zip file)": lambda: stopped.write_bytes(whole[: len(whole) // 2]),
        "its part archive/data/0 isn't what was written": lambda: flip(stopped, len(whole) // 2),
        "it is empty": lambda: stopped.write_bytes(b""),
    }
    for fault, damage in faults.items():
        stopped.write_bytes(whole)
        damage()
        with pytest.raises(ValueError) as error:
            require_resumable(stopped.with_name("last.ckpt"))
        assert str(error.value) == (
            f"{stopped}, the run's best checkpoint so far, is damaged: {fault}. Put it back from a copy of the run, or remove "
            f"{stopped.parent.parent} to start again."
        )


def test_a_best_checkpoint_that_was_damaged_while_the_run_went_on_is_not_exported(stopped: Path) -> None:
    flip(stopped, stopped.stat().st_size // 2)
    trainer = SimpleNamespace(
        is_global_zero=True, interrupted=False, checkpoint_callback=SimpleNamespace(best_model_path=str(stopped))
    )
    with pytest.raises(ValueError, match="best checkpoint so far, is damaged: its part "):
        SaveExport(stopped.parents[1] / "export", None).on_fit_end(trainer, None)
    assert not (stopped.parents[1] / "export").exists()
