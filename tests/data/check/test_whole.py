"""The check of all data before training: what it counts, and every problem with file and line."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from rankdistil.data.check.counts import TextsFound
from rankdistil.data.check.whole import Check, Split
from rankdistil.data.collections.reader import Reader
from rankdistil.data.collections.splits import Holdout
from rankdistil.data.files.bad_lines import STRICT, Tolerance
from rankdistil.data.files.folder import FolderSplit
from rankdistil.data.settings import DataSettings
from rankdistil.files import content

SETTINGS = DataSettings(
    batch_size=2, eval_batch_size=3, max_length=8, train_on="docpairs", negatives_depth=10,
    relevance_level=1, depth=10, valid_depth=2, valid_queries=10,
)  # fmt: skip
COLUMNS = "(query_id<TAB>positive_id<TAB>negative_id)"
UNKNOWN = (
    "1 judgments name passages that are not in corpus.tsv ({}); 1 judgments name queries that are not in queries.tsv ({}). Do "
    "the files belong together? Remove these lines, or set data.allow_unknown=true: unknown passages then count for the ideal "
    "ranking, unknown queries don't."
)


@pytest.fixture
def looked() -> Callable[..., Check]:
    """Look through splits, named ones or one called train."""

    def looked(*splits: FolderSplit | str, tolerance: Tolerance = STRICT, level: int = 1, **settings: object) -> Check:
        names = ("train", "valid", "test")[: len(splits)]
        check = Check(replace(SETTINGS, **settings))
        check.look([Split(name, Reader(split, None, tolerance), level) for name, split in zip(names, splits, strict=True)])
        return check

    return looked


def told(check: Check) -> dict[str, str]:
    return {row.file: row.told for row in check.rows}


def complaints(check: Check) -> list[str]:
    return [line for listing in check.listings.all() for line in listing.shown()]


def test_each_file_is_counted(collection, looked):
    assert told(looked(collection())) == {
        "corpus.tsv": "5 passages; words: 5 median, 5 at 95 %, 6 at most; 1 of more than 5 words, cut to 5 tokens or fewer",
        "queries.tsv": "3 queries; words: 4 median, 4 at 95 %, 5 at most",
        "qrels.txt": "4 judgments of 3 queries; grades 0: 1, 1: 2, 2: 1",
        "triples.tsv": "4 triples of 3 queries",
        "run.txt": "7 candidates of 3 queries; 2 to 3 each",
    }


def test_lines_bytes_and_sha256_are_those_of_the_file(collection, looked, tmp_path):
    row = next(row for row in looked(collection()).rows if row.file == "qrels.txt")
    path = tmp_path / "qrels.txt"
    assert (row.lines, row.bytes, row.sha256) == (4, path.stat().st_size, content(path))


def test_a_file_that_splits_share_is_read_once(collection, looked):
    split = collection()
    found = {row.file: row.splits for row in looked(split, split, replace(split, candidates=None)).rows}
    shared = {file: ["train", "valid", "test"] for file in ("corpus.tsv", "queries.tsv", "qrels.txt", "triples.tsv")}
    assert found == shared | {"run.txt": ["train", "valid"]}


def test_clean_files_leave_nothing_to_say(collection, looked):
    check = looked(collection())
    assert (complaints(check), check.problems, check.notes) == ([], [], [])


def test_every_bad_line_of_every_file_is_listed(collection, looked, tmp_path):
    check = looked(
        collection(
            corpus="a\tone\nno tab\nb\ttwo\na\tthree\nc\tfour\n",
            queries="1\tone\n\ttwo\n2\tthree\n",
            qrels="1 0 a 2\n1 0 b good\n1 0 a 1\n9 0 zz 1\n",
            triples="1\ta\tb\n1\ta\n9\ta\tb\n2\tzz\tb\n",
            run="1 Q0 a 1 2.0 t\n1 Q0 a 2 1.0 t\n1 Q0 zz 3 0.5 t\n8 Q0 zz 3 0.5 t\n1 Q0 b 4 nan t\n",
        )
    )
    assert complaints(check) == [
        f"{tmp_path}/{line}"
        for line in (
            "corpus.tsv:2: 1 columns, expected 2 (id<TAB>text): 'no tab'",
            "corpus.tsv:4: id 'a' has another text than in line 1. Keep one of them.",
            "queries.tsv:2: empty id: '\\ttwo'",
            f"qrels.txt: {UNKNOWN.format('line 4: zz', 'line 4: 9')}",
            "qrels.txt:2: grade is 'good', expected a whole number.",
            "qrels.txt:3: query 1 judges passage a again, as 1; line 1 says 2. Keep one.",
            f"triples.tsv:2: 2 columns, expected 3 {COLUMNS}: '1\\ta'",
            "triples.tsv:3: query '9' is not among the queries. Do the files belong together?",
            "triples.tsv:4: passage 'zz' is not in the collection. Do the files belong together?",
            "run.txt:2: query 1 names passage a again (line 1). Remove the repetition.",
            "run.txt:3: passage 'zz' is not in the collection. Do the files belong together?",
            "run.txt:5: score is 'nan', expected a finite number.",
        )
    ]


def test_the_first_twenty_complaints_of_a_file_are_listed_and_the_others_counted(collection, looked, tmp_path):
    lines = complaints(looked(collection(triples="1\ta\tb\n" + "1\ta\n" * 50)))
    assert len(lines) == 21
    assert lines[19].startswith(f"{tmp_path}/triples.tsv:21: ")
    assert lines[20] == f"{tmp_path}/triples.tsv: and 30 more."


def test_bytes_that_are_no_text_are_listed_and_the_file_is_read_on(collection, looked, tmp_path):
    split = collection()
    (tmp_path / "corpus.tsv").write_bytes(b"a\tcaf\xe9\nb\tone\0\nc\ttwo\nd\tthree\nno tab\ne\tfour\n")
    check = looked(replace(split, triples=None, candidates=None), train_on="sampled")
    listing = check.listings.of(tmp_path / "corpus.tsv")
    assert [line.removeprefix(f"{tmp_path}/corpus.tsv") for line in listing.shown()] == [
        ":1: byte 6 is not UTF-8. Convert the file to UTF-8.",
        ":2: byte 6 is zero. The file is damaged, or not text in UTF-8.",
        ":5: 1 columns, expected 2 (id<TAB>text): 'no tab'",
    ]
    assert (listing.fatal, listing.found, listing.lines) == (2, 1, 6)


def test_repeated_judgments_and_lines_of_names_are_told(collection, looked):
    corpus = "id\ttext\n" + "".join(f"{key}\t{key}{key}\n" for key in "abcde")
    qrels = "query-id\tcorpus-id\tscore\n1\ta\t1\n1\ta\t1.0\n2\tb\t1\n3\tc\t1\n"
    found = told(looked(collection(corpus=corpus, qrels=qrels)))
    assert found["qrels.txt"] == "4 judgments of 3 queries; grades 1: 4; 1 repeated; line 1 names the columns"
    assert found["corpus.tsv"] == "5 passages; words: 1 median, 1 at 95 %, 1 at most; line 1 names the columns"


def test_ids_and_line_ends_are_looked_at_as_in_a_run(collection, looked, tmp_path):
    split = collection(
        corpus="a\tone\n b\ttwo\nc\tx\nd\tx\ne\tx\n", triples="1\ta\tc\xa0\n", run="1 Q0 a 1 2 t\r1 Q0 c 2 1 t\n"
    )
    rule = "in it: an id has neither white space nor control characters."
    assert [line.removeprefix(f"{tmp_path}/") for line in complaints(looked(split))][:1] == [
        f"corpus.tsv:2: id is ' b', with U+0020 (space) {rule}"
    ]
    assert {line.removeprefix(f"{tmp_path}/") for line in complaints(looked(split))} >= {
        f"triples.tsv:1: negative_id is 'c\\xa0', with U+00A0 (no-break space) {rule}",
        "run.txt:1: byte 13 is a carriage return (CR) without a line feed. End lines with LF or CR LF.",
    }


def test_what_can_be_left_out_does_not_stop_a_run_and_what_is_more_does(collection, looked, tmp_path):
    triples = "1\ta\tb\n" * 1500
    few, many = (looked(collection(triples=triples + "1\ta\n" * bad)).listings.of(tmp_path / "triples.tsv") for bad in (2, 3))
    assert [listing.stops("skip") for listing in (few, many)] == [False, True]
    assert few.stops("stop")


def test_what_no_run_accepts_stops_it_though_lines_may_be_left_out(collection, looked, tmp_path):
    check = looked(collection(qrels="1 0 a 1\n1 0 zz 1\n"))
    assert check.listings.of(tmp_path / "qrels.txt").stops("skip")


def test_allowed_unknown_judgments_are_counted_and_no_complaint(collection, looked):
    check = looked(collection(qrels="1 0 a 1\n1 0 zz 1\n2 0 b 0\n77 0 a 1\n"), tolerance=Tolerance(allow_unknown=True))
    assert complaints(check) == []
    assert told(check)["qrels.txt"] == (
        "4 judgments of 2 queries; grades 0: 1, 1: 3; 1 of unknown passages; 1 of unknown queries; 1 queries without a "
        "judgment; 1 judged queries without a passage of grade 1 or more"
    )


def test_the_level_of_the_split_says_what_is_relevant(collection, looked):
    found = told(looked(collection(), level=2))["qrels.txt"]
    assert found.endswith("2 judged queries without a passage of grade 2 or more")


def test_no_judgment_of_any_query_is_a_problem(collection, looked, tmp_path):
    check = looked(collection(qrels="77 0 a 1\n"), tolerance=Tolerance(allow_unknown=True))
    assert complaints(check) == [
        f"{tmp_path}/queries.tsv: no query of the split has a judgment. Do queries and qrels belong together?"
    ]


def test_empty_texts_and_odd_triples_are_counted(collection, looked):
    found = told(looked(collection(corpus="a\t \nb\ttwo\nc\t\nd\tone\ne\tone\n", triples="1\ta\tb\n1\tb\tb\n1\ta\tb\n")))
    assert found["corpus.tsv"] == "5 passages; words: 1 median, 1 at 95 %, 1 at most; 2 empty; 2 with the text of another"
    assert (
        found["triples.tsv"] == "3 triples of 1 queries; 2 with an empty positive; 1 whose negative is the positive; 1 repeated"
    )


def test_texts_under_two_ids_are_counted_and_so_are_triples_that_hold_one_twice(collection, looked):
    corpus = "a\tone\nb\tOne.\nb\tOne.\nc\ttwo\nd\tx\ne\ty\n"  # a repeated line is no second id
    found = told(looked(collection(corpus=corpus, triples="1\ta\tb\n1\ta\tc\n1\tc\tc\n")))
    assert found["corpus.tsv"].endswith("; 2 with the text of another")
    assert found["triples.tsv"] == (
        "3 triples of 1 queries; 1 whose negative is the positive; 1 whose negative has the positive's text"
    )


def test_missing_files_are_listed_and_the_others_read_all_the_same(collection, looked, tmp_path):
    split = collection(triples="1\ta\n")
    (tmp_path / "corpus.tsv").unlink()
    (tmp_path / "run.txt").unlink()
    check = looked(split)
    hint = "is not there. Set its name under data.*, or put the file in place."
    assert complaints(check) == [
        f"{tmp_path}/corpus.tsv {hint}",
        f"{tmp_path}/triples.tsv:1: 2 columns, expected 3 {COLUMNS}: '1\\ta'",
        f"{tmp_path}/run.txt {hint}",
    ]
    assert told(check)["corpus.tsv"] == "can't be read"


def test_a_missing_folder_is_said_once(looked):
    split = FolderSplit("/no/where", "corpus.tsv", "queries.tsv", "qrels.txt")
    problem = "data.root=/no/where is no folder. Set data.root to the folder that holds corpus.tsv."
    assert looked(split, split, split).problems == [problem]


def test_a_column_that_no_line_of_names_has_is_a_complaint(collection, looked, tmp_path):
    split = replace(collection(), columns={"corpus": {"id": "docno"}})
    assert complaints(looked(split)) == [
        f"{tmp_path}/corpus.tsv:1: no column 'docno' for id; the line of names has 'a', 'Apples grow on trees.'."
    ]


def test_training_without_triples_says_what_to_set(collection, looked, tmp_path):
    split = replace(collection(), triples=None)
    assert looked(split).problems == [
        f"{tmp_path}/queries.tsv has no docpairs (triples). Set data.train_on=sampled, or name a triples file."
    ]
    assert looked(split, train_on="sampled").problems == []


def test_training_queries_that_nothing_can_be_sampled_for_are_counted(collection, looked):
    check = looked(collection(qrels="1 0 a 1\n2 0 b 0\n"), train_on="sampled")
    told = "queries are left out: they have no relevant passage, or too few candidates that aren't relevant."
    assert check.notes == [f"training: 2 of 3 {told}"]
    assert looked(collection(), train_on="sampled", negatives=2).notes == [f"training: 2 of 3 {told}"]
    one_text = collection(corpus="a\tone\nb\ttwo\nc\ttwo\nd\tone\ne\tOne.\n", qrels="1 0 a 1\n2 0 c 1\n3 0 d 1\n")
    assert looked(one_text, train_on="sampled").notes == [f"training: 2 of 3 {told}"]
    nothing = looked(collection(qrels="1 0 a 0\n"), train_on="sampled")
    assert nothing.problems == ["no training query has both a relevant passage and a negative among its candidates."]


def test_triples_that_leave_nothing_to_train_on_are_a_problem(collection, looked):
    one_text = collection(corpus="a\tone\nb\tOne.\nc\tx\nd\ty\ne\tz\n", triples="1\ta\tb\n")
    assert looked(one_text).problems == ["all 1 triples of the training split have a negative with the text of the positive."]
    assert looked(collection(triples="")).problems == [
        "the training split has no triple for its queries. Do triples and queries belong together?"
    ]


def test_triples_of_texts_are_a_whole_split_that_can_be_trained_on_but_neither_sampled_nor_ranked(looked, tmp_path):
    rows = "what do bees make\tHoney.\tWax.\nwhat do bees make\tHoney.\tHoney.\nshort\n"
    (tmp_path / "triples.tsv").write_text(rows)
    split = FolderSplit(str(tmp_path), "corpus.tsv", None, None, triples_text="triples.tsv")
    check = looked(split)
    assert told(check) == {
        "triples.tsv": "2 passages; words: 1 median, 1 at 95 %, 1 at most\n1 queries; words: 4 median, 4 at 95 %, 4 at most\n"
        "2 triples of 1 queries; 1 whose negative is the positive"
    }
    complaint = f"{tmp_path}/triples.tsv:3: 1 columns, expected 3 (query<TAB>positive<TAB>negative): 'short'"
    assert (complaints(check), check.problems) == ([complaint], [])
    for others in ({"train_on": "sampled"}, {"train_on": "auto", "negatives": 2}):
        (problem,) = looked(split, **others).problems
        assert problem.startswith(f"{tmp_path}/triples.tsv has no judgments (qrels).")


def test_a_holdout_that_leaves_nothing_is_a_problem(collection):
    check = Check(SETTINGS)
    check.look([Split("train", Reader(collection(), Holdout(3, inside=False)), 1)])
    assert check.problems == ["data.holdout sets 3 queries apart, which leaves none of 3 to train on; set it lower."]


def test_judged_test_queries_without_candidates_are_noted(collection, looked, tmp_path):
    split = collection()
    (tmp_path / "other.txt").write_text("2 Q0 b 1 2.0 tag\n")
    check = looked(split, split, replace(split, candidates="other.txt"))
    assert check.notes == ["test: 2 of 3 judged queries have no candidates and count as 0, for example 1."]


def test_a_test_query_that_was_trained_on_is_a_leak_whatever_its_id(collection, looked, tmp_path):
    split = collection()
    (tmp_path / "other.tsv").write_text("1\tanother question\n8\tWhat do  BEES make\n")
    (tmp_path / "other.qrels").write_text("8 0 b 1\n")
    test = replace(split, queries="other.tsv", qrels="other.qrels", triples=None, candidates=None)
    check = looked(split, split, test)
    assert check.leaks == [
        "3 of 3 validation queries have the text of a training query, for example 1 (1 in training), 2 (2 in training), "
        "3 (3 in training).",
        "1 of 1 test queries have the text of a training query, for example 8 (2 in training).",
        "1 of 1 test queries have the text of a validation query, for example 8 (2 in validation).",
    ]
    assert not check.stops()


def test_every_test_split_is_compared_with_every_other(collection, tmp_path):
    split, check = collection(), Check(SETTINGS)
    (tmp_path / "other.tsv").write_text("7\tWhere do apples grow?\n8\tnothing shared\n")
    (tmp_path / "other.qrels").write_text("7 0 a 1\n8 0 b 1\n")
    other = replace(split, queries="other.tsv", qrels="other.qrels", triples=None, candidates=None)
    check.look([Split("test", Reader(one), 1) for one in (split, other)])
    here = tmp_path.name
    assert check.leaks == [
        f"1 of 2 test ({here}/other.tsv) queries have the text of a test ({here}/queries.tsv) query, for example 7 (1 in test "
        f"({here}/queries.tsv))."
    ]


def test_a_file_of_queries_that_splits_share_is_no_leak_where_their_judgments_part_them(collection, looked, tmp_path):
    split = replace(collection(qrels="1 0 a 1\n"), triples=None, candidates=None)
    (tmp_path / "other.qrels").write_text("2 0 b 1\n")
    assert looked(split, replace(split, qrels="other.qrels"), train_on="sampled").leaks == []


def test_an_id_that_names_two_questions_is_noted(collection, looked, tmp_path):
    split = collection()
    (tmp_path / "other.tsv").write_text("1\tanother question\n")
    (tmp_path / "other.qrels").write_text("1 0 b 1\n")
    check = looked(split, replace(split, queries="other.tsv", qrels="other.qrels", triples=None, candidates=None))
    told = "1 of 1 validation queries have the id of a training query with another text, for example 1."
    assert (check.leaks, check.notes) == ([], [told])


def test_the_sides_of_a_holdout_are_counted_and_share_nothing(collection):
    split, check = collection(queries="1\tone\n2\tOne?\n3\tthree\n4\tfour\n5\tfive\n"), Check(SETTINGS)
    sides = {"train": Holdout(1, False), "valid": Holdout(1, True)}
    check.look([Split(name, Reader(split, side), 1) for name, side in sides.items()])
    assert check.leaks == []
    train, valid = check.facts
    counts = sorted(int(fact.split(" has ")[1].split()[0]) for fact in (train, valid))
    assert sum(counts) == 5
    assert valid.startswith("data.holdout: valid has ")


def test_a_holdout_among_unjudged_queries_is_a_problem_of_the_check(collection):
    check = Check(SETTINGS)
    check.look([Split("train", Reader(collection(qrels="1 0 a 1\n"), Holdout(2, False)), 1)])
    assert check.problems == [
        "data.holdout sets 2 queries apart, but only 1 of 3 have a passage of grade 1 or more, which they need to be measured "
        "on. Set it lower, or name splits: data.valid, data.test."
    ]


def test_complaints_about_a_file_that_two_splits_read_are_heard_once(collection, looked, tmp_path):
    split = collection(run="1 Q0 a 1 1.0 t\nbad\n")
    (tmp_path / "other.tsv").write_text("1\tanother question\n")
    check = looked(split, replace(split, queries="other.tsv"), tolerance=Tolerance(allow_unknown=True))
    assert sum("run.txt:2: " in line for line in complaints(check)) == 1
    assert check.listings.of(tmp_path / "run.txt").found == 1


def test_judgments_read_at_two_levels_are_complained_about_once(collection, tmp_path):
    split, check = collection(qrels="1 0 a 2\n1 0 nowhere 1\n3 0 b x\n"), Check(SETTINGS)
    check.look([Split(name, Reader(split), level) for name, level in (("train", 1), ("valid", 1), ("test", 2))])
    listing = check.listings.of(tmp_path / "qrels.txt")
    assert (listing.fatal, listing.found, listing.lines) == (1, 1, 3)
    unknown, ending = "1 judgments name passages that are not in corpus.tsv", UNKNOWN[UNKNOWN.index("Do the files") :]
    assert complaints(check) == [
        f"{tmp_path}/qrels.txt: {unknown} (line 2: nowhere). {ending}",
        f"{tmp_path}/qrels.txt:3: grade is 'x', expected a whole number.",
    ]


def test_a_line_that_two_splits_trip_over_counts_once(collection, looked, tmp_path):
    split = collection(run="1 Q0 nowhere 1 1.0 t\n1 Q0 a 1 1.0 t\n")
    (tmp_path / "other.tsv").write_text("1\tanother question\n")
    check = looked(split, replace(split, queries="other.tsv"), tolerance=Tolerance("skip", allow_unknown=True))
    listing = check.listings.of(tmp_path / "run.txt")
    assert (listing.found, listing.stops("skip")) == (1, False)  # one of any file may be left out


def test_repeated_passages_are_judged_as_in_a_run(collection, looked, tmp_path):
    split = collection(corpus="a\tone\nb\ttwo\na\tone\nb\tthree\nc\tx\nd\tx\ne\tx\n")
    listing = looked(split).listings.of(tmp_path / "corpus.tsv")
    assert listing.shown() == [f"{tmp_path}/corpus.tsv:4: id 'b' has another text than in line 2. Keep one of them."]
    assert [listing.stops(on_bad) for on_bad in ("stop", "skip")] == [True, False]


def test_the_embedded_collection_is_read_and_has_neither_problem_nor_leak(looked):
    check = looked(*(f"rankdistil/almanac/{split}" for split in ("train", "valid", "test")), train_on="sampled")
    assert (complaints(check), check.problems, check.notes, check.leaks) == ([], [], [], [])
    assert [row.told.splitlines()[1].split(";")[0] for row in check.rows] == ["936 queries", "216 queries", "192 queries"]


def test_of_other_datasets_only_what_is_known_without_them_is_told(looked, monkeypatch, tmp_path):
    monkeypatch.setattr("ir_datasets.util.home_path", lambda: tmp_path)
    monkeypatch.setattr("rankdistil.data.check.whole.missing", lambda *_: ["a file"])
    source = "msmarco-passage/trec-dl-2019/judged"
    check = looked("msmarco-passage/train/triples-small", "msmarco-passage/dev/small", source)
    assert check.rows[2].told == "8841823 passages\n43 queries\n9260 judgments\n41042 candidates"
    assert check.notes[2] == f"test: {source} is not on this machine: a run would fetch it first."
    assert not any(path.is_file() for path in tmp_path.rglob("*"))


def test_of_a_dataset_that_is_here_it_is_said_whose_counts_these_are(looked, monkeypatch):
    monkeypatch.setattr("rankdistil.data.check.whole.missing", lambda *_: [])
    (note,) = looked("msmarco-passage/train/triples-small").notes
    known = "is on this machine; the counts are those that ir_datasets knows."
    assert note == f"train: msmarco-passage/train/triples-small {known}"


def test_a_dataset_that_nobody_knows_is_a_problem(looked):
    (problem,) = looked("nowhere/at-all").problems
    assert problem.startswith("ir_datasets knows no dataset 'nowhere/at-all'.")


@pytest.fixture
def ranked(collection) -> Callable[..., tuple[Check, Split]]:
    """Look through one test split, which is to be ranked."""

    def ranked(split: FolderSplit | str, **settings: object) -> tuple[Check, Split]:
        check, test = Check(replace(SETTINGS, **settings)), Split("test", Reader(split), 1)
        check.look([test])
        return check, test

    return ranked


def test_the_candidates_of_a_split_are_those_that_a_run_re_ranks(collection, ranked):
    split = collection(run="1 Q0 a 1 1.0 t\n1 Q0 b 2 3.0 t\n1 Q0 c 3 2.0 t\n")
    check, test = ranked(split, depth=2)
    candidates, judged = check.ranking(test)
    assert [hit.passage_id for hit in candidates["1"]] == ["b", "c"]
    assert candidates.keys() == judged.keys() == test.reader.qrels.keys()
    check, test = ranked(split, depth=2, test_queries=1)
    assert check.ranking(test)[1].keys() == {min(judged)}


def test_candidates_that_nobody_ordered_are_a_problem_where_they_would_be_cut(collection, ranked):
    check, test = ranked(collection(run="1 Q0 a 1 1.0 t\n1 Q0 b 2 1.0 t\n"), depth=1)
    assert check.ranking(test) is None
    assert check.stops()
    assert "the 2 candidates of query 1 all have the score 1" in complaints(check)[0]


def test_passages_that_bm25_finds_no_term_in_are_a_problem(collection, ranked, tmp_path):
    check, test = ranked(replace(collection(corpus="".join(f"{key}\tthe of\n" for key in "abcde")), candidates=None))
    assert check.ranking(test) is None
    (problem,) = complaints(check)
    assert problem.startswith(f"{tmp_path}/corpus.tsv: no passage holds a term that BM25 can index: ")


def test_an_index_over_many_passages_is_not_built_for_a_check(collection, ranked, monkeypatch):
    monkeypatch.setattr("rankdistil.data.check.whole.INDEXED", 4)
    check, test = ranked(replace(collection(), candidates=None))
    assert check.ranking(test) is None
    assert check.facts == ["test: what the candidates hold is not told: BM25 over 5 passages would have to be built."]


def test_a_dataset_that_is_not_here_has_no_candidates_to_tell_of(ranked):
    check, test = ranked("msmarco-passage/trec-dl-2019/judged")
    assert check.ranking(test) is None


def test_a_run_of_other_queries_is_a_problem_and_one_that_is_not_there_too(collection, tmp_path):
    (tmp_path / "other.run").write_text("nowhere Q0 a 1 1.0 t\n")
    split = replace(collection(), candidates=None)
    for run, problem in {"other.run": "is used by no split: it ranks none", "no.run": "is not there."}.items():
        check = Check(SETTINGS)
        check.look([Split(name, Reader(split, runs=[str(tmp_path / run)]), 1) for name in ("train", "valid")])
        assert len(check.problems) == 1
        assert problem in check.problems[0]


def test_mined_runs_are_counted_and_complained_about_and_rank_no_other_split(collection, tmp_path):
    mined = {"good.run": "1 Q0 e 1 2.0 x\n2 Q0 c 1 1.0 x\n9 Q0 c 1 1.0 x\n", "bad.run": "1 Q0 b 1 nine x\n1 Q0 zz 1 1.0 x\n"}
    for name, text in mined.items():
        (tmp_path / name).write_text(text)
    runs = [str(tmp_path / name) for name in mined]
    files, check = replace(collection(), candidates=None), Check(replace(SETTINGS, train_on="sampled"))
    check.look([Split("train", Reader(files, negatives_runs=runs), 1), Split("test", Reader(files), 1)])
    found = {row.file: (row.splits, row.told) for row in check.rows}
    assert found[runs[0]] == (["train"], "2 candidates of 2 queries; 1 to 1 each; 1 lines of other queries")
    assert complaints(check) == [
        f"{runs[1]}:1: score is 'nine', expected a finite number.",
        f"{runs[1]}:2: passage 'zz' is not in the collection. Do the files belong together?",
    ]
    check = Check(replace(SETTINGS, train_on="sampled"))
    check.look([Split("train", Reader(files, negatives_runs=runs[:1]), 1)])
    assert (complaints(check), check.problems) == ([], [])
    assert "training: 1 of 3 queries are left out: they have no relevant passage, or too few candidates" in check.notes[0]


def test_the_texts_of_a_file_that_splits_share_are_kept_once(collection, looked):
    check = looked(collection(), collection())
    assert [(texts.file, texts.kind, len(texts.found.sample)) for texts in check.texts] == [
        ("corpus.tsv", "passage", 5), ("queries.tsv", "query", 3),
    ]  # fmt: skip


def test_of_many_texts_a_sample_is_kept_in_which_all_are_as_likely(monkeypatch):
    monkeypatch.setattr("rankdistil.data.check.counts.SAMPLED", 100)
    found = TextsFound(((str(number), str(number)) for number in range(1000)), 5)
    assert len(set(found.sample)) == len(found.sample) == 100
    assert 300 < sum(map(int, found.sample)) / 100 < 700  # the seed is fixed; the mean of all is 499.5
