"""Teacher scores on disk: logits of (query, passage) pairs, made once, read instead of running the teacher; ensembles of them.

A folder holds ``scores.json`` (what made them) and Parquet shards with the columns query_id, passage_id and score.
"""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rankdistil.data.encode import Rows
from rankdistil.data.files.layout import shown
from rankdistil.data.files.lines import first_line
from rankdistil.files import called, content, read_json, written
from rankdistil.words import require

if TYPE_CHECKING:
    from rankdistil.data.collections.reader import Reader
    from rankdistil.data.collections.texts import Collection
    from rankdistil.data.encode import Rows

HEADER = "scores.json"
NAME = re.compile(r"part-[0-9]{5,9}\.parquet")  # of a shard
SHARD = 1 << 15  # pairs in a shard: processes wait for the one with the last of them, which gloo lets them do for half an hour
KEY = "teacher.scores"
COLUMNS = ("query_id", "passage_id", "score")
NO_LOGITS = ("bi_encoder", "sparse")  # kinds of teachers whose scores are products of vectors


def texts_scored(reader: "Reader") -> dict[str, str]:
    """Say which texts a split's scores belong to, so that those of other texts under the same ids are told apart.

    Returns:
        ``queries`` and ``passages``: the hash of a file; an ir_datasets id, with the hashes of files that it reads from this
        machine without having fetched them.
    """
    origins = {kind: reader.origin(kind) for kind in ("queries", "passages")}
    names = {kind: [origin.place["dataset"]] if isinstance(reader.source, str) else [] for kind, origin in origins.items()}
    return {kind: " ".join([*names[kind], *map(content, origin.files)]) for kind, origin in origins.items()}


class Shard(NamedTuple):
    """Attributes: queries: ids, (N,); passages: ids, (N,); scores: raw logits, float32, (N,)."""

    queries: Sequence[str]
    passages: Sequence[str]
    scores: NDArray[np.float32]


class TeacherScores:
    """Scores by rows of a collection.

    Args:
        keys: query row x 2**32 + passage row, ascending, int64, (N,).
        scores: of each, float32, (N,).
        collection: gives the ids, for messages.
        name: of the folder, for messages.
        logits: whether they are logits, as losses read them; else only their order and relative distances mean something.
    """

    def __init__(
        self, keys: NDArray[np.int64], scores: NDArray[np.float32], collection: "Collection", name: str, logits: bool = True
    ) -> None:
        self.collection, self.name, self.logits = collection, name, logits
        self._keys, self._scores = keys, scores

    def __len__(self) -> int:
        return len(self._keys)

    def of(self, queries: "Rows", passages: "Rows") -> NDArray[np.float32]:
        """Return the scores of pairs of rows, (N,).

        Raises:
            ValueError: for a pair that has none, naming it.
        """
        wanted = keys_of(queries, passages)
        place = np.searchsorted(self._keys, wanted).clip(max=len(self._keys) - 1)
        missing = np.flatnonzero(self._keys[place] != wanted)
        if len(missing):
            first = missing[:1]
            (query,), (passage,) = (
                self.collection.queries.names(queries[first]),
                self.collection.passages.names(passages[first]),
            )
            raise ValueError(
                f"{self.name} holds no score of query {query} and passage {passage} ({len(missing)} of {len(wanted)} pairs "
                f"asked for are missing). Score the pairs that are trained on: {called('train')} +experiment=score_teacher "
                "with the same data settings."
            )
        return self._scores[place]


def keys_of(queries: "Rows", passages: "Rows") -> NDArray[np.int64]:
    """Join query and passage rows to one number."""
    return queries.astype(np.int64) << 32 | passages.astype(np.int64)


