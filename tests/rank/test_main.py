"""Re-ranking run files and scoring pairs from the command line: orders of the reranker, and going on where it was stopped."""

import io
import json
from pathlib import Path

import pytest
from families import TEXT, tiny, tokenizer_of

from rankdistil import Reranker
from rankdistil.data.windows import Windows
from rankdistil.inference import engine
from rankdistil.inference.export_files import write_export
from rankdistil.metrics.ranking import read_run
from rankdistil.rank.__main__ import main, rerank, settings_of

QUERIES = {"q1": "how do bees fly", "q2": "a bridge", "q3": "apples"}
PASSAGES = {f"p{number}": text for number, text in enumerate(TEXT)} | {"empty": ""}
RUN = [
    "q2 Q0 p4 1 3.5 bm25", "q2 Q0 p0 2 1.5 bm25", "q1 Q0 p1 1 9 bm25", "q1 Q0 empty 2 8 bm25", "q1 Q0 p3 3 7 bm25",
    "q3 Q0 p5 1 1 bm25",
]  # fmt: skip


@pytest.fixture(scope="module")
def export(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("rank") / "tiny"
    write_export(folder, tiny("bert"), tokenizer_of("bert"), 64)
    return folder


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    """Write three files; the corpus is BEIR's, and holds a passage that no query asks for."""
    found = {"queries": tmp_path / "queries.tsv", "corpus": tmp_path / "corpus.jsonl", "run": tmp_path / "bm25.run"}
    found["queries"].write_text("".join(f"{key}\t{text}\n" for key, text in QUERIES.items()))
    found["corpus"].write_text("".join(json.dumps({"_id": key, "text": text}) + "\n" for key, text in PASSAGES.items()))
    found["run"].write_text("\n".join(RUN) + "\n")
    return found | {"to": tmp_path / "out.run"}


def words(files: dict[str, Path], **more: object) -> list[str]:
    return [f"{key}={value}" for key, value in (files | more).items()]


def test_a_run_is_ranked_as_the_reranker_does(export: Path, files: dict[str, Path]) -> None:
    assert main(words(files, export=export)) == 0
    ranker, found = Reranker(export, device="cpu"), read_run(files["to"])
    assert [*found] == ["q2", "q1", "q3"]
    for query, ids in {"q2": ["p4", "p0"], "q1": ["p1", "empty", "p3"], "q3": ["p5"]}.items():
        hits = ranker.rerank(QUERIES[query], [PASSAGES[key] for key in ids])
        assert [each.passage_id for each in found[query]] == [ids[hit.index] for hit in hits]
        assert [each.score for each in found[query]] == pytest.approx([hit.score for hit in hits], abs=1e-5)
    assert sorted(path.name for path in files["to"].parent.iterdir() if path.name[0] != ".") == [
        "bm25.run", "corpus.jsonl", "out.run", "queries.tsv",
    ]  # fmt: skip


def test_depth_takes_the_candidates_of_the_highest_scores(export: Path, files: dict[str, Path]) -> None:
    files["run"].write_text("\n".join(reversed(RUN)) + "\n")
    assert main(words(files, export=export, depth=2)) == 0
    found = {query: {each.passage_id for each in row} for query, row in read_run(files["to"]).items()}
    assert found == {"q3": {"p5"}, "q1": {"p1", "empty"}, "q2": {"p4", "p0"}}


@pytest.mark.parametrize("left", ["", "q1 Q0 p1 1 0.5 rankdistil\n", "q1 Q0 p1 1"])
def test_what_was_stopped_goes_on_behind_its_last_whole_query(
    files: dict[str, Path], monkeypatch: pytest.MonkeyPatch, left: str
) -> None:
    monkeypatch.setattr(engine, "CHUNK", 1)
    settings, calls = settings_of(words(files, export="any")), []

    def score(pairs: list[tuple[str, str]]) -> list[float]:
        calls.append(pairs[0][0])
        if len(calls) == 2:
            raise KeyboardInterrupt
        return [float(len(passage)) for _, passage in pairs]

    with pytest.raises(KeyboardInterrupt):
        rerank(settings, score, {})
    with (files["to"].parent / "out.run.part/run").open("a") as part:
        part.write(left)  # of a process that was killed
    assert rerank(settings, score, {}) == 3
    assert calls == ["a bridge", "how do bees fly", "how do bees fly", "apples"]
    rows = {query: {each.passage_id: each.score for each in row} for query, row in read_run(files["to"]).items()}
    assert rows == {
        query: {row.split()[2]: float(len(PASSAGES[row.split()[2]])) for row in RUN if row.startswith(query)}
        for query in QUERIES
    }


def test_what_was_begun_with_other_settings_is_refused(files: dict[str, Path]) -> None:
    settings = settings_of(words(files, export="any"))

    def stop(pairs: list[tuple[str, str]]) -> list[float]:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        rerank(settings, stop, {"dtype": "int8"})
    with pytest.raises(KeyboardInterrupt):
        rerank(settings, stop, {"dtype": "bfloat16"})  # nothing was ranked yet
    part = files["to"].with_name("out.run.part")
    (part / "run").write_text("q2 Q0 p4 1 0.5 rankdistil\n")
    with pytest.raises(ValueError) as caught:
        rerank(settings, stop, {"dtype": "float32"})
    told = f"{part} was begun with other settings; remove it, or name another to=:\n  dtype: bfloat16 -> float32"
    assert str(caught.value) == told


def test_two_at_once_do_not_write_into_one_file(files: dict[str, Path]) -> None:
    settings, told = settings_of(words(files, export="any")), []

    def score(pairs: list[tuple[str, str]]) -> list[float]:
        with pytest.raises(RuntimeError) as caught:
            rerank(settings, score, {})
        told.append(str(caught.value))
        return [0.0] * len(pairs)

    assert rerank(settings, score, {}) == 3
    assert "out.run.part" in told[0]


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("run", "q1 Q0 p1 1 9 x\nq9 Q0 p1 1 9 x\n", "{run}:2: query q9 is not there in {queries}."),
        ("run", "q1 Q0 p1 1 9 x\nq1 Q0 p99 2 8 x\n", "{run}:2: passage p99 is not there in {corpus}."),
        (
            "run", "q1 Q0 p1 1 9 x\nq1 Q0 p1 2 8 x\n",
            "{run}:2: query q1 names passage p1 again (line 1). Remove the repetition.",
        ),
    ],
)  # fmt: skip
def test_what_a_run_names_has_to_be_there(files: dict[str, Path], file: str, text: str, message: str) -> None:
    files[file].write_text(text)
    with pytest.raises(ValueError) as caught:
        rerank(settings_of(words(files, export="any")), lambda pairs: [0.0] * len(pairs), {})
    assert str(caught.value).startswith(message.format(**files))


