"""Queries and candidates with the lengths of MS MARCO's, of words from the tokenizer's vocabulary."""

import numpy as np
from transformers import PreTrainedTokenizerFast

from benchmarks.words import Words

WORDS, SPREAD, LEAST = 55.6, 24.0, 8  # words of a passage: mean and standard deviation of MS MARCO's
QUERY_WORDS = 6
BATCH = 32  # of sentence-transformers, whose default sorts by characters


def draw(tokenizer: PreTrainedTokenizerFast, passages: int, seed: int) -> tuple[str, list[str]]:
    """Draw a query and its candidates."""
    random, words = np.random.default_rng(seed), Words(tokenizer)
    shape = (WORDS - LEAST) ** 2 / SPREAD**2  # a gamma distribution: no passage is shorter than the least, some are very long
    lengths = (LEAST + random.gamma(shape, SPREAD**2 / (WORDS - LEAST), passages)).astype(np.int64)
    lengths = np.append(lengths, QUERY_WORDS)
    lines = words.lines(np.full(len(lengths), b"x"), words.draw(random, int(lengths.sum())), lengths).decode().splitlines()
    *texts, query = (line.partition("\t")[2] for line in lines)
    return query, texts


def whole_batches(passages: list[str], every: int) -> list[str]:
    """Take every so many-th batch of the list sorted by characters: a smaller list with the padding of the whole."""
    ordered = sorted(passages, key=len, reverse=True)
    return [text for at in range(0, len(ordered), BATCH * every) for text in ordered[at : at + BATCH]]
