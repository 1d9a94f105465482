"""Re-ranks a run file, or scores pairs, with any cross-encoder that ``Reranker`` loads.

::

    python -m rankdistil.rank export=<run>/export queries=queries.tsv corpus=corpus.tsv run=bm25.run to=out.run
    cat pairs.tsv | python -m rankdistil.rank export=<run>/export pairs=- > scores.txt

export
    A folder, or a hub id.
queries, corpus
    ``id<TAB>text``, JSON lines as BEIR's, or Parquet; also packed (.gz, .zst).
run, to
    TREC runs: the candidates, and what is written. Passages of a query come by descending score, equal ones by descending id.
depth
    Candidates of a query that are re-ranked, those of the highest scores (all); the others are left out.
pairs
    ``query<TAB>passage`` lines, of a file or (-) of the standard input; logits go to the standard output, one a line.
dtype, backend
    As of ``Reranker`` (auto, torch).
windows
    That longer passages are read in, as JSON: {"stride": 64, "most": 16} and, if wished, size, aggregate (max, first, mean) and
    top; none cuts them (those that the export was trained with).

Memory holds the run and the queries; texts of passages lie on disk meanwhile, in ``<to>.part``. What was stopped goes on there
with the same command. Scores are logits.
"""

import os
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import IO, Any

from rankdistil.cli import run_command
from rankdistil.data.windows import read_windows
from rankdistil.files import changed_settings, flattened, locked, read_json, stamp, write_json
from rankdistil.words import key_values

RERANK, SCORE = ("queries", "corpus", "run", "to"), ("pairs",)
KEYS = ("export", *RERANK, *SCORE, "depth", "dtype", "backend", "windows")
USAGE = "python -m rankdistil.rank export=<export> queries=<file> corpus=<file> run=<run> to=<run>, or export=<export> pairs=-"
Candidates = tuple[str, list[str]]
"""A query's id, and those of its passages."""


def settings_of(words: Sequence[str]) -> dict[str, Any]:
    """Read the words of the command line.

    Raises:
        FileNotFoundError: if a file isn't there.
        ValueError: for a word, key or value that isn't expected, or a key that is missing.
    """
    values: dict[str, Any] = key_values(words, KEYS, ("export",), USAGE)
    needed, other = (SCORE, RERANK) if "pairs" in values else (RERANK, SCORE)
    for key in needed:
        if key not in values:
            raise ValueError(f"{key} is not set. Usage: {USAGE}")
    if given := next((key for key in (*other, "depth") if key in values and "pairs" in values), None):
        raise ValueError(f"{given} has no effect beside pairs. Leave it out.")
    for key in {"queries", "corpus", "run", "pairs"} & values.keys():
        if values[key] != "-" and not Path(values[key]).is_file():
            raise FileNotFoundError(f"{key}={values[key]} is no file. Put it in place, or correct the path.")
    if "depth" in values:
        if not values["depth"].isdecimal() or int(values["depth"]) < 1:
            raise ValueError(f"depth is {values['depth']!r}; expected a whole number of at least 1.")
        values["depth"] = int(values["depth"])
    if "to" in values and Path(values["to"]).exists():
        raise ValueError(f"to={values['to']} exists. Name another file, or remove it.")
    if "windows" in values:
        values["windows"] = read_windows(values["windows"], "windows")
    return {"depth": None, "dtype": "auto", "backend": "torch", "windows": None} | values


Score = Callable[[list[tuple[str, str]]], list[float]]


def rerank(settings: dict[str, Any], score: Score, made_of: dict[str, Any]) -> int:
    """Re-rank a run file.

    Args:
        settings: see ``settings_of``.
        score: gives the logits of pairs.
        made_of: what decides the scores, beside the files.

    Returns:
        The number of queries.

    Raises:
        RuntimeError: if another process is ranking into the same file.
        ValueError: for bad content, naming file and line; or if what lies in ``<to>.part`` is of other settings.
    """
    paths = {key: Path(settings[key]) for key in ("queries", "corpus", "run", "to")}
    made_of = made_of | {"depth": settings["depth"]} | {key: stamp(paths[key]) for key in ("queries", "corpus", "run")}
    place = paths["to"].with_name(f"{paths['to'].name}.part")
    with locked(place, wait=False, choice="to"):
        _begin(place, made_of)
        found = _rank_rest(place, paths, settings["depth"], score, made_of)
        os.replace(place / "run", paths["to"])
        shutil.rmtree(place)
    return found


def _rank_rest(place: Path, paths: dict[str, Path], depth: int | None, score: Score, made_of: dict[str, Any]) -> int:
    from rankdistil.data.files.bad_lines import BadLines
    from rankdistil.data.files.lines import texts
    from rankdistil.data.files.trec_runs import run_table
    from rankdistil.data.stores.contents import open_texts
    from rankdistil.processes.progress import Work

    bad = BadLines()
    queries, table = dict(texts(paths["queries"])), run_table(paths["run"], None, bad)
    wanted = {*table.passages}
    kept = ((key, text) for key, text in texts(paths["corpus"]) if key in wanted)
    passages = open_texts(place / "store/texts", lambda: kept, made_of)
    del wanted
    counts = {query: min(count, depth or count) for query, count in table.counts().items()}
    done, end = _whole(place / "run", counts)

    def candidates() -> Iterator[Candidates]:
        for query in islice(counts, done, None):
            rows = [*table.of([query], bad.of(paths["run"]))]
            if not queries.get(query, "").strip():
                what = "is empty" if query in queries else "is not there"
                raise ValueError(f"{paths['run']}:{rows[0][0]}: query {query} {what} in {paths['queries']}.")
            rows = sorted(rows, key=lambda row: -row[1].score)[:depth]
            missing = (passages.rows([row.doc_id for _, row in rows]) < 0).tolist()
            if any(missing):
                line, row = rows[missing.index(True)]
                raise ValueError(f"{paths['run']}:{line}: passage {row.doc_id} is not there in {paths['corpus']}.")
            yield query, [row.doc_id for _, row in rows]

    begun = sum(islice(counts.values(), done))
    work = Work("ranked:", sum(counts.values()), "passages", begun=begun)
    with (place / "run").open("r+b") as out:
        out.truncate(end)
        out.seek(end)
        for some in _chunks(candidates()):
            ranked = _write(out, some, queries, passages.texts, score)
            begun += ranked
            work.advance(begun, ranked)
    work.close(begun)
    return len(counts)