def load_scores(folder: Path, collection: "Collection", asked: dict[str, Any], key: str = KEY) -> TeacherScores:
    """Load a folder of scores.

    Args:
        folder: finished scores.
        collection: the texts that are trained on; scores of others are left out.
        asked: what the scores must have been made with; keys that the folder's header doesn't know are not compared. The
            teacher is compared where one is named (``networks.check_scores``); ``dtype`` needn't be, shards are float32.
        key: the setting that names the folder, for messages.

    Raises:
        FileNotFoundError: if there are none.
        ValueError: if they aren't complete, were made with other settings, one isn't finite, two of a pair differ, or none is
            of these texts.
    """
    header = matching_header(folder, asked, key)
    keys, scores = [np.zeros(0, np.int64)], [np.zeros(0, np.float32)]
    for file, shard in _shards(folder, header):
        bad = np.flatnonzero(~np.isfinite(shard.scores))
        if len(bad):
            at = int(bad[0])
            raise ValueError(
                f"{file}: the score of query {shard.queries[at]} and passage {shard.passages[at]} is {shard.scores[at]}. "
                f"Remove {file.name} and score again."
            )
        rows = collection.queries.rows(shard.queries), collection.passages.rows(shard.passages)
        known = (rows[0] >= 0) & (rows[1] >= 0)
        keys.append(keys_of(rows[0][known], rows[1][known]))
        scores.append(shard.scores[known])
    joined, values, name = np.concatenate(keys), np.concatenate(scores), f"{key}={folder}"
    if not len(joined):
        raise ValueError(
            f"{name} holds {sum(header['shards'].values())} scores, none of them of queries and passages that are trained on. "
            "Do the scores and the collection belong together?"
        )
    order = joined.argsort(kind="stable")
    joined, values = joined[order], values[order]
    again = joined[1:] == joined[:-1]
    _refuse_differing(joined, values, np.flatnonzero(again & (values[1:] != values[:-1])), collection, name)
    first = np.concatenate([[True], ~again])
    return TeacherScores(joined[first], values[first], collection, name, header["made_of"].get("kind") not in NO_LOGITS)


def _refuse_differing(
    keys: NDArray[np.int64], scores: NDArray[np.float32], places: NDArray[np.intp], collection: "Collection", name: str
) -> None:
    if not len(places):
        return
    at = places[0]
    key = keys[at : at + 1]
    (query,), (passage,) = collection.queries.names(key >> 32), collection.passages.names(key & 0xFFFFFFFF)
    raise ValueError(
        f"{name} holds two scores of query {query} and passage {passage}, {scores[at]:.9g} and {scores[at + 1]:.9g} "
        f"({len(np.unique(keys[places]))} pairs have several). A teacher gives a pair one score. Score or import again, from "
        "one teacher."
    )


def matching_header(folder: Path, asked: dict[str, Any], key: str = KEY) -> dict[str, Any]:
    """Read what made the scores of a folder, and compare it with what they must have been made with.

    Raises:
        FileNotFoundError: if there are none.
        ValueError: if something differs, with each difference.
    """
    header = read_header(folder, key)
    made_of = header["made_of"]
    differing = [name for name in asked if name in made_of and made_of[name] != asked[name]]
    if differing:
        rows = "\n  ".join(f"{name}: {made_of[name]} -> {asked[name]}" for name in differing)
        raise ValueError(
            f"{key}={folder} were made with other settings (there -> asked for):\n  {rows}\n"
            f"Score again with these: {called('train')} +experiment=score_teacher run_name=<name>, or set them back"
            f"{'; teacher.export=<the teacher that scored> gives its tokenizer' if 'tokenizer' in differing else ''}."
        )
    return header


def read_header(folder: Path, key: str = KEY) -> dict[str, Any]:
    """Read what made the scores of a folder; ``key`` is the setting that names it, for messages.

    Raises:
        FileNotFoundError: if there is none.
        ValueError: if they are incomplete or the header is damaged.
    """
    path = folder / HEADER
    if not path.is_file():
        raise FileNotFoundError(
            f"{key}={folder} holds no {HEADER}. Make scores with {called('train')} +experiment=score_teacher, "
            "or import them with python -m rankdistil.data.import_scores."
        )
    fix = f"Remove {folder} and score again."
    header = read_json(path, fix)
    for name in ("shards", "made_of"):
        if not isinstance(header.get(name), dict):
            raise ValueError(f"{path} is damaged ({name} is {shown(header.get(name))}). {fix}")
    for name, count in header["shards"].items():
        if not NAME.fullmatch(name) or isinstance(count, bool) or not isinstance(count, int):
            raise ValueError(f"{path} is damaged (of a shard it says {shown({name: count})}). {fix}")
    return {"shards": header["shards"], "made_of": header["made_of"]}


