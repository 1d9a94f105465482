"""The export: a Hugging Face folder for the next stage, for ``evaluate.py`` and for the user's own service."""

from pathlib import Path

import lightning as L
import torch

from rankdistil.data.encode import PairEncoder
from rankdistil.inference.export import write_export


class SaveExport(L.Callback):
    """Writes ``export/`` when training ends, with the weights of the best validation (the last ones if nothing was validated).

    Args:
        folder: the export folder.
        encoder: its tokenizer and length go into the export.
    """

    def __init__(self, folder: Path, encoder: PairEncoder) -> None:
        self._folder, self._encoder = folder, encoder

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write the folder."""
        if not trainer.is_global_zero or trainer.interrupted:
            return
        best = trainer.checkpoint_callback.best_model_path if trainer.checkpoint_callback else ""
        if best:
            state = torch.load(best, map_location="cpu", weights_only=True)["state_dict"]
            prefix = "ranker."
            weights = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
            pl_module.ranker.load_state_dict(weights)
        own = self._encoder
        trains_head = pl_module.losses.trains_head
        write_export(self._folder, pl_module.ranker, own.tokenizer, own.max_length, trains_head)
