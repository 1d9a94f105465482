"""Long documents of the embedded collection: its passages laid end to end, in a folder that ``data=files`` reads.

::

    python -m benchmarks.long_documents to=long [passages=4] [seed=0]

A document is so many passages of one split, each of another topic, in random order; a passage stands in one document only. A
document is judged as its best passage is. So an answer stands anywhere, and most answers stand where truncation never looks.
"""

import random
import sys
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import ir_datasets

from rankdistil.cli import run_command
from rankdistil.data.collections.almanac import NAME, SPLITS, register, topic
from rankdistil.words import key_values


def documents(passages: dict[str, str], size: int, seed: int) -> dict[str, list[str]]:
    """Lay passages out in documents.

    Args:
        passages: text by id, those of one split.
        size: passages of a document; the last documents may have one less.
        seed: of the order.

    Returns:
        The passages' ids by document; neighbours are of different topics.
    """
    order = random.Random(seed)
    topics: dict[str, list[str]] = {}
    for key in passages:
        topics.setdefault(topic(key), []).append(key)
    rows = [order.sample(row, len(row)) for row in order.sample([*topics.values()], len(topics))]
    dealt = [key for row in rows for key in row]
    count = -(-len(dealt) // size)
    found = [dealt[at::count] for at in range(count)]  # passages of a topic are dealt out to documents in turn
    for row in found:
        order.shuffle(row)
    return {f"doc-{seed}-{row[0]}": row for row in found}


def write(folder: Path, size: int, seed: int) -> None:
    """Write corpus, questions and judgments of all splits."""
    register()
    folder.mkdir(parents=True)
    texts = {doc.doc_id: doc.text for doc in ir_datasets.load(NAME).docs_iter()}
    splits = {split: ir_datasets.load(f"{NAME}/{split}") for split in SPLITS}
    held: dict[str, list[str]] = {}
    for split, data in splits.items():
        own = {topic(query.query_id) for query in data.queries_iter()}
        held |= documents({key: text for key, text in texts.items() if topic(key) in own}, size, seed)
        place = {key: name for name, row in held.items() for key in row}
        grades: dict[tuple[str, str], int] = {}
        for judged in data.qrels_iter():
            pair = judged.query_id, place[judged.doc_id]
            grades[pair] = max(judged.relevance, grades.get(pair, 0))
        rows = "".join(f"{query} 0 {document} {grade}\n" for (query, document), grade in grades.items())
        (folder / f"qrels.{split}.txt").write_text(rows, encoding="utf-8")
        rows = "".join(f"{query.query_id}\t{query.text}\n" for query in data.queries_iter())
        (folder / f"queries.{split}.tsv").write_text(rows, encoding="utf-8")
    rows = "".join(f"{name}\t{' '.join(texts[key] for key in row)}\n" for name, row in held.items())
    (folder / "corpus.tsv").write_text(rows, encoding="utf-8")
    mixed = sum(topic(one) != topic(other) for row in held.values() for one, other in pairwise(row))
    neighbours = len(texts) - len(held)
    print(f"{folder}: {len(held)} documents of {len(texts)} passages; {mixed} of {neighbours} neighbours differ in topic")


def main(words: Sequence[str]) -> int:
    """Write the folder that the words of the command line name."""

    def run() -> None:
        values = {"passages": "4", "seed": "0"} | key_values(words, ("to", "passages", "seed"), ("to",), "to=<folder>")
        write(Path(values["to"]), int(values["passages"]), int(values["seed"]))

    return run_command(words, __doc__, run)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
