"""Pairs as texts, in place of token ids: batches for a teacher that reads them with a tokenizer of its own.

The stream of pairs is the one that our rankers score from; only what a batch holds is another thing.
"""

from collections.abc import Iterable, Iterator

import torch

from rankdistil.data.collections.reader import Reader
from rankdistil.data.encode import Rows, Texts
from rankdistil.data.records import TextBatch


class PairTexts:
    """Fetches the texts of pairs. Pickles as its reader, so loader processes open it anew.

    Args:
        reader: the split that the pairs are of.
    """

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    def batches(self, queries: Texts, passages: Texts, batches: Iterable[Rows]) -> Iterator[tuple[Rows, TextBatch]]:
        """Fetch the texts of batches of pairs.

        Args:
            queries: their queries.
            passages: their passages.
            batches: query and passage of each pair, (B, 2) each.

        Yields:
            The pairs of a batch, and the batch.
        """
        for rows in batches:
            asked, answers = queries.names(rows[:, 0]), passages.names(rows[:, 1])
            own, found = self._reader.all_queries, self._reader.texts(answers)
            texts = tuple(own[key] for key in asked), tuple(found[key] for key in answers)
            yield rows, TextBatch(*texts, torch.zeros(len(rows), dtype=torch.int64), asked, answers)
