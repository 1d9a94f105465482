"""evaluate.py on several first stages and on several collections, with an export that nobody trained."""

import json
import subprocess
from pathlib import Path
from statistics import fmean

import pytest
from commands import command
from support import uneven_ranker

from rankdistil.inference.export_files import write_export
from rankdistil.metrics.comparing import holm, randomisation_test
from rankdistil.metrics.ranking import per_query, read_run, restricted

ZOO = [
    "a crane is a bird of wet meadows",
    "bears sleep all winter",
    "the otter swims in cold rivers",
    "a heron stands in the water",
    "wolves hunt in packs",
    "the lynx hunts alone at night",
    "bats find moths by their echo",
    "a mole digs in the dark",
    "swifts sleep in the air",
    "the stork nests on chimneys",
]
SEA = [
    "whales sing in deep water",
    "the tide follows the moon",
    "an octopus has three hearts",
    "eels swim to one sea",
    "corals are animals that build",
    "herring live in large schools",
    "the anglerfish hunts with light",
    "seals sleep on ice",
    "a crab walks sideways",
    "plankton feeds the whales",
]
ASKED = [
    "which bird stands in water",
    "who hunts at night",
    "who sleeps in winter",
    "what swims in rivers",
    "who digs",
    "what sings in deep sea water",
    "how many hearts has it",
    "who walks sideways",
]


def collection(folder: Path, passages: list[str], shift: int) -> Path:
    """Write ten passages, and eight queries of which each has two answers."""
    folder.mkdir(parents=True)
    (folder / "corpus.tsv").write_text("".join(f"p{at}\t{text}\n" for at, text in enumerate(passages)))
    (folder / "queries.test.tsv").write_text("".join(f"q{at}\t{text}\n" for at, text in enumerate(ASKED)))
    judged = [(at, (at * 3 + shift + step) % 10, grade) for at in range(8) for step, grade in ((0, 2), (5, 1))]
    (folder / "qrels.test.txt").write_text("".join(f"q{query} 0 p{passage} {grade}\n" for query, passage, grade in judged))
    return folder


