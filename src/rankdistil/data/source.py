"""The source of training groups that ``data.train_on`` names."""

from pathlib import Path

from rankdistil.data.collection import Collection
from rankdistil.data.groups import GroupSource, ListedGroups, hard_negatives, list_groups, sample_groups
from rankdistil.data.readers import Reader
from rankdistil.data.store.triples import open_triples
from rankdistil.data.unknown import judgments, known_candidates, training_triples


def open_source(
    reader: Reader, collection: Collection, train_on: str, relevance_level: int, depth: int, skip: int, negatives: int,
    store: Path | None = None,
) -> GroupSource:  # fmt: skip
    """Open the groups of the training split.

    Args:
        reader: the split.
        collection: its texts.
        train_on: one of ``TRAIN_ON``: ``docpairs`` (the dataset's own) or ``sampled``.
        relevance_level: lowest grade of a positive.
        depth: the last rank of a query's candidates that negatives are drawn from.
        skip: candidates left out at the top: the best ones are often relevant, though nobody judged them.
        negatives: in a group.
        store: folder of the token stores, beside which triples are kept; None keeps them in memory.

    Raises:
        ValueError: if triples can't fill a group, or there is nothing to train on.
    """
    if train_on == "docpairs":
        if negatives != 1:
            raise ValueError(
                f"data.negatives={negatives} needs data.train_on=sampled: the triples of a dataset have one negative each."
            )
        if store is None:
            tally, triples = training_triples(reader)
            return ListedGroups(list_groups(triples, *collection, tally))
        return ListedGroups(open_triples(store, reader, collection))
    judged = judgments(reader, collection.passages)
    positives = {
        query: [passage for passage, grade in row.items() if grade >= relevance_level and reader.contains(passage)]
        for query, row in judged.items()
    } | {query: [] for query in reader.queries if query not in judged}
    candidates = known_candidates(reader, reader.candidates(depth), collection.passages)
    return sample_groups(positives, hard_negatives(candidates, judged, skip), negatives, *collection)
