"""The export: a Hugging Face folder for the next stage, for ``evaluate.py`` and for the user's own service."""

from pathlib import Path

import lightning as L
import torch
from transformers import PreTrainedTokenizerFast

from rankdistil.inference.export import write_export


class SaveExport(L.Callback):
    """Writes ``export/`` when training ends, with the weights of the best validation (the last ones if nothing was validated).

    Args:
        folder: the export folder.
        tokenizer: goes into the export.
        max_tokens: longest input, [CLS] and [SEP] included.
    """

    def __init__(self, folder: Path, tokenizer: PreTrainedTokenizerFast, max_tokens: int) -> None:
        self._folder, self._tokenizer, self._max_tokens = folder, tokenizer, max_tokens

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
        write_export(self._folder, pl_module.ranker, self._tokenizer, self._max_tokens, pl_module.losses.trains_head)
