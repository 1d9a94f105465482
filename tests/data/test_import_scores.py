"""Imported scores: exact, once each, in one step; and a command that says what is wrong."""

import gzip
import json
import os
import signal
from pathlib import Path

import numpy as np
import pytest
from commands import command

from rankdistil.data.collections.texts import Collection, LiveTexts
from rankdistil.data.import_scores import import_scores, main, settings_of
from rankdistil.data.teacher_scores import distinct
from rankdistil.data.teacher_scores.folder import TeacherScores, load_scores, read_shard

TRIPLES = "9.1\t-0.3\t1\ta\tb\n9.1\t1e-7\t1\ta\tc\n-7.123456789\t0.2\t2\tc\ta\n"
PAIRS = {("1", "a"): 9.1, ("1", "b"): -0.3, ("1", "c"): 1e-7, ("2", "c"): -7.123456789, ("2", "a"): 0.2}


def words(folder: Path, content: str, name: str = "triples.tsv", **settings: str) -> list[str]:
    """Write a file; return the words of the command that imports it to ``out``."""
    (folder / name).write_bytes(gzip.compress(content.encode()) if name.endswith(".gz") else content.encode())
    return [
        f"{key}={value}"
        for key, value in {"format": "triples", "file": folder / name, "to": folder / "out", **settings}.items()
    ]


def loaded(folder: Path) -> tuple[TeacherScores, Collection]:
    """Load scores for training, with settings that imported ones say nothing of."""
    texts = Collection(*(LiveTexts(lambda ids: dict.fromkeys(ids, ""), None) for _ in range(2)))
    return load_scores(folder, texts, {"tokenizer": "t", "max_length": 27}), texts


def in_folder(folder: Path) -> dict[tuple[str, str], float]:
    shards = [read_shard(folder / name) for name in json.loads((folder / "scores.json").read_text())["shards"]]
    rows = [row for shard in shards for row in zip(shard.queries, shard.passages, shard.scores.tolist(), strict=True)]
    assert len({row[:2] for row in rows}) == len(rows), "a pair is there twice"
    return {row[:2]: row[2] for row in rows}


@pytest.mark.parametrize("name", ["triples.tsv", "triples.tsv.gz"])
def test_imported_scores_are_trained_on_bit_by_bit(tmp_path, name):
    told = import_scores(settings_of(words(tmp_path, TRIPLES, name)))
    assert told == [
        f"5 pairs of 2 queries, scores -7.12346 to 9.1; 1 repeats left out. Train from them: teacher.scores={tmp_path}/out"
    ]
    scores, texts = loaded(tmp_path / "out")
    queries, passages = zip(*PAIRS, strict=True)
    found = scores.of(texts.queries.rows(queries), texts.passages.rows(passages))
    assert found.dtype == np.float32
    assert found.tolist() == [float(np.float32(score)) for score in PAIRS.values()]


def test_the_header_names_format_and_content(tmp_path):
    import_scores(settings_of(words(tmp_path, TRIPLES)))
    header = json.loads((tmp_path / "out" / "scores.json").read_text())
    assert header["shards"] == {"part-00000.parquet": 5}
    content = {"file": "triples.tsv", "size": len(TRIPLES), "sha256": header["made_of"]["file"]["sha256"]}
    expected = {"teacher": "imported:triples:triples.tsv", "dtype": "float32", "file": content, "repeats": "refuse"}
    assert header["made_of"] == expected
    os.utime(tmp_path / "triples.tsv", (0, 0))  # the content counts, not the time
    import_scores(settings_of(words(tmp_path, TRIPLES, to=str(tmp_path / "again"))))
    assert json.loads((tmp_path / "again" / "scores.json").read_text()) == header
    import_scores(settings_of(words(tmp_path, TRIPLES.replace("9.1", "9.2"), to=str(tmp_path / "changed"))))
    changed = json.loads((tmp_path / "changed" / "scores.json").read_text())["made_of"]["file"]
    assert changed["sha256"] != content["sha256"]


