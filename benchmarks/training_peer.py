"""sentence-transformers' CrossEncoderTrainer on stored margins: what training on cached logits is measured beside."""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.rankers import prepare
from benchmarks.training_texts import LENGTH, TRIPLES, Work


def peer(name: str, work: Work, mixed: bool) -> Callable[[], float]:
    """Return a run of the peer's own trainer over all triples.

    Args:
        name: size of what learns.
        work: its triples, in arbitrary order, as its default has them.
        mixed: bfloat16 mixed precision, its fastest setting; its default is float32.

    Returns:
        A run, which gives its seconds of process time, from its first step's start to its last one's end.

    Raises:
        ImportError: without ``accelerate`` and ``datasets``, which its trainer asks for.
    """
    from accelerate.state import AcceleratorState
    from datasets import Dataset
    from sentence_transformers import CrossEncoder
    from sentence_transformers.cross_encoder import CrossEncoderTrainer, CrossEncoderTrainingArguments
    from sentence_transformers.cross_encoder.losses import MarginMSELoss
    from transformers import PrinterCallback, TrainerCallback

    class Clock(TrainerCallback):
        """Counts from the end of a first step, which is a repeated batch and makes the optimiser's state."""

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if state.global_step == 1:
                self.start = time.process_time()
            self.end = time.process_time()

    with tempfile.TemporaryDirectory() as place:
        ranker = CrossEncoder(str(prepare(name, Path(place), seed=0).folder), device="cpu", max_length=LENGTH)
    triples = [*work.triples[:TRIPLES], *work.triples]
    columns = dict(zip(("query", "positive", "negative"), map(list, zip(*triples, strict=True)), strict=True))
    data = Dataset.from_dict(columns | {"score": [0.5] * len(triples)})
    folder = tempfile.mkdtemp()
    settings = CrossEncoderTrainingArguments(
        output_dir=folder, per_device_train_batch_size=TRIPLES, max_steps=len(triples) // TRIPLES, bf16=mixed, use_cpu=True,
        report_to="none", save_strategy="no", logging_strategy="no", disable_tqdm=True, learning_rate=1e-4,
        batch_sampler=_in_order,
    )  # fmt: skip

    def run() -> float:
        AcceleratorState._reset_state()  # of the other precision
        clock = Clock()
        trainer = CrossEncoderTrainer(ranker, settings, data, loss=MarginMSELoss(ranker), callbacks=[clock])
        trainer.remove_callback(PrinterCallback)
        trainer.train()
        return clock.end - clock.start

    return run


def _in_order(dataset: Any, batch_size: int, drop_last: bool, **_: Any) -> Any:
    from sentence_transformers.base.sampler import DefaultBatchSampler
    from torch.utils.data import SequentialSampler

    return DefaultBatchSampler(SequentialSampler(dataset), batch_size, drop_last)
