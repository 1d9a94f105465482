"""Settings of ``data``: sizes, depths, negatives, language."""

from dataclasses import dataclass
from math import isfinite

from rankdistil.data.windows import Windows

TRAIN_ON = ("auto", "docpairs", "sampled")
NO_COUNT = ("train_on", "store", "negatives_margin", "negatives_scores", "language", "windows")
STEMMERS = {  # ISO 639-1 code -> Snowball's algorithm
    "ar": "arabic", "ca": "catalan", "da": "danish", "de": "german", "el": "greek", "en": "english", "es": "spanish",
    "et": "estonian", "eu": "basque", "fi": "finnish", "fr": "french", "ga": "irish", "hi": "hindi", "hu": "hungarian",
    "hy": "armenian", "id": "indonesian", "it": "italian", "lt": "lithuanian", "ne": "nepali", "nl": "dutch", "no": "norwegian",
    "pt": "portuguese", "ro": "romanian", "ru": "russian", "sr": "serbian", "sv": "swedish", "ta": "tamil", "tr": "turkish",
    "yi": "yiddish",
}  # fmt: skip


@dataclass(frozen=True)
class DataSettings:
    """Plain settings of ``data``.

    Attributes:
        batch_size: groups in an optimiser step, over all processes and accumulated batches (triples, with one negative); as
            many passages as these have pairs, where passages are read as text.
        eval_batch_size: pairs per batch in validation and test.
        max_length: tokens of a pair at most, the special ones among them.
        train_on: ``auto``, ``docpairs`` or ``sampled``.
        negatives_depth: candidates that sampled negatives are drawn from.
        negatives_skip: how many of them are left out at the top.
        negatives: negatives in a group.
        negatives_margin: leaves out negatives that ``negatives_scores`` don't put below the positive by this much; None
            leaves out none. Of negatives that are mined, the miner's own scores.
        negatives_scores: folder of a teacher's scores, for ``negatives_margin``.
        max_tokens: tokens in an optimiser step, over all processes and accumulated batches, padding included, in place of
            ``batch_size``; None counts groups.
        store: folder where texts are kept as token ids, tokenised once; None tokenises them each time.
        windows: that documents are read in which a pair has no room for; None cuts them.
        language: of the collection, one of ``STEMMERS``, for BM25 and the model card; None for another one.
        relevance_level: lowest grade that counts as relevant, for positives, RR and AP.
        depth: candidates re-ranked per test query.
        valid_depth: candidates re-ranked per validation query.
        valid_queries: validation queries used at most.
        valid_passages: passages set apart for validation where passages are read as text.
        test_queries: test queries used at most; all if None.
        workers: loader processes; 0 encodes in the training process.
    """

    batch_size: int
    eval_batch_size: int
    max_length: int
    train_on: str
    negatives_depth: int
    relevance_level: int
    depth: int
    valid_depth: int
    valid_queries: int
    negatives: int = 1
    negatives_skip: int = 0
    negatives_margin: float | None = None
    negatives_scores: str | None = None
    valid_passages: int = 1000
    test_queries: int | None = None
    workers: int = 0
    max_tokens: int | None = None
    store: str | None = None
    language: str | None = "en"
    windows: Windows | None = None

    def __post_init__(self) -> None:
        if self.train_on not in TRAIN_ON:
            raise ValueError(f"data.train_on is {self.train_on!r}; expected one of {', '.join(TRAIN_ON)}.")
        if self.language is not None and self.language not in STEMMERS:
            raise ValueError(
                f"data.language is {self.language!r}; expected one of {', '.join(STEMMERS)}, whose words BM25 can stem, or "
                "null for another language, whose words stay as they are."
            )
        margin = self.negatives_margin
        if isinstance(margin, bool) or not isinstance(margin, int | float | None) or not isfinite(margin or 0):
            raise ValueError(f"data.negatives_margin is {self.negatives_margin!r}; expected a number of logits, or null.")
        for name, value in vars(self).items():
            if name in NO_COUNT or (name in ("test_queries", "max_tokens") and value is None):
                continue
            low = 0 if name in ("workers", "negatives_skip") else 1
            if isinstance(value, bool) or not isinstance(value, int) or value < low:
                raise ValueError(f"data.{name} is {value!r}; expected a whole number of at least {low}.")
        if self.train_on == "docpairs" and self.negatives != 1:
            raise ValueError(
                f"data.negatives={self.negatives} needs data.train_on=sampled: the triples of a dataset have one negative each."
            )
        if self.max_tokens is not None and self.store is None:
            raise ValueError("data.max_tokens needs data.store=<folder>: without one, a text's tokens aren't known beforehand.")

    def reranked(self, split: str) -> tuple[int, int | None]:
        """Return how many candidates of a query are re-ranked in ``valid`` or ``test``, and of how many queries at most."""
        return (self.valid_depth, self.valid_queries) if split == "valid" else (self.depth, self.test_queries)

    def require_equal_shares(self, processes: int, accumulated: int) -> None:
        """See that every process and accumulated batch has as many groups of a step as any other.

        Raises:
            ValueError: naming the settings, and a size that can be shared out.
        """
        parts = processes * accumulated
        if self.batch_size % parts:
            raise ValueError(
                f"data.batch_size={self.batch_size} is the size of a whole step, which can't be shared out evenly over "
                f"{processes} processes (trainer.devices x trainer.num_nodes) x {accumulated} accumulated batches "
                f"(trainer.accumulate_grad_batches). Set it to a multiple of {parts}, for example "
                f"{max(1, round(self.batch_size / parts)) * parts}."
            )
