"""Words whose token ids are known, as frequent as in real text: texts of any amount, with the tokens that they must give."""

from operator import itemgetter

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerFast

from rankdistil.data.encode import Segment

WIDTH = 16  # bytes of a word, with the blank or the line's end behind it
PIECES = 4  # word pieces of a word, at most
TOKENS_PER_WORD = 1.31  # of MS MARCO passages: 72.7 word pieces of 55.6 words
FLATTENED = 2.7  # Mandelbrot's shift of Zipf's law
PLACES = 1 << 20  # of the table that words are drawn from: the rarest word's share
NONE = np.iinfo(np.uint32).max


class Words:
    """Words of the tokenizer's own vocabulary, whole or joined from pieces, drawn by Zipf's law.

    Args:
        tokenizer: of a lower-case BERT: its vocabulary lists words by frequency, which gives their ranks.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        vocabulary = [token for token, _ in sorted(tokenizer.get_vocab().items(), key=itemgetter(1))]
        whole = [token for token in vocabulary if _plain(token) and len(token) > 1]
        ends = [token[2:] for token in vocabulary if token.startswith("##") and _plain(token[2:])]
        joined = [word + ends[rank % len(ends)] + ends[7 * rank % len(ends)] for rank, word in enumerate(whole)]
        texts = [text for text in dict.fromkeys(whole + joined) if len(text) < WIDTH]
        pieces = tokenizer(texts, add_special_tokens=False, return_attention_mask=False, return_token_type_ids=False)[
            "input_ids"
        ]
        kept = [(text, row) for text, row in zip(texts, pieces, strict=True) if len(row) <= PIECES]
        self._counts = np.array([len(row) for _, row in kept])
        self._pieces = np.array([row + [NONE] * (PIECES - len(row)) for _, row in kept], np.uint32)
        ended = [text + end for end in (" ", "\n") for text, _ in kept]
        self._bytes = np.array(ended, f"S{WIDTH}").view(np.uint8).reshape(len(ended), WIDTH)
        self._table = self._drawn_from()

    def _drawn_from(self) -> NDArray[np.uint16]:
        """Lay out words so that a place drawn evenly gives each as often as Zipf's law says, and the right share of pieces."""
        single = self._counts == 1
        weight = np.zeros(len(self._counts))
        for chosen in (single, ~single):
            share = 1 / (np.arange(chosen.sum()) + 1 + FLATTENED)
            weight[chosen] = share / share.sum()
        joined = (TOKENS_PER_WORD - 1) / ((weight * self._counts)[~single].sum() - 1)
        weight *= np.where(single, 1 - joined, joined)
        return np.searchsorted(weight.cumsum(), (np.arange(PLACES) + 0.5) / PLACES).clip(max=len(weight) - 1).astype(np.uint16)

    def draw(self, random: np.random.Generator, count: int) -> NDArray[np.uint16]:
        """Draw words, (count,)."""
        return self._table[random.integers(0, PLACES, count, dtype=np.uint32)]

    def lines(self, ids: NDArray[np.bytes_], words: NDArray[np.uint16], lengths: NDArray[np.int64]) -> bytes:
        """Write ``id<TAB>text`` lines.

        Args:
            ids: of the texts, (N,), shorter than ``WIDTH``.
            words: of all texts, one after the other.
            lengths: words of each text, at least 1, (N,).
        """
        starts = np.arange(len(ids)) + lengths.cumsum() - lengths
        cells = np.empty((len(words) + len(ids), WIDTH), np.uint8)
        number = words.astype(np.int64)
        number[lengths.cumsum() - 1] += len(self._counts)  # these end a line
        text = np.ones(len(cells), bool)
        text[starts] = False
        cells[text] = self._bytes[number]
        cells[starts] = np.char.add(ids, b"\t").astype(f"S{WIDTH}").view(np.uint8).reshape(-1, WIDTH)
        return cells[cells != 0].tobytes()

    def tokens(self, words: NDArray[np.uint16], lengths: NDArray[np.int64]) -> Segment:
        """Return the token ids of texts; arguments as of ``lines``."""
        pieces = self._pieces[words]
        return Segment(pieces[pieces != NONE], np.add.reduceat(self._counts[words], lengths.cumsum() - lengths))


def _plain(token: str) -> bool:
    return token.isascii() and token.isalpha() and token.islower()
