"""Records that readers yield, and batches that travel to the modules and back."""

from typing import NamedTuple

from torch import Tensor


class Triple(NamedTuple):
    """A query, a passage that answers it, and one that doesn't (or is not known to)."""

    query_id: str
    positive_id: str
    negative_id: str


class Candidate(NamedTuple):
    """A passage that a first stage found for a query, with the first stage's score."""

    passage_id: str
    score: float


class Pair(NamedTuple):
    """A query-passage pair with its texts, ready to be encoded."""

    query_id: str
    passage_id: str
    query: str
    passage: str


Qrels = dict[str, dict[str, int]]
"""Judgments: query id -> passage id -> grade."""

Ranking = dict[str, list[Candidate]]
"""Query id -> candidates, best first."""


class PairBatch(NamedTuple):
    """A batch of encoded query-passage pairs.

    Attributes:
        input_ids: [CLS] query [SEP] passage [SEP] and padding, int64, (B, T).
        attention_mask: 1 for a real token, 0 for padding, int64, (B, T).
        token_type_ids: 0 up to the first [SEP], 1 after it, int64, (B, T).
        labels: 1 for a positive, 0 for a negative, float32, (B,).
        groups: pairs of one triple share a number, int64, (B,).
        query_ids: one per pair; none in a batch that counts for nothing.
        passage_ids: one per pair; none in a batch that counts for nothing.
        teacher_logits: the teacher's, where they were written down before, float32, (B,); else None.
        tokens: how many are real. Like ``sizes`` it is known where a batch is made: a GPU that is asked for it is waited for,
            with nothing left to do. None where the batch doesn't say.
        sizes: how many groups there are, and pairs of the largest.
        windows: number of the document's window that each pair is of; None where pairs are of whole passages.
    """

    input_ids: Tensor
    attention_mask: Tensor
    token_type_ids: Tensor
    labels: Tensor
    groups: Tensor
    query_ids: tuple[str, ...]
    passage_ids: tuple[str, ...]
    teacher_logits: Tensor | None = None
    tokens: int | None = None
    sizes: tuple[int, int] | None = None
    windows: tuple[int, ...] | None = None

    def uncounted(self) -> "PairBatch":
        """Return a batch that is run and counts for nothing: Lightning raises in a process that has none of its own."""
        return self._replace(query_ids=(), passage_ids=())

    def scored(self, logits: Tensor) -> "ScoredPairs":
        """Return a network's logits, (B,), with the ids that they belong to."""
        windows = self.windows and self.windows[: len(self.query_ids)]
        return ScoredPairs(self.query_ids, self.passage_ids, logits.float()[: len(self.query_ids)], windows=windows)


class TextBatch(NamedTuple):
    """A batch of query-passage pairs as texts, for a network with a tokenizer of its own.

    Attributes:
        queries: text of each, B of them.
        passages: text of each.
        groups: pairs of one shard share a number, int64, (B,).
        query_ids: one per pair; none in a batch that counts for nothing.
        passage_ids: one per pair; none in a batch that counts for nothing.
    """

    queries: tuple[str, ...]
    passages: tuple[str, ...]
    groups: Tensor
    query_ids: tuple[str, ...]
    passage_ids: tuple[str, ...]
    windows = None  # each kind of teacher cuts texts by a rule of its own
    uncounted, scored = PairBatch.uncounted, PairBatch.scored


class ScoredPairs(NamedTuple):
    """What validation and test steps return: scores of pairs, with the ids they belong to.

    Attributes:
        query_ids: one per pair.
        passage_ids: one per pair.
        scores: logits in float32, (B,).
        teacher_scores: the teacher's logits of the same pairs, (B,); None where no teacher is asked.
        windows: as of ``PairBatch``.
    """

    query_ids: tuple[str, ...]
    passage_ids: tuple[str, ...]
    scores: Tensor
    teacher_scores: Tensor | None = None
    windows: tuple[int, ...] | None = None
