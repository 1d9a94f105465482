"""What is done once per collection: its stores built, and how fast texts become token ids."""

import json
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
from rankdistil.data.batches.training_groups import open_triples
from rankdistil.data.collections.texts import open_collection
from rankdistil.data.encode import Segment
from rankdistil.data.stores.contents import open_tokens, tokenizer_fingerprint
from rankdistil.data.stores.ragged import SOURCE, RaggedStore, ensure, write_ragged
from rankdistil.files import write_json

BUILT = "building.json"
WRITTEN = "passages written"
OTHER = "Name another folder, or the other --store."

Times = dict[str, dict[str, float]]
"""Step -> seconds of wall clock and of process time on all cores."""


def build(setting: Setting, sizes: Sizes, words: Words, direct: bool) -> Times:
    """Build what isn't there yet of the stores, ir_datasets' docstore among them.

    Args:
        setting: of the collection.
        sizes: of the collection.
        words: that it was drawn from.
        direct: write the passages' token ids as they were drawn, through the writer of the token store, instead of tokenising
            their texts: the ids of words are known, and ``batches.compare`` checks that they are the tokenizer's.

    Returns:
        The time of each step, of the run that took it.

    Raises:
        ValueError: if the passages were stored the other way before.
    """
    reader, encoder = setting.reader(), setting.encoder()
    record = Path(setting.folder) / BUILT
    times: Times = json.loads(record.read_text(encoding="utf-8")) if record.is_file() else {}
    if times and (WRITTEN in times) != direct:
        raise ValueError(f"the passages of {setting.folder} were {'' if WRITTEN in times else 'not '}written as drawn. {OTHER}")

    def step(name: str, make: Callable[[], Any]) -> Any:
        wall, core = time.perf_counter(), time.process_time()
        made = make()
        times.setdefault(name, {"wall_s": time.perf_counter() - wall, "core_s": time.process_time() - core})
        write_json(record, times)
        return made

    if direct:
        step(WRITTEN, lambda: _write_drawn(setting, sizes, words))
    name = "queries tokenised" if direct else "queries and passages tokenised"
    collection = step(name, lambda: open_collection(reader, encoder, setting.store))
    step("docstore of ir_datasets built", lambda: reader.find(["0"]))
    step("triples mapped", lambda: open_triples(setting.store, reader, collection))  # which compares their texts
    return times


def _write_drawn(setting: Setting, sizes: Sizes, words: Words) -> None:
    origin = setting.reader().origin("passages")
    encoder = setting.encoder()
    fingerprint, room = tokenizer_fingerprint(encoder.tokenizer), encoder.room

    def chunks() -> Iterator[tuple[list[str], Segment]]:
        for ids, drawn, lengths in passages(words, sizes):
            tokens = words.tokens(drawn, lengths)
            if tokens.lengths.max() > room:
                raise ValueError(f"a passage has {tokens.lengths.max()} tokens, more than {room}. Use --store tokenise.")
            yield ids.astype(str).tolist(), tokens

    ensure(
        origin.folder(setting.store, "passages"),
        {"tokenizer": fingerprint, "tokens": room, SOURCE: origin.source},
        lambda building: write_ragged(building, chunks(), np.dtype(np.uint16)) | {"cut": 0, "empty": 0},
        RaggedStore,
    )


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
            {"sample": sample},
        )
        wall, core = time.perf_counter() - wall, time.process_time() - core
    return {"passages_per_s": len(store) / wall, "passages_per_core_s": len(store) / core, "passages": len(store)}
