"""What DataModules share that stream their training batches: the position in the stream, and the loaders."""

import signal
from collections.abc import Sequence
from typing import Any

import lightning as L
from torch.utils.data import DataLoader, IterableDataset

from rankdistil.data.batch import PairBatch
from rankdistil.data.readers import Reader
from rankdistil.signals import STOPPING


class StreamDataModule(L.LightningDataModule):
    """Keeps the number of batches trained, which checkpoints save: a resumed run continues behind them.

    Args:
        workers: loader processes; 0 encodes in the training process.
    """

    def __init__(self, workers: int) -> None:
        super().__init__()
        self._workers = workers
        self.trained_batches = 0

    @property
    def readers(self) -> list[Reader]:
        """The readers of what is trained, validated and tested on."""
        raise NotImplementedError

    def account(self) -> dict[str, Any]:
        """Say what was left out of the data, for records; of what has been read so far."""
        return {"bad_lines": {file: told for reader in self.readers for file, told in reader.bad.account().items()}}

    def training_stream(self, rank: int, world: int, start: int, accumulated: int = 1) -> IterableDataset:
        """Return the endless stream of a process's training batches from batch ``start``; a step takes ``accumulated`` of them.

        Raises:
            ValueError: if the groups of a step can't be shared out evenly.
        """
        raise NotImplementedError

    def first_batches(self, pairs: int) -> Sequence[PairBatch]:
        """Return the batches of the first steps, until they hold so many pairs; the same in any number of processes."""
        batches: list[PairBatch] = []
        for batch in self.training_stream(0, 1, 0):
            batches.append(batch)
            pairs -= len(batch.labels)
            if pairs <= 0:
                break
        return batches

    def train_dataloader(self) -> DataLoader:
        """Return the endless stream of training batches; ``open`` comes first."""
        return self.loader(self.training_stream(*self.place(), self.trained_batches, self.accumulated()))

    def state_dict(self) -> dict[str, int]:
        """Return the position in the stream: batches trained by each process, and into how many a step is cut."""
        return {"trained_batches": self.trained_batches, "processes": self.place()[1], "accumulated": self.accumulated()}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Continue behind the batches trained.

        Raises:
            ValueError: if they were those of another number of processes, or of accumulated batches: the position would be
                another, and not even the sums of gradients would be the same to the last bit.
        """
        now = {"processes": self.place()[1], "accumulated": self.accumulated()}
        saved = {key: state_dict.get(key, value) for key, value in now.items()}
        if saved != now:
            told = [f"{each['processes']} processes with {each['accumulated']} accumulated batches" for each in (saved, now)]
            raise ValueError(
                f"the checkpoint was saved by {told[0]}, and {told[1]} would continue it: not the same batches. Continue with "
                f"trainer.devices x trainer.num_nodes = {saved['processes']} and "
                f"trainer.accumulate_grad_batches={saved['accumulated']}, or start again in another folder."
            )
        self.trained_batches = state_dict["trained_batches"]

    def loader(self, stream: IterableDataset) -> DataLoader:
        """Wrap a stream that yields whole batches."""
        return DataLoader(
            stream, batch_size=None, num_workers=self._workers, collate_fn=_as_it_is, worker_init_fn=_leave_signals
        )

    def accumulated(self) -> int:
        """Return the number of batches that make a step of a process."""
        return self.trainer.accumulate_grad_batches if self.trainer else 1

    def place(self) -> tuple[int, int]:
        """Return this process's rank and the number of processes."""
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)


def _leave_signals(worker: int) -> None:
    """Let the training process alone decide what a signal to all processes means; it ends its workers itself."""
    for signum in STOPPING:
        signal.signal(signum, signal.SIG_IGN)


def _as_it_is(batch: PairBatch) -> PairBatch:
    """Keep a batch's tuples of ids: torch's own conversion would make lists of them."""
    return batch
