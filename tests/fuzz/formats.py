"""What is damaged, and what reads it: each format with the product's own readers, and what must hold of what they accept."""

import math
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from transformers.utils import logging

from rankdistil.data.collections.texts import Collection, LiveTexts
from rankdistil.data.encode import PairEncoder
from rankdistil.data.files import trec_runs
from rankdistil.data.files.bad_lines import LIST, BadLines, Listing
from rankdistil.data.files.folder import HIGHEST_GRADE, FileDocPairs, FileQrels, FileScoredDocs, TextDocPairs
from rankdistil.data.files.layout import NOT_IN_IDS
from rankdistil.data.files.lines import texts
from rankdistil.data.teacher_scores.folder import load_scores
from rankdistil.data.teacher_scores.formats import LARGEST, Ids, TextIds, read_scores
from rankdistil.metrics.ranking import read_run, write_run
from rankdistil.models.checkpoints import load_ranker, load_tokenizer, require_fitting
from rankdistil.runs.entries import find_entries
from rankdistil.runs.record import read_record, state
from tests.fuzz import damage

CORPUS = Path(__file__).parent / "corpus"
FOUND = "found"  # folders of what was a fault once
QUERY, PASSAGE = "how do bees fly in spring", "wings beat fast and the air moves"
Read = Callable[[Path], None]


class Format(NamedTuple):
    """A kind of file.

    Attributes:
        name: in the table.
        files: its valid ones, as patterns in the corpus.
        damage: how they are damaged.
        read: reads one as the product does; raises what it raises, or AssertionError for content that it mustn't accept.
        share: of a thousand inputs.
    """

    name: str
    files: tuple[str, ...]
    damage: damage.Damage
    read: Read
    share: int

    def valid(self) -> list[Path]:
        """List the valid files."""
        return _listed(self.files)

    def found(self) -> list[tuple[Path, Path]]:
        """List what was a fault once: the valid file in whose place it stands, and itself."""
        return [(path, each) for path in self.valid() for each in sorted((path.parent / FOUND).glob(f"{path.name}-*"))]


@cache
def _listed(patterns: tuple[str, ...]) -> list[Path]:
    return [path for pattern in patterns for path in sorted(CORPUS.glob(pattern))]


def is_id(key: str) -> bool:
    """Whether a run file can hold an id."""
    return isinstance(key, str) and bool(key) and not NOT_IN_IDS.search(key) and bool(key.encode())


def _bad(path: Path) -> BadLines:
    """Stop at a bad line, leave it out or list all: one of them by what the file holds, so that it is the same each time."""
    return BadLines(("stop", "stop", "skip", LIST)[sum(path.read_bytes()) % 4])


def read_table(path: Path) -> None:
    """Read texts, triples, judgments or candidates, as the file's name says."""
    bad = _bad(path)
    kind = path.stem.partition(".")[0]
    rows = list(ROWS[kind](path, bad))
    tally = bad.of(path)
    assert tally.lines is None or tally.lines >= 0
    if isinstance(tally, Listing):
        tally.stops("stop"), tally.shown()
    for ids, written, numbers in rows:
        assert all(map(is_id, ids))
        assert all(text.encode() is not None for text in written)  # no half of a character
        assert all(map(math.isfinite, numbers))


Row = tuple[Iterable[str], Iterable[str], Iterable[float]]


def _texts(path: Path, bad: BadLines) -> Iterator[Row]:
    return (([key], [text], []) for key, text in texts(path, bad=bad))


def _qrels(path: Path, bad: BadLines) -> Iterator[Row]:
    for _, (query, passage, grade, *_) in FileQrels(path, None, bad).numbered():
        assert isinstance(grade, int)
        assert grade <= HIGHEST_GRADE
        yield [query, passage], [], [grade]


def _triples(path: Path, bad: BadLines) -> Iterator[Row]:
    return ((triple, [], []) for _, triple in FileDocPairs(path, None, bad).numbered())


def _text_triples(path: Path, bad: BadLines) -> Iterator[Row]:
    triples = TextDocPairs(path, None, bad)
    yield from ((triple, [], []) for _, triple in triples.numbered())
    yield from (([key], [text], []) for key, text in triples.texts(0, 1, 2))


def _run(path: Path, bad: BadLines) -> Iterator[Row]:
    trec_runs.forget_run()  # another content may have the same size and time
    table = FileScoredDocs(path, None, bad).table()
    for query in table.queries:
        yield from (([query, row.doc_id], [], [row.score]) for _, row in table.of([query], bad.of(path)))