def _shards(folder: Path, header: dict[str, Any]) -> Iterator[tuple[Path, Shard]]:
    for name, expected in header["shards"].items():
        file = folder / name
        if not file.is_file():
            raise ValueError(f"{file} is missing ({expected} scores). Score again, with resume=true.")
        shard = read_shard(file)
        if len(shard.scores) != expected:
            raise ValueError(f"{file} holds {len(shard.scores)} scores, expected {expected}. Remove it and score again.")
        yield file, shard


def shard_name(number: int) -> str:
    """Name the file of a shard, see ``NAME``."""
    return f"part-{number:05d}.parquet"


def read_shard(file: Path) -> Shard:
    """Read a Parquet shard.

    Raises:
        ValueError: if it is damaged, or columns are missing.
    """
    pa, pq = require("pyarrow", f"{file} (Parquet)"), require("pyarrow.parquet", f"{file} (Parquet)")
    try:
        ids = (pa.field(name, pa.string(), nullable=False) for name in COLUMNS[:2])
        schema = pa.schema([*ids, pa.field("score", pa.float32(), nullable=False)])
        table = pq.read_table(file, columns=list(COLUMNS)).cast(schema)
        return Shard(*(table[name].to_pylist() for name in COLUMNS[:2]), table["score"].to_numpy())
    except (pa.ArrowException, OSError, KeyError, ValueError) as error:
        raise ValueError(f"{file} can't be read as scores ({first_line(error)}). Remove it and score again.") from None


def write_shard(file: Path, shard: Shard) -> None:
    """Write a Parquet shard, in one step."""
    pa, pq = require("pyarrow", f"{file} (Parquet)"), require("pyarrow.parquet", f"{file} (Parquet)")
    columns = (pa.array(shard.queries), pa.array(shard.passages), pa.array(shard.scores, pa.float32()))
    with written(file) as place:
        pq.write_table(pa.table(dict(zip(COLUMNS, columns, strict=True))), place, compression="zstd")


def mean_on_one_scale(members: Sequence[TeacherScores], pairs: Rows) -> TeacherScores:
    """Average the scores of several teachers, each brought to one mean and standard deviation first.

    Teachers score on scales of their own: a plain mean would follow the one with the widest. Each member is standardised, the
    standardised scores are averaged, and the average is brought back to the mean of the members' means and of their standard
    deviations. So a teacher beside itself is that teacher, members of one scale have their plain mean, and where members
    disagree, the average lies closer to the middle, as it should. The scale is that of the pairs trained on, whatever else was
    scored or is known to a store.

    Losses read the result as logits, as they read a single teacher's scores. So where some members are logits, the scale is
    theirs alone: cosines and products of words (``TeacherScores.logits``) count in the order, and neither shift nor stretch
    soft labels. Imported scores are taken for logits: a probability or a BM25 score among them does shift and stretch them.

    Args:
        members: each teacher's.
        pairs: rows of query and passage of all pairs that are trained on, once each, ascending, (N, 2). All of them are in
            memory, with the scores of one member in double precision: some 50 bytes a pair.

    Raises:
        ValueError: for a pair that a member holds no score of, or a member that scores all of them alike.
    """
    queries, passages = pairs.T
    scales = [_scale(member.of(queries, passages), member.name) for member in members]
    of_logits = [scale for member, scale in zip(members, scales, strict=True) if member.logits]
    level, spread = (fmean(values) for values in zip(*(of_logits or scales), strict=True))
    total, levels = np.zeros(len(pairs)), []
    for member, (mean, deviation) in zip(members, scales, strict=True):
        factor = spread / deviation  # exactly 1 among members of one scale, so that their scores stay as they are
        total += factor * member.of(queries, passages).astype(np.float64)
        levels.append(factor * mean)
    scores = (total / len(members) + (level - fmean(levels))).astype(np.float32)
    names = " + ".join(member.name for member in members)
    return TeacherScores(keys_of(queries, passages), scores, members[0].collection, names, bool(of_logits))


def _scale(scores: NDArray[np.float32], name: str) -> tuple[float, float]:
    """Return mean and standard deviation."""
    ordered = np.sort(scores).astype(np.float64)  # a sum depends on its order, and that of rows on whether there is a store
    if ordered[0] == ordered[-1]:
        raise ValueError(
            f"{name}: all {len(scores)} pairs that are trained on have the score {scores[0]:g}. A teacher that tells no pairs "
            "apart has no scale to bring to that of the others. Take it out of teacher.scores, or score again."
        )
    return float(ordered.mean()), float(ordered.std())