def test_shards_are_cut_and_repeats_found_however_far_apart(tmp_path, monkeypatch):
    monkeypatch.setattr(distinct, "CHUNK", 7)
    monkeypatch.setattr(distinct, "SHARD", 16)
    rows = [(f"q{n % 10}", f"p{n % 50}", n % 50 / 8) for n in range(200)]
    content = "".join(f"{score}\t{query}\t{passage}\n" for query, passage, score in rows)
    told = import_scores(settings_of(words(tmp_path, content, format="pairs")))
    assert told[0].startswith("50 pairs of 10 queries, scores 0 to 6.125; 150 repeats left out.")
    assert in_folder(tmp_path / "out") == {(query, passage): score for query, passage, score in rows}
    assert json.loads((tmp_path / "out" / "scores.json").read_text())["shards"] == {
        "part-00000.parquet": 16, "part-00001.parquet": 16, "part-00002.parquet": 16, "part-00003.parquet": 2,
    }  # fmt: skip


@pytest.mark.parametrize("chunk", [2, 1000])
def test_a_pair_with_two_scores_is_refused_with_both_lines(tmp_path, monkeypatch, chunk):
    monkeypatch.setattr(distinct, "CHUNK", chunk)
    content = "1.5\tq\ta\n2.5\tq\tb\n1.5\tq\ta\n0\tr\ta\n1.5000002\tq\ta\n"
    with pytest.raises(ValueError) as caught:
        import_scores(settings_of(words(tmp_path, content, "pairs.tsv", format="pairs")))
    assert str(caught.value) == (
        f"{tmp_path}/pairs.tsv:5: query q and passage a have the score 1.50000024; in line 1 they have 1.5. A teacher gives a "
        "pair one score: import one teacher's scores, or set repeats=first to keep the first score of each pair."
    )
    assert [path.name for path in tmp_path.iterdir()] == ["pairs.tsv"]


@pytest.mark.parametrize("chunk", [2, 1000])
def test_the_first_of_several_scores_is_kept_and_said(tmp_path, monkeypatch, chunk):
    monkeypatch.setattr(distinct, "CHUNK", chunk)
    content = "1.5\tq\ta\n2\tq\tb\n1\tq\ta\n0\tr\ta\n1.75\tq\ta\n2.25\tq\tb\n0\tr\ta\n"
    told = import_scores(settings_of(words(tmp_path, content, format="pairs", repeats="first")))
    assert told[0] == "2 pairs had scores that differ, by up to 0.75; the first of each is kept."
    assert told[1].startswith("3 pairs of 2 queries, scores 0 to 2; 4 repeats left out.")
    assert in_folder(tmp_path / "out") == {("q", "a"): 1.5, ("q", "b"): 2, ("r", "a"): 0}


def test_texts_of_several_ids_are_counted(tmp_path):
    (tmp_path / "queries.tsv").write_text("1\twhat do bees make\n2\twhat do bees make\n")
    (tmp_path / "corpus.tsv").write_text("a\tHoney.\nb\tWax.\n")
    row = {"query": "what do bees make", "pos": ["Honey."], "neg": ["Wax."], "pos_scores": [3], "neg_scores": [1]}
    files = {key: str(tmp_path / f"{key}.tsv") for key in ("corpus", "queries")}
    told = import_scores(settings_of(words(tmp_path, json.dumps(row), "rows.jsonl", format="flag_embedding", **files)))
    assert told[0] == f"1 texts have several ids in queries={tmp_path}/queries.tsv; the first got the score."
    assert in_folder(tmp_path / "out") == {("1", "a"): 3, ("1", "b"): 1}
    made_of = json.loads((tmp_path / "out" / "scores.json").read_text())["made_of"]
    assert [made_of[key]["file"] for key in ("file", "corpus", "queries")] == ["rows.jsonl", "corpus.tsv", "queries.tsv"]


def test_a_killed_import_leaves_no_folder_and_the_next_clears_up(tmp_path):
    line = words(tmp_path, TRIPLES)
    dying = (
        "import os, signal, sys\n"
        "from rankdistil.data import import_scores\nfrom rankdistil.data.teacher_scores import distinct\n"
        "distinct.write_json = lambda *_: os.kill(os.getpid(), signal.SIGKILL)\nimport_scores.main(sys.argv[1:])\n"
    )
    assert command("-c", dying, *line).returncode == -signal.SIGKILL
    left = tmp_path / ".out.importing"
    assert (left / "scores" / "part-00000.parquet").is_file()
    assert not (tmp_path / "out").exists()
    assert main(line) == 0
    assert not left.exists()
    assert len(loaded(tmp_path / "out")[0]) == 5