ROWS = {"texts": _texts, "qrels": _qrels, "triples": _triples, "text_triples": _text_triples, "run": _run}


def read_ranking(path: Path) -> None:
    """Read a run as tests do, write it, and read that."""
    ranking = read_run(path)
    again = path.with_suffix(".again")
    write_run(again, ranking, "tag")
    assert read_run(again) == ranking
    assert all(map(is_id, ranking))


def read_published(path: Path) -> None:
    """Read published scores in the format that begins the file's name; texts have their ids from the files beside it."""
    ids = Ids(TextIds(path.parent / "queries.tsv", "queries"), TextIds(path.parent / "corpus.tsv", "corpus"))
    for _, query, passage, score in read_scores(path.name.partition(".")[0], path, ids):
        assert is_id(query)
        assert is_id(passage)
        assert abs(score) <= LARGEST


def read_score_folder(path: Path) -> None:
    """Load a folder of scores."""
    known = {f"{kind}{number}": "text" for kind in "qp" for number in range(9)}
    of = LiveTexts(lambda keys: {key: known[key] for key in keys if key in known}, None)
    found = load_scores(path.parent, Collection(of, of), {"dtype": "float32"})
    rows = of.rows(["q1"]), of.rows(["p1"])
    assert np.isfinite(found.of(*rows)).all()


def read_network(path: Path) -> None:
    """Load a ranker from a folder of which a file is damaged, and score a pair with it."""
    logging.set_verbosity(logging.CRITICAL)
    folder = str(path.parent)
    ranker = load_ranker(folder)
    tokenizer = load_tokenizer(folder)
    require_fitting(folder, tokenizer, ranker.config)
    ids = torch.tensor([[0, 1, 2]])
    with torch.inference_mode():
        assert ranker(ids, torch.ones_like(ids), torch.zeros_like(ids)).logits.shape == (1,)


def read_tokenizer(path: Path) -> None:
    """Load a tokenizer, and tokenise a pair with it."""
    logging.set_verbosity(logging.CRITICAL)
    encoder = PairEncoder(load_tokenizer(str(path.parent)), 16)
    ids, mask, _ = encoder.assemble(encoder.segment([QUERY]), encoder.segment([PASSAGE]))
    assert ids.shape == mask.shape
    assert 0 < int(mask.sum()) <= 16


def read_run_folder(path: Path) -> None:
    """Ask what has to be done for a run, and compare it with others."""
    folder = path.parent
    record = read_record(folder)
    assert record is not None
    settings = {"seed": 0, "stage.lr": 0.1, "parents.student": "ab", "data.corpus": "corpus.tsv sha256:00"}
    state(folder, settings, [{"data.depth": 20}])
    find_entries([str(folder)])


ROOMS = ("tsv", "jsonl", "parquet", "packed", "trec", "scores", "score_folder", "model", "run")
FORMATS = (
    Format("TSV", ("tsv/*.tsv",), damage.of_text, read_table, 190),
    Format("JSON lines", ("jsonl/*.jsonl",), damage.of_json_lines, read_table, 190),
    Format("Parquet", ("parquet/*.parquet",), damage.of_parquet, read_table, 60),
    Format("gzip, Zstandard", ("packed/*.gz", "packed/*.zst"), damage.of_bytes, read_table, 60),
    Format("TREC judgments", ("trec/qrels.*",), damage.of_text, read_table, 120),
    Format("TREC runs", ("trec/run.*",), damage.of_text, read_table, 120),
    Format("TREC runs, of tests", ("trec/test.run",), damage.of_text, read_ranking, 30),
    Format("scores by id", ("scores/*.txt",), damage.of_text, read_published, 80),
    Format("scores, JSON lines", ("scores/*.jsonl",), damage.of_json_lines, read_published, 100),
    Format("scores.json", ("score_folder/scores.json",), damage.of_json, read_score_folder, 8),
    Format("scores, shards", ("score_folder/*.parquet",), damage.of_parquet, read_score_folder, 8),
    Format("run.json", ("run/run.json",), damage.of_json, read_run_folder, 20),
    Format("config.json", ("model/*/config.json",), damage.of_json, read_network, 4),
    Format("tokenizers", ("model/*/tokenizer*.json", "model/*/vocab.txt"), damage.of_json, read_tokenizer, 4),
    Format("safetensors", ("model/*/*.safetensors",), damage.of_safetensors, read_network, 5),
    Format("weights' index", ("model/*/*.index.json",), damage.of_json, read_network, 1),
)
