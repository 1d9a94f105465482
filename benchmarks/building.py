"""What is done once per collection: texts to token ids, triples to rows; and the stores that the measurements read."""

import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from benchmarks.setting import Setting
from benchmarks.synthetic import Sizes, passages
from benchmarks.words import Words
from rankdistil.data.assemble import Segment
from rankdistil.data.collection import open_collection
from rankdistil.data.groups import row_chunks
from rankdistil.data.store.build import SOURCE, ensure, write_ragged
from rankdistil.data.store.tokens import open_tokens, tokenizer_fingerprint
from rankdistil.data.store.triples import open_triples


def build(setting: Setting, sizes: Sizes, words: Words, direct: bool) -> dict[str, float | None]:
    """Build the stores that aren't there.

    Args:
        setting: of the collection.
        sizes: of the collection.
        words: that it was drawn from.
        direct: write the passages' token ids as they were drawn, through the writer of the token store, instead of tokenising
            their texts: the words' ids are known, and the measurement of batches checks that they are the tokenizer's.

    Returns:
        Seconds of each step; None where it found its result.
    """
    reader, encoder = setting.reader(), setting.encoder()
    seconds: dict[str, float | None] = {}
    if direct:
        name, source = reader.origin("passages")
        made_of = {"tokenizer": tokenizer_fingerprint(encoder.tokenizer), "budget": setting.passage_tokens, SOURCE: source}
        folder = setting.store / f"{name}-passages"
        seconds["passages written"] = _timed(
            folder, lambda: ensure(folder, made_of, _writer(sizes, words, encoder.passage_tokens))
        )
    stores = setting.store / f"{reader.origin('queries')[0]}-queries"
    seconds["queries tokenised" if direct else "texts tokenised"] = _timed(
        stores, lambda: open_collection(reader, encoder, setting.store)
    )
    collection = open_collection(reader, encoder, setting.store)
    triples = setting.store / f"{reader.origin('docpairs')[0]}-triples"
    seconds["triples mapped"] = _timed(triples, lambda: open_triples(setting.store, reader, collection))
    docstore = Path(setting.folder) / "docs.tsv.pklz4"
    seconds["docstore of ir_datasets"] = _timed(docstore, lambda: reader.find(["0"]))
    return seconds


def _writer(sizes: Sizes, words: Words, budget: int) -> Callable[[Path], dict[str, Any]]:
    def chunks() -> Iterator[tuple[list[str], Segment]]:
        for ids, drawn, lengths in passages(words, sizes):
            tokens = words.tokens(drawn, lengths)
            if tokens.lengths.max() > budget:
                raise ValueError(f"a passage has {tokens.lengths.max()} tokens, more than {budget}: use --store tokenise.")
            yield ids.astype(str).tolist(), tokens

    return lambda building: write_ragged(building, chunks(), np.dtype(np.uint16)) | {"cut": 0, "empty": 0}


def _timed(result: Path, make: Callable[[], object]) -> float | None:
    there, start = result.exists(), time.perf_counter()
    make()
    return None if there else time.perf_counter() - start


def tokenising(setting: Setting, sample: int) -> dict[str, float]:
    """Measure texts to a token store: read from ir_datasets, tokenised, written, in this process's environment.

    Args:
        setting: of the collection.
        sample: passages, its first.

    Returns:
        Passages per second, and per second of all cores together; passages tokenised.
    """
    reader, encoder = setting.reader(), setting.encoder()
    with TemporaryDirectory(dir=setting.folder) as folder:
        wall, core = time.perf_counter(), time.process_time()
        store = open_tokens(
            Path(folder) / "sample",
            lambda: islice(reader.passages(), sample),
            encoder,
            encoder.passage_tokens,
            {"sample": sample},
        )
        wall, core = time.perf_counter() - wall, time.process_time() - core
    return {"passages_per_s": len(store) / wall, "passages_per_core_s": len(store) / core, "passages": len(store)}


def mapping(setting: Setting, sample: int) -> dict[str, float]:
    """Measure triples to rows: read from ir_datasets, looked up in the stores.

    Args:
        setting: of the collection; its stores are built.
        sample: triples, the first.

    Returns:
        Triples per second of one core; triples mapped.
    """
    reader = setting.reader()
    collection = open_collection(reader, setting.encoder(), setting.store)
    reader.queries  # noqa: B018 - read once, however many triples there are
    core = time.process_time()
    count = sum(map(len, row_chunks(islice(reader.docpairs(), sample), *collection)))
    return {"triples_per_core_s": count / (time.process_time() - core), "triples": count}