def test_an_import_that_is_asked_to_stop_leaves_nothing(tmp_path, capsys, monkeypatch):
    line = words(tmp_path, TRIPLES)
    before = {*tmp_path.iterdir()}
    monkeypatch.setattr(distinct, "write_json", lambda *_: signal.raise_signal(signal.SIGTERM))
    assert main(line) == 143
    assert capsys.readouterr().err == "stopped by SIGTERM.\n"
    assert {*tmp_path.iterdir()} == before


def test_a_second_import_into_the_same_folder_is_refused(tmp_path, monkeypatch):
    settings = settings_of(words(tmp_path, TRIPLES))

    def importing(path: Path, value: object) -> None:
        monkeypatch.undo()
        with pytest.raises(RuntimeError, match=rf"\.out\.importing is in use by pid {os.getpid()} .* choose another to\.$"):
            import_scores(settings)
        path.write_text(json.dumps(value))

    monkeypatch.setattr(distinct, "write_json", importing)
    import_scores(settings)
    assert len(loaded(tmp_path / "out")[0]) == 5


def test_the_command_says_how_to_train_from_the_scores(tmp_path):
    done = command("-m", "rankdistil.data.import_scores", *words(tmp_path, TRIPLES))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith(f"Train from them: teacher.scores={tmp_path}/out\n")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["part-00000.parquet", "scores.json"]


def test_a_bad_line_gets_one_message_and_leaves_nothing(tmp_path, capsys):
    assert main(words(tmp_path, TRIPLES + "1\t2\t3\n", to=str(tmp_path / "deep" / "out"))) == 1
    assert capsys.readouterr() == (
        "",
        f"error: {tmp_path}/triples.tsv:4: 3 columns, expected 5 "
        "(positive_score<TAB>negative_score<TAB>query_id<TAB>positive_id<TAB>negative_id): '1\\t2\\t3'\n",
    )
    assert [path.name for path in tmp_path.iterdir()] == ["triples.tsv"]


USAGE = (
    " Usage: python -m rankdistil.data.import_scores format=<name> file=<path> to=<folder> [corpus=<file> queries=<file>] "
    "[repeats=first]"
)
KEYS = "is no setting; the keys are format, file, to, corpus, queries, repeats."


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"-format": ""}, "format is not set." + USAGE),
        ({"-file": ""}, "file is not set." + USAGE),
        ({"-to": ""}, "to is not set." + USAGE),
        ({"fromat": "pairs"}, f"'fromat=pairs' {KEYS}{USAGE}"),
        ({"format": "tsv"}, "format is 'tsv'; expected one of pairs, triples, trec, sentence_transformers, flag_embedding."),
        ({"repeats": "mean"}, "repeats is 'mean'; expected one of refuse, first."),
        ({"file": "none.tsv"}, "file=none.tsv is no file. Put it in place, or correct the path."),
        ({"format": "flag_embedding", "corpus": "none"}, "corpus=none is no file. Put it in place, or correct the path."),
        ({"queries": "none"}, "queries has no effect: rows of format=triples hold ids. Leave it out."),
        ({"to": "/"}, "to=/ exists and isn't an empty folder. Name another one, or remove it."),
        ({"to": __file__}, f"to={__file__} exists and isn't an empty folder. Name another one, or remove it."),
    ],
)
def test_wrong_settings_get_one_message(tmp_path, capsys, changed, message):
    given = dict(word.split("=", 1) for word in words(tmp_path, TRIPLES)) | changed
    line = [f"{key}={value}" for key, value in given.items() if f"-{key}" not in changed]
    assert main([word for word in line if word[0] != "-"]) == 1
    assert capsys.readouterr() == ("", f"error: {message}\n")
    assert [path.name for path in tmp_path.iterdir()] == ["triples.tsv"]


def test_a_key_given_twice_is_refused(tmp_path, capsys):
    assert main([*words(tmp_path, TRIPLES), "format=pairs"]) == 1
    assert capsys.readouterr().err == "error: format is given twice: triples and pairs.\n"


def test_an_empty_folder_is_filled_and_a_file_without_scores_refused(tmp_path, capsys):
    (tmp_path / "out").mkdir()
    assert main(words(tmp_path, "\n")) == 1
    assert capsys.readouterr().err == f"error: {tmp_path}/triples.tsv holds no score.\n"
    assert main(words(tmp_path, TRIPLES)) == 0
    assert len(loaded(tmp_path / "out")[0]) == 5
