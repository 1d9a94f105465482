"""The source of training groups that ``data.train_on`` names."""

from collections.abc import Collection as Ids
from functools import partial
from pathlib import Path

from rankdistil.data.collection import Collection
from rankdistil.data.false_negatives import Margin, SafeGroups, safe_negatives
from rankdistil.data.groups import GroupSource, ListedGroups, hard_negatives, list_groups, sample_groups
from rankdistil.data.readers import Reader
from rankdistil.data.same_text import TextMarks, without_twins
from rankdistil.data.store.triples import open_triples
from rankdistil.data.texts import Texts
from rankdistil.data.unknown import judgments, known_candidates, training_triples


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
        ValueError: if triples can't fill a group, or there is nothing to train on.
    """
    if lists_groups(train_on, negatives, reader.dataset.has_docpairs()):
        if negatives != 1:
            raise ValueError(
                f"data.negatives={negatives} needs data.train_on=sampled: the triples of a dataset have one negative each."
            )
        if store is None:
            tally, triples = training_triples(reader)
            rows = list_groups(triples, *collection, tally)
            kept = rows[TextMarks(collection.passages, reader.find).differ(rows)]
            listed = ListedGroups(kept, len(rows) - len(kept))
        else:
            listed = ListedGroups(*open_triples(store, reader, collection))
        return listed if margin is None else SafeGroups(listed, margin)
    judged = judgments(reader, collection.passages)
    # No set: its order differs from process to process, and rows are given out in the order in which ids are asked for.
    judged_passages = dict.fromkeys(passage for row in judged.values() for passage in row)
    there = _known(collection.passages, judged_passages)
    positives = {
        query: [passage for passage, grade in row.items() if grade >= relevance_level and passage in there]
        for query, row in judged.items()
    } | {query: [] for query in reader.queries if query not in judged}
    candidates = known_candidates(reader, reader.candidates(depth), collection.passages)
    relevant = {query: [key for key, grade in row.items() if grade >= 1 and key in there] for query, row in judged.items()}
    marks = TextMarks(collection.passages, reader.find)
    hard, same_text = without_twins(hard_negatives(candidates, judged, skip), relevant, collection.passages, marks)
    safe = None if margin is None else partial(safe_negatives, margin)
    return sample_groups(positives, hard, negatives, *collection, safe, same_text)


def _known(passages: Texts, ids: Ids[str]) -> set[str]:
    """Return those of some ids that the collection holds."""
    ordered = list(ids)
    return {key for key, row in zip(ordered, passages.rows(ordered).tolist(), strict=True) if row >= 0}