def run_file(path: Path, step: int, queries: range = range(8)) -> Path:
    rows = [f"q{query} Q0 p{(query * step + rank) % 10} {rank + 1} {5 - rank} x\n" for query in queries for rank in range(5)]
    path.write_text("".join(rows))
    return path


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with two collections, runs and an export."""
    folder = tmp_path_factory.mktemp("several")
    collection(folder / "zoo", ZOO, 0)
    collection(folder / "sea", SEA, 1)
    run_file(folder / "dense.run", 3)
    run_file(folder / "mine.run", 7)
    ranker, tokenizer = uneven_ranker(1)
    write_export(folder / "tiny", ranker, tokenizer, 64)
    return folder


def evaluate(root: Path, folder: str, *words: str) -> subprocess.CompletedProcess[str]:
    fixed = ["models=tiny", "callbacks.inference_time=null", "paths.evaluations=out", f"folder={folder}"]
    return command("evaluate.py", *fixed, "data.depth=4", *words, cwd=root)


def told(root: Path, name: str) -> dict:
    return json.loads((root / "out" / name).read_text())


@pytest.fixture(scope="module")
def staged(root: Path) -> subprocess.CompletedProcess[str]:
    done = evaluate(root, "staged", "data=files", "data.root=zoo", "data.candidates=[bm25,dense.run,mine.run]")
    assert done.returncode == 0, done.stderr
    return done


def test_each_first_stage_has_its_rows_and_every_pair_is_scored_once(root: Path, staged) -> None:
    stages = told(root, "staged/report.json")["first_stages"]
    assert [stage["name"] for stage in stages] == ["BM25", "dense.run", "mine.run"]
    scored = read_run(root / "out/staged/tiny/test.run")
    qrels = {f"q{at}": {f"p{at * 3 % 10}": 2, f"p{(at * 3 + 5) % 10}": 1} for at in range(8)}
    pools = {}
    for stage in stages[1:]:
        candidates = {query: row[:4] for query, row in read_run(root / stage["name"]).items()}
        first, own = (per_query(ranking, qrels) for ranking in (candidates, restricted(scored, candidates)))
        assert stage["measures"]["nDCG@10"] == pytest.approx(fmean(row["nDCG@10"] for row in first.values()))
        gain, row = stage["gains"]["tiny"], stage["rows"][1]
        assert row["measures"]["nDCG@10"] == pytest.approx(fmean(row["nDCG@10"] for row in own.values()))
        test = randomisation_test(*({query: row["nDCG@10"] for query, row in side.items()} for side in (own, first)))
        assert (gain["difference"], gain["p_value"]) == pytest.approx((test.difference, test.p_value))
        for query, hits in candidates.items():
            pools.setdefault(query, set()).update(hit.passage_id for hit in hits)
    assert all(pool <= {hit.passage_id for hit in scored[query]} for query, pool in pools.items())
    assert all(len({hit.passage_id for hit in row}) == len(row) <= 10 for row in scored.values())


def test_a_first_stage_among_several_gives_what_it_gives_alone(root: Path, staged) -> None:
    done = evaluate(root, "alone", "data=files", "data.root=zoo", "data.candidates=dense.run")
    assert done.returncode == 0, done.stderr
    alone, together = told(root, "alone/report.json"), told(root, "staged/report.json")["first_stages"][1]
    assert alone["first_stages"] == []
    for one, other in zip(alone["rows"], together["rows"], strict=True):
        assert one["measures"] == pytest.approx(other["measures"])
        assert (one["verdict"], one["depth"]) == (other["verdict"], other["depth"])


def test_gains_are_one_family_and_stand_in_one_table(root: Path, staged) -> None:
    stages = told(root, "staged/report.json")["first_stages"]
    gains = {stage["name"]: stage["gains"]["tiny"] for stage in stages}
    assert {name: gain["adjusted"] for name, gain in gains.items()} == pytest.approx(
        holm({name: gain["p_value"] for name, gain in gains.items()})
    )
    text = (root / "out/staged/report.md").read_text()
    assert (
        "\n## First stages\n\n| ranker | BM25 | gain | worth re-ranking | dense.run | gain | worth re-ranking | mine.run |"
        in text
    )
    cells = [f"{stage['measures']['nDCG@10']:.4f} | -" for stage in stages]
    assert f"| first stage alone | {' | - | '.join(cells)}" in text
    assert f"{gains['dense.run']['difference']:+.4f} (p " in staged.stdout
    assert "Holm-adjusted over 3 gains" in staged.stdout


def test_a_first_stage_that_is_a_model_too_is_a_row_of_the_others(root: Path) -> None:
    done = evaluate(root, "both", "data=files", "data.root=zoo", "data.candidates=[bm25,dense.run]", "models=[tiny,dense.run]")
    assert done.returncode == 0, done.stderr
    stages = told(root, "both/report.json")["first_stages"]
    assert [[row["name"] for row in stage["rows"]] for stage in stages] == [
        ["BM25", "tiny", "dense.run"],
        ["dense.run", "tiny"],
    ]
    assert [list(stage["gains"]) for stage in stages] == [["tiny"], ["tiny"]]


def test_two_first_stages_of_one_name_and_one_of_other_queries_are_refused(root: Path) -> None:
    (root / "more").mkdir()
    run_file(root / "more/dense.run", 1)
    run_file(root / "other.run", 1, range(20, 24))
    where = ["data=files", "data.root=zoo"]
    done = evaluate(root, "refused", *where, "data.candidates=[dense.run,more/dense.run]")
    assert (done.returncode, done.stderr) == (
        1, "error: data.candidates names two first stages that are called dense.run. Rename one of the files.\n",
    )  # fmt: skip
    done = evaluate(root, "refused", *where, "data.candidates=[bm25,other.run]")
    assert done.stderr.startswith("error: data.candidates=other.run is used by no split: it ranks none of their queries")
    done = evaluate(root, "refused", *where, "data.candidates=[bm25,dense.run]", "models=[tiny,more/dense.run]")
    assert done.stderr.startswith("error: more/dense.run has the name of the first stage (dense.run), but ranks otherwise.")
    assert "tiny: test" not in done.stderr  # before anything was scored
    assert not (root / "out/refused").exists()


@pytest.fixture(scope="module")
def several(root: Path) -> subprocess.CompletedProcess[str]:
    named = "{root: sea, name: deep, candidates: [bm25,mine.run]}"
    done = evaluate(root, "several", f"collections=[zoo,sea,{named}]", "models=[tiny]")
    assert done.returncode == 0, done.stderr
    return done


def test_collections_share_a_table_with_their_mean(root: Path, several) -> None:
    found = told(root, "several/collections.json")
    assert [(one["name"], one["folder"], one["queries"]) for one in found["collections"]] == [
        ("zoo", "1-zoo", 8), ("sea", "2-sea", 8), ("deep", "3-deep", 8),
    ]  # fmt: skip
    first, own = found["rows"]
    assert (first["name"], own["name"]) == ("BM25", "tiny")
    for name, folder in (("zoo", "1-zoo"), ("sea", "2-sea"), ("deep", "3-deep")):
        rows = {row["name"]: row["measures"]["nDCG@10"] for row in told(root, f"several/{folder}/report.json")["rows"]}
        assert {row["name"]: row["values"][name] for row in found["rows"]} == pytest.approx(rows)
    assert own["mean"] == pytest.approx(fmean(own["values"].values()))
    assert own["gain"]["difference"] == pytest.approx(own["mean"] - first["mean"])
    low, high = own["gain"]["interval"]
    assert low <= own["gain"]["difference"] <= high
    assert [stage["name"] for stage in told(root, "several/3-deep/report.json")["first_stages"]] == ["BM25", "mine.run"]
    assert told(root, "several/1-zoo/report.json")["first_stages"] == []
    text = (root / "out/several/collections.md").read_text()
    assert "| ranker | mean | vs BM25 | 95 % interval | zoo | sea | deep |" in text
    assert f"| tiny | {own['mean']:.4f} | " in text
    assert "- [zoo](1-zoo/report.md): zoo/queries.test.tsv, 8 queries, BM25" in text


def test_a_collection_that_fails_is_named_and_the_others_are_kept(root: Path) -> None:
    broken = collection(root / "broken", ZOO, 0)
    with (broken / "qrels.test.txt").open("a") as file:
        file.write("q0 0 p77 1\n")
    done = evaluate(root, "partly", "collections=[zoo,broken,sea]")
    assert done.returncode == 1
    assert "\nerror: 1 of 3 collections failed; out/partly has what the others gave:\n  broken: " in done.stderr
    assert "p77" in done.stderr
    found = told(root, "partly/collections.json")
    assert [one["name"] for one in found["collections"]] == ["zoo", "sea"]
    assert list(found["failed"]) == ["broken"]
    assert "FAILED, and not in the mean: broken: " in (root / "out/partly/collections.md").read_text()
    assert not (root / "out/partly/2-broken").exists()


def test_a_run_of_other_queries_fails_its_collection_and_one_of_another_split_does_not(root: Path) -> None:
    run_file(root / "elsewhere.run", 1, range(20, 24))
    run_file(root / "half.run", 7, range(4))
    (root / "zoo/qrels.late.txt").write_text("".join(f"q{at} 0 p{at} 1\n" for at in range(4, 8)))
    (root / "zoo/qrels.early.txt").write_text("".join(f"q{at} 0 p{at} 1\n" for at in range(4)))
    done = evaluate(root, "unused", "collections=[zoo,{root: sea, candidates: [bm25,elsewhere.run]}]")
    assert done.returncode == 1
    told_that = "data.candidates=elsewhere.run is used by no split: it ranks none of their queries"
    assert f"\nerror: 1 of 2 collections failed; out/unused has what the others gave:\n  sea: {told_that}" in done.stderr
    early, late = (f"{{queries: queries.test.tsv, qrels: qrels.{name}.txt}}" for name in ("early", "late"))
    both = f"{{root: zoo, test: {early}, more_tests: [{late}], candidates: [bm25,half.run]}}"
    done = evaluate(root, "halves", f"collections=[{both}]")
    assert done.returncode == 0, done.stderr
    done = evaluate(root, "neither", f"collections=[{both.replace('half.run', 'elsewhere.run')}]")
    assert done.returncode == 1
    assert told_that in done.stderr


def test_where_all_fail_nothing_is_left(root: Path) -> None:
    broken = collection(root / "one", ZOO, 0)
    (broken / "qrels.test.txt").write_text("q0 0 p77 1\n")
    done = evaluate(root, "none", "collections=[one,{root: one, name: two}]")
    assert done.returncode == 1
    assert done.stderr.startswith("error: all collections failed:\n  one: ")
    assert not (root / "out/none").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["collections=[zoo,nowhere/test]"], "error: ir_datasets knows no dataset 'nowhere/test'. Ids are listed at "),
        (
            ["collections=[zoo,{root: nowhere}]"],
            "error: data.root=nowhere is no folder. Set data.root to the folder that holds ",
        ),
        (
            ["collections=[zoo,sea]", "data=files"],
            "error: data=files stands beside collections, which names what is tested on. ",
        ),
        (
            ["collections=[zoo,sea]", "data.candidates=dense.run"],
            "error: data.candidates=dense.run stands beside collections, ",
        ),
        (["collections=[]"], "error: collections is []; expected a list of files of conf/data, folders, "),
    ],
)
def test_a_mistyped_collection_is_told_before_anything_is_tested(root: Path, words: list[str], message: str) -> None:
    done = evaluate(root, "mistyped", *words)
    assert done.returncode == 1
    assert done.stderr.startswith(message), done.stderr
    assert not (root / "out/mistyped").exists()


def test_further_splits_of_the_data_are_collections_too(root: Path) -> None:
    (root / "zoo/qrels.half.txt").write_text("".join(f"q{at} 0 p{at} 1\n" for at in range(4)))
    more = "data.more_tests=[{queries: queries.test.tsv, qrels: qrels.half.txt}]"
    done = evaluate(root, "splits", "data=files", "data.root=zoo", more, "data.test.queries=queries.test.tsv")
    assert done.returncode == 0, done.stderr
    found = told(root, "splits/collections.json")
    assert [(one["name"], one["queries"]) for one in found["collections"]] == [
        ("zoo/qrels.test.txt", 8), ("zoo/qrels.half.txt", 4),
    ]  # fmt: skip


@pytest.mark.slow
def test_real_collections_whose_queries_have_the_same_ids_are_kept_apart(root: Path, shared: Path) -> None:
    files = "corpus: corpus.jsonl, test: {queries: queries.tsv, qrels: qrels.txt}"
    names = ("cacm", "cranfield", "vaswani")
    asked = ",".join(f"{{root: '{shared}/data/{name}', {files}}}" for name in names)
    done = evaluate(root, "real", f"collections=[{asked}]", "data.depth=20")
    assert done.returncode == 0, done.stderr
    found = told(root, "real/collections.json")
    alone = [told(root, f"real/{one['folder']}/report.json")["rows"] for one in found["collections"]]
    assert [one["name"] for one in found["collections"]] == [*names]
    first, own = found["rows"]
    for at, mean in ((0, first), (1, own)):
        assert mean["mean"] == pytest.approx(fmean(rows[at]["measures"]["nDCG@10"] for rows in alone))
    assert all(value > 0.2 for value in first["values"].values())  # BM25 works: nothing was looked up in another collection