def _begin(place: Path, made_of: dict[str, Any]) -> None:
    """Prepare the folder of what is begun, or see that it is of the same settings."""
    told, part = place / "made_of.json", place / "run"
    part.touch()
    if not part.stat().st_size or not told.is_file():  # nothing was ranked yet
        write_json(told, made_of)
    old = read_json(told, f"Remove {place}.")
    if rows := changed_settings(flattened(old), flattened(made_of)):
        raise ValueError(f"{place} was begun with other settings; remove it, or name another to=:\n  " + "\n  ".join(rows))


def _whole(part: Path, counts: dict[str, int]) -> tuple[int, int]:
    """Count the queries that are whole in what was written, and its bytes up to there."""
    done = end = 0
    with part.open("rb") as file:
        for query, count in counts.items():
            lines = [*islice(file, count)]
            if len(lines) < count or not lines[-1].endswith(b"\n") or lines[-1].split(b" ", 1)[0] != query.encode():
                break
            done, end = done + 1, end + sum(map(len, lines))
    return done, end


def _chunks(candidates: Iterable[Candidates]) -> Iterator[list[Candidates]]:
    from rankdistil.inference.engine import CHUNK

    some: list[Candidates] = []
    for each in candidates:
        some.append(each)
        if sum(len(ids) for _, ids in some) >= CHUNK:
            yield some
            some = []
    if some:
        yield some


def _write(
    out: IO[bytes], some: list[Candidates], queries: dict[str, str], texts: Callable[[list[str]], dict[str, str]], score: Score
) -> int:
    """Score some queries' candidates, and write them in the total order of ``metrics.ranking``; return how many there were."""
    from rankdistil.metrics.ranking import ranked

    found = texts(list(dict.fromkeys(key for _, ids in some for key in ids)))
    scores = iter(score([(queries[query], found[key]) for query, ids in some for key in ids]))
    ranking = ranked({query: {key: next(scores) for key in ids} for query, ids in some})
    rows = [
        f"{query} Q0 {each.passage_id} {rank} {each.score!r} rankdistil\n"
        for query, row in ranking.items()
        for rank, each in enumerate(row, 1)
    ]
    out.write("".join(rows).encode())
    out.flush()
    return len(rows)


def score_lines(lines: Iterable[str], source: str, score: Score, out: IO[str]) -> None:
    """Write the logit of each ``query<TAB>passage`` line.

    Raises:
        ValueError: for a line that is none.
    """
    from rankdistil.inference.engine import CHUNK

    numbered = enumerate(lines, 1)
    while some := [*islice(numbered, CHUNK)]:
        pairs = [tuple(line.rstrip("\r\n").split("\t")) for _, line in some]
        for (number, _), pair in zip(some, pairs, strict=True):
            if len(pair) != 2 or not pair[0].strip():
                told = (
                    "the query is empty" if len(pair) == 2 else f"{len(pair)} columns between tabs; expected query and passage"
                )
                raise ValueError(f"{source}:{number}: {told}.")
        out.write("".join(f"{value!r}\n" for value in score(pairs)))
        out.flush()


def rank(settings: dict[str, Any]) -> None:
    """Do what settings say, see ``settings_of``."""
    from rankdistil.inference.export_files import weights
    from rankdistil.inference.reranker import Reranker

    ranker = Reranker(settings["export"], None, settings["dtype"], settings["backend"], windows=settings["windows"])
    windows = ranker.windows
    if windows is not None:
        print(f"longer passages are read in {windows.told()}", file=sys.stderr)
    if "pairs" not in settings:
        own = weights(Path(settings["export"])) if Path(settings["export"]).is_dir() else settings["export"]
        made_of = {"export": own, "dtype": ranker.dtype, "backend": settings["backend"]}
        made_of |= {} if windows is None else {"windows": windows.values()}
        queries = rerank(settings, ranker.score, made_of)
        print(f"{settings['to']}: {queries} queries, by {settings['export']} in {ranker.dtype}", file=sys.stderr)
    elif settings["pairs"] == "-":
        score_lines(sys.stdin, "standard input", ranker.score, sys.stdout)
    else:
        with Path(settings["pairs"]).open(encoding="utf-8", newline="\n") as lines:
            score_lines(lines, settings["pairs"], ranker.score, sys.stdout)


def main(words: Sequence[str]) -> int:
    """Rank or score what the words of the command line say.

    Returns:
        The exit status, see ``run_command``.
    """
    return run_command(words, __doc__, lambda: rank(settings_of(words)))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