def test_pairs_from_a_file_or_the_standard_input_get_a_logit_each(
    export: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pairs = [(query, text) for query in QUERIES.values() for text in (*TEXT, "")]
    lines = "".join(f"{query}\t{text}\n" for query, text in pairs)
    (tmp_path / "pairs.tsv").write_text(lines)
    monkeypatch.setattr("sys.stdin", io.StringIO(lines))
    expected = Reranker(export, device="cpu").score(pairs)
    for source in (tmp_path / "pairs.tsv", "-"):
        assert main([f"export={export}", f"pairs={source}"]) == 0
        assert [*map(float, capsys.readouterr().out.split())] == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(
    ("line", "told"),
    [("alone", "1 columns between tabs; expected query and passage."), (" \tpassage", "the query is empty.")],
)
def test_a_line_that_is_no_pair_is_named(export: Path, tmp_path: Path, capsys, line: str, told: str) -> None:
    path = tmp_path / "pairs.tsv"
    path.write_text(f"a\tb\n{line}\n")
    assert main([f"export={export}", f"pairs={path}"]) == 1
    assert capsys.readouterr().err == f"error: {path}:2: {told}\n"


def test_wrong_words_are_one_message(files: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    usage = (
        "python -m rankdistil.rank export=<export> queries=<file> corpus=<file> run=<run> to=<run>, or export=<export> pairs=-"
    )
    there = {key: files[key] for key in ("queries", "corpus", "run")}
    files["to"].touch()
    for line, message in (
        (["pairs=-"], f"export is not set. Usage: {usage}"),
        (words(there, export="x"), f"to is not set. Usage: {usage}"),
        (["export=x", "pairs=-", "depth=3"], "depth has no effect beside pairs. Leave it out."),
        (["export=x", "pairs=nowhere"], "pairs=nowhere is no file. Put it in place, or correct the path."),
        (words(files, export="x", depth=0), "depth is '0'; expected a whole number of at least 1."),
        (words(files, export="x"), f"to={files['to']} exists. Name another file, or remove it."),
    ):
        assert main(line) == 1
        assert capsys.readouterr().err == f"error: {message}\n"


WINDOWS = 'windows={"stride": 3, "most": 4, "size": 5}'


def test_documents_are_read_in_the_windows_asked_for_or_the_export_s_and_it_is_said(
    export: Path, files: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own = tmp_path / "own"
    write_export(own, tiny("bert"), tokenizer_of("bert"), 64, windows=Windows(3, 4, 5))
    long = {"p1": " ".join([TEXT[1], TEXT[4], TEXT[6]]), "p4": TEXT[4], "p0": TEXT[0]}
    passages = PASSAGES | long
    files["corpus"].write_text("".join(json.dumps({"_id": key, "text": text}) + "\n" for key, text in passages.items()))
    found = {}
    asked = {"asked": [f"export={export}", WINDOWS], "own": [f"export={own}"], "cut": [f"export={own}", "windows=none"]}
    for name, words_of in asked.items():
        assert main([*words(files | {"to": tmp_path / f"{name}.run"}), *words_of]) == 0
        found[name] = {each.passage_id: each.score for each in read_run(tmp_path / f"{name}.run")["q1"]}
        said = "longer passages are read in windows of 5 tokens, one every 3, 4 at most (MaxP)\n"
        assert (said in capsys.readouterr().err) == (name != "cut")
    ranker = Reranker(export, device="cpu", windows={"stride": 3, "most": 4, "size": 5})
    ids = ["p1", "empty", "p3"]
    expected = dict(zip(ids, ranker.score([(QUERIES["q1"], passages[key]) for key in ids]), strict=True))
    assert found["asked"] == pytest.approx(expected, abs=1e-5)
    assert found["own"] == pytest.approx(expected, abs=1e-5)
    assert found["cut"]["p1"] != pytest.approx(expected["p1"], abs=1e-3)


def test_what_was_begun_with_other_windows_does_not_go_on(files: dict[str, Path]) -> None:
    settings = settings_of(words(files, export="any"))

    def score(pairs: list[tuple[str, str]]) -> list[float]:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        rerank(settings, score, {"windows": {"stride": 3}})
    (files["to"].parent / "out.run.part/run").write_text("q2 Q0 p4 1 0.5 rankdistil\n")
    with pytest.raises(ValueError, match=r"was begun with other settings; .*\n  windows\.stride: 3 -> 4$"):
        rerank(settings, score, {"windows": {"stride": 4}})


def test_windows_that_are_none_are_refused(export: Path, files: dict[str, Path]) -> None:
    with pytest.raises(ValueError, match=r"^windows\.stride is 0; expected a whole number of at least 1\.$"):
        settings_of([*words(files, export=export), 'windows={"stride": 0, "most": 4}'])
