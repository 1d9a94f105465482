"""Checkpointing: checkpoints and exports that are whole, or not there."""

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from lightning.pytorch.callbacks import ModelCheckpoint

from rankdistil.data.encode import PairEncoder
from rankdistil.files import written
from rankdistil.inference.export_files import write_export


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes beside the target, flushes, renames.

    Lightning's own way goes through the system's temporary folder, and a move
    from another file system leaves a broken file under the final name when it is interrupted. Loads plain tensors only.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Save in one step."""
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        with written(Path(path), _bytes(checkpoint)) as place, place.open("wb") as file:
            torch.save(checkpoint, file)

    def load_checkpoint(self, path: str | Path, map_location: Any = None, weights_only: bool | None = True) -> dict[str, Any]:
        """Load without executing anything."""
        return torch.load(path, map_location="cpu", weights_only=True)


def _bytes(part: Any) -> int:
    """Count the bytes of all tensors in a checkpoint, or in a part of it."""
    if isinstance(part, torch.Tensor):
        return part.nbytes
    parts = part.values() if isinstance(part, Mapping) else part if isinstance(part, list | tuple) else ()
    return sum(map(_bytes, parts))


class RunCheckpoint(ModelCheckpoint):
    """Keeps a checkpoint in a run's folder, which may be moved or copied before it is resumed there.

    Lightning remembers absolute paths; where they have changed, it forgets by what value the best one was chosen.
    """

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Find the files by their names."""
        found = {key: self._here(state_dict[key]) for key in ("best_model_path", "kth_best_model_path", "last_model_path")}
        kept = {self._here(path): value for path, value in state_dict["best_k_models"].items()}
        super().load_state_dict(state_dict | found | {"best_k_models": kept, "dirpath": self.dirpath})

    def _here(self, path: str) -> str:
        return str(Path(self.dirpath, Path(path).name)) if path else ""


def require_resumable(last: Path) -> None:
    """See that a run can go on, and come to its end: its last checkpoint is whole, and the best one that this tells of.

    Raises:
        FileNotFoundError: if the best one isn't there.
        ValueError: naming the one that is damaged, what is wrong, and what to do.
    """
    require_whole(last)
    states = torch.load(last, map_location="cpu", mmap=True, weights_only=True)["callbacks"].values()
    kept = {Path(state["best_model_path"]).name for state in states if state.get("best_model_path")}
    for name in kept - {last.name}:
        require_best(last.with_name(name))


def require_best(file: Path) -> None:
    """See that a run's best checkpoint, whose weights it hands on, is there and whole.

    Raises:
        FileNotFoundError: if it isn't there.
        ValueError: if it is damaged.
    """
    fix = f"Put it back from a copy of the run, or remove {file.parent.parent} to start again."
    if not file.is_file():
        raise FileNotFoundError(f"{file} isn't there, the run's best checkpoint so far. {fix}")
    if fault := _fault(file):
        raise ValueError(f"{file}, the run's best checkpoint so far, is damaged: {fault}. {fix}")


def require_whole(file: Path) -> None:
    """See that a checkpoint holds what was written: torch keeps a checksum of every part, and doesn't look at it.

    Raises:
        ValueError: naming the file, what is wrong, and what to go on from.
    """
    if (fault := _fault(file)) is None:
        return
    others = [other for other in sorted(file.parent.glob("*.ckpt")) if other != file and _fault(other) is None]
    run = file.parent.parent
    fix = f"Remove {run} to start again."
    if others:
        step = torch.load(others[0], mmap=True, weights_only=True)["global_step"]
        fix = f"{others[0]} is whole, of step {step}: to go on from there, cp {others[0]} {file}. Or remove {run}."
    raise ValueError(f"{file} is damaged: {fault}. {fix}")


def _fault(file: Path) -> str | None:
    if file.stat().st_size == 0:
        return "it is empty"
    try:
        with zipfile.ZipFile(file) as archive:
            if part := archive.testzip():
                return f"its part {part} isn't what was written"
        torch.load(file, map_location="cpu", mmap=True, weights_only=True)["global_step"]  # for the table of its parts
    except Exception as error:  # both raise a dozen kinds of them for one wrong byte
        return f"it has lost its end or was changed ({str(error).partition('. ')[0] or type(error).__name__})"
    return None


class SaveExport(L.Callback):
    """Writes ``export/`` when training ends, with the weights of the best validation (the last ones if nothing was validated).

    Args:
        folder: the export folder.
        encoder: its tokenizer, length and windows go into the export.
    """

    def __init__(self, folder: Path, encoder: PairEncoder) -> None:
        self._folder, self._encoder = folder, encoder

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write the folder."""
        if not trainer.is_global_zero or trainer.interrupted:
            return
        best = trainer.checkpoint_callback.best_model_path if trainer.checkpoint_callback else ""
        if best:
            require_best(Path(best))
            state = torch.load(best, map_location="cpu", weights_only=True)["state_dict"]
            prefix = "ranker."
            weights = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
            pl_module.ranker.load_state_dict(weights)
        own = self._encoder
        trains_head = pl_module.losses.trains_head
        write_export(self._folder, pl_module.ranker, own.tokenizer, own.max_length, trains_head, own.windows)
