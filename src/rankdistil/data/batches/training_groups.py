"""Source of training groups: a dataset's triples, or negatives sampled from a first stage (``data.train_on``)."""

from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from rankdistil.data.batches.groups import (
    GroupSource,
    ListedGroups,
    Margin,
    SafeGroups,
    hard_negatives,
    list_groups,
    row_chunks,
    safe_negatives,
    sample_groups,
)
from rankdistil.data.collections.reader import Reader
from rankdistil.data.collections.splits import TextMarks, without_twins
from rankdistil.data.collections.texts import Collection, judgments, negative_candidates, training_triples
from rankdistil.data.encode import Texts
from rankdistil.data.records import Qrels
from rankdistil.data.stores.ragged import SOURCE, StoredRows, ensure, read_header
from rankdistil.files import short_hash

SAME_TEXT = "same_text"


def open_triples(store: Path, reader: Reader, collection: Collection) -> tuple[StoredRows, int]:
    """Open the triples of a split, mapped first where they are missing or the data have changed.

    Args:
        store: folder of the stores.
        reader: the split.
        collection: its stores, whose rows the triples name.

    Returns:
        Query, positive and negative of each triple, (N, 3), and how many triples aren't among them, since their negative has
        the text of the positive.

    Raises:
        ValueError: for a query or passage that isn't there, unless bad lines may be left out.
    """
    tally, triples = training_triples(reader)
    # Rows are the same whatever tokens the texts were cut to: with windows and without, these triples are shared.
    texts = {kind: getattr(collection, kind).header["made_of"][SOURCE] for kind in ("queries", "passages")}
    held_out = {"held out": str(reader.holdout)}
    sides = {} if reader.holdout is None else {"queries of the side": _digest(reader.queries)}  # judgments decide, too
    origin = reader.origin("docpairs")
    folder = origin.folder(store, "triples", **{kind: reader.origin(kind).place for kind in texts}, **held_out)

    def write(building: Path) -> dict[str, Any]:
        count, every, marks = 0, 0, TextMarks(collection.passages, reader.find)
        with (building / "rows.bin").open("wb") as file:
            for rows in row_chunks(triples, *collection, tally):
                kept = rows[marks.differ(rows)]
                file.write(kept.tobytes())
                count, every = count + len(kept), every + len(rows)
        return {"count": count, SAME_TEXT: every - count}

    reader.find(())  # opens the texts: not under the lock below, which is theirs too
    rule = {"left out": "negatives with the text of the positive"}
    return ensure(folder, {SOURCE: origin.source | texts | held_out | sides | rule}, write, _mapped, tally)


def _digest(ids: Iterable[str]) -> str:
    return short_hash("\n".join(sorted(ids)))


def _mapped(folder: Path) -> tuple[StoredRows, int]:
    header = read_header(folder, count=int, **{SAME_TEXT: int})
    count = header["count"]
    rows = folder / "rows.bin"
    if rows.stat().st_size != count * 12:
        raise ValueError(
            f"{rows}: {rows.stat().st_size} bytes, expected {count * 12}. Remove the folder {folder} to build it anew."
        )
    return StoredRows(rows, 3), header[SAME_TEXT]


def lists_groups(train_on: str, negatives: int, has_triples: bool) -> bool:
    """Whether a split is trained on its own triples; ``has_triples``: whether it has some."""
    return train_on == "docpairs" or (train_on == "auto" and negatives == 1 and has_triples)


def open_source(
    reader: Reader, collection: Collection, train_on: str, relevance_level: int, depth: int, skip: int, negatives: int,
    store: Path | None = None, margin: Margin | None = None,
) -> GroupSource:  # fmt: skip
    """Open the groups of the training split.

    Args:
        reader: the split.
        collection: its texts.
        train_on: one of ``TRAIN_ON``: ``docpairs`` (the dataset's own), ``sampled``, or ``auto``: its own triples where it has
            some and they have as many negatives as are asked for.
        relevance_level: lowest grade of a positive.
        depth: the last rank of a query's candidates that negatives are drawn from.
        skip: candidates left out at the top: the best ones are often relevant, though nobody judged them.
        negatives: in a group.
        store: folder of the token stores, beside which triples are kept; None keeps them in memory.
        margin: leaves out negatives that are scored about as high as the positive; None leaves out none.

    Raises:
        ValueError: if there is nothing to train on.
    """
    if lists_groups(train_on, negatives, reader.dataset.has_docpairs()):
        if store is None:
            tally, triples = training_triples(reader)
            rows = list_groups(triples, *collection, tally)
            kept = rows[TextMarks(collection.passages, reader.find).differ(rows)]
            listed = ListedGroups(kept, len(rows) - len(kept))
        else:
            listed = ListedGroups(*open_triples(store, reader, collection))
        return listed if margin is None else SafeGroups(listed, margin)
    judged = known_judgments(judgments(reader, collection.passages), collection.passages)
    positives, relevant = answers(judged, relevance_level), answers(judged, 1)
    candidates = negative_candidates(reader, depth, collection.passages)
    marks = TextMarks(collection.passages, reader.find)
    hard, same_text = without_twins(hard_negatives(candidates, judged, skip), relevant, collection.passages, marks)
    safe = None if margin is None else partial(safe_negatives, margin)
    positives |= {query: [] for query in reader.queries if query not in judged}
    return sample_groups(positives, hard, negatives, *collection, safe, same_text)


def known_judgments(judged: Qrels, passages: Texts) -> Qrels:
    """Keep the judgments of passages that the collection holds."""
    # No set: its order differs from process to process, and rows are given out in the order in which ids are asked for.
    ids = list(dict.fromkeys(passage for row in judged.values() for passage in row))
    unknown = {ids[at] for at in np.flatnonzero(passages.rows(ids) < 0).tolist()}
    if not unknown:
        return judged
    return {query: {key: grade for key, grade in row.items() if key not in unknown} for query, row in judged.items()}


def answers(judged: Qrels, level: int) -> dict[str, list[str]]:
    """Return the passages of each query that have a grade or more."""
    return {query: [key for key, grade in row.items() if grade >= level] for query, row in judged.items()}
