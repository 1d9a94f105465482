"""``python -m rankdistil.export``: graphs that rank like torch are kept, others are not, and the model card says how close."""

import json
import signal
import sys
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf
from support import composed, uneven_ranker

from rankdistil import Reranker
from rankdistil.commands.export import USAGE, main
from rankdistil.inference.engine import TorchNetwork
from rankdistil.inference.export_files import FILES, INT8, int8_levels, read_precisions, write_export
from rankdistil.inference.machine import computes_bfloat16, weight_bits
from rankdistil.inference.tools import TOOLS, Tool
from rankdistil.inference.write_graphs import staged
from rankdistil.metrics.ranking import ranked, write_run
from rankdistil.models.checkpoints import load_ranker, load_tokenizer
from rankdistil.stages import agreement
from rankdistil.stages import data as run_data
from rankdistil.stages import export as stage_export
from rankdistil.stages.agreement import open_held_out

ALL = [*dict.fromkeys(FILES.values())]
OPENVINO8 = [INT8[bits] for bits in int8_levels()]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Write what a finished run on the embedded collection leaves, of a small ranker with random weights."""
    ranker, tokenizer = uneven_ranker(2)
    folder = tmp_path / "run"
    (folder / ".hydra").mkdir(parents=True)
    OmegaConf.save(composed("+experiment=smoke"), folder / ".hydra" / "config.yaml")
    (folder / "run.json").write_text("{}")
    write_export(folder / "export", ranker, tokenizer, 64)
    (folder / "export" / "README.md").write_text("# The card\n")
    return folder


def files(export: Path) -> list[str]:
    """List what lies in sub-folders of an export."""
    return sorted(str(path.relative_to(export)) for path in export.glob("*/*"))


def need(*packages: str) -> None:
    for package in packages:
        pytest.importorskip(package, reason=f"{package} is not installed", exc_type=ImportError)


@pytest.fixture
def graphs(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Graphs that are written at once and compute what torch does; those of the precisions in the set negate it."""
    broken: set[str] = set()
    ranker = []

    def write(source, kinds, folder, *_) -> list[str]:
        ranker.append(source)
        names = [name for (backend, precision), name in FILES.items() if {backend, precision} <= {"float32", *kinds}]
        names += [INT8[bits] for bits in int8_levels() if bits == 8 and {"openvino", "int8"} <= {*kinds}]
        for name in names:
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_bytes(b"graph")
        return names

    def open_graph(backend, file, encoder, precision, weights=None):
        network = TorchNetwork(ranker[-1], encoder, torch.device("cpu"))
        return (lambda *pair: -network(*pair)) if precision in broken else network

    monkeypatch.setattr(stage_export, "require_packages", lambda kinds: None)
    monkeypatch.setattr(stage_export, "write_graphs", write)
    monkeypatch.setattr(agreement, "open_graph", open_graph)
    monkeypatch.setattr(agreement, "TOOLS", ())
    return broken


def test_graphs_lie_beside_the_other_files_and_the_card_says_how_close_they_are(run, capsys):
    need("onnx", "onnxscript", "onnxruntime", "openvino", "nncf")
    line = [f"run={run}", "to=onnx,openvino,int8", "bound=1"]
    assert main(line) == 0, capsys.readouterr().err
    told = capsys.readouterr().out
    names = [*ALL[:2], *OPENVINO8]
    weights = [str(Path(name).with_suffix(".bin")) for name in names if name.endswith(".xml")]
    assert files(run / "export") == sorted([*names, *weights])
    assert not [*(run / "export").glob(".*")]
    card = (run / "export" / "README.md").read_text()
    assert card.startswith(
        "# The card\n\n## Other runtimes and precisions\n\nScores of 100 pairs of 10 queries of rankdistil/almanac/test, "
        "against torch in float32; kept by "
    )
    rows = [line.strip("| ").split(" | ") for line in card.splitlines() if line.startswith("| ")][2:]
    bf16, tools = computes_bfloat16(), [f"{tool.name} {tool.version}" for tool in TOOLS if tool.version]
    assert [row[:2] for row in rows[: -len(tools)]] == [
        ["torch", "float32"], *([["torch", "bfloat16"]] * bf16), *(["torch", f"int8, {bits}-bit weights"] for bits in (8, 7)),
        ["onnx", "float32"], ["openvino", "float32"], *([["openvino", "bfloat16"]] * bf16),
        *(["openvino", f"int8, {bits}-bit weights"] for bits in int8_levels()),
    ]  # fmt: skip
    assert [row[0] for row in rows[-len(tools) :]] == tools
    for backend, precision, largest, alone, tau, *_ in rows:
        exact = precision.startswith("float32")
        assert float(largest) < (1e-5 if exact else 0.2), (backend, precision)
        assert float(alone) < (1e-5 if exact else 1e-3 if "int8" in precision else 0.05), (backend, precision)
        assert float(tau) > (0.999 if exact else 0.8), (backend, precision)
        assert backend == "torch" or exact or float(largest) > 1e-5, (backend, precision)
    assert {row[1] for row in rows if row[0].startswith(("transformers", "sentence"))} == {"float32"}, "logits, no sigmoids"
    assert [f"- Not checked: {tool.name}: not installed" in card for tool in TOOLS] == [not tool.version for tool in TOOLS]
    assert all(name in told for name in names)
    before = (run / "export" / ALL[1]).stat().st_mtime_ns
    assert main([f"run={run}/export", "to=onnx", "bound=1"]) == 0, capsys.readouterr().err
    assert (run / "export" / "README.md").read_text() == card, "graphs that were there are compared again"
    assert (run / "export" / ALL[1]).stat().st_mtime_ns == before


def test_int8_alone_writes_no_graph_but_both_kinds_of_8_bits_for_auto_to_go_by(run, graphs, capsys):
    assert main([f"run={run}", "to=int8", "pairs=100"]) == 0, capsys.readouterr().err
    assert files(run / "export") == []
    rows = [row for row in read_precisions(str(run / "export")) if row["dtype"] == "int8"]
    assert [(row["backend"], row["weight_bits"]) for row in rows] == [("torch", 8), ("torch", 7)]
    harmless = {
        row["dtype"]
        for row in read_precisions(str(run / "export"))
        if row["backend"] == "torch" and abs(row["change"]) < 0.005 and row["weight_bits"] in (None, weight_bits())
    }
    chosen = next(dtype for dtype in ("int8", "bfloat16", "float32") if dtype in harmless)
    assert f"dtype=auto on this processor: {chosen}\n" in capsys.readouterr().out


def test_a_trimmed_export_lies_beside_the_whole_one_and_its_card_says_what_that_costs(run, capsys):
    assert main([f"run={run}", "to=trimmed", "pairs=100", "bound=1"]) == 0, capsys.readouterr().err
    told, smaller = capsys.readouterr().out, run / "export_trimmed"
    assert f"files: {smaller}/" in told
    whole, own = (load_ranker(str(folder)).config.vocab_size for folder in (run / "export", smaller))
    assert own < whole / 4
    card = (smaller / "README.md").read_text()
    assert card.startswith("# The card\n\n## Vocabulary\n\nCut down to the tokens of rankdistil/almanac/train: ")
    assert f"| tokens | {whole:,} | {own:,} |" in card
    assert (run / "export" / "README.md").read_text() == "# The card\n"
    pair = [("how do bees fly", "Bees beat their wings.")]
    assert Reranker(smaller, device="cpu").score(pair) == pytest.approx(
        Reranker(run / "export", device="cpu").score(pair), abs=1e-6
    )


def test_a_trimmed_export_that_ranks_otherwise_is_not_kept(run, capsys, monkeypatch):
    monkeypatch.setattr(stage_export, "seen_tokens", lambda encoder, texts: {1037})  # "a"
    assert main([f"run={run}", "to=trimmed", "pairs=100", "bound=0"]) == 1
    told = capsys.readouterr().err
    assert told.startswith("error: Scores of 100 pairs of 10 queries of rankdistil/almanac/test differ by ")
    assert told.endswith(f" Allowed in validation are 0: {run}/export_trimmed isn't written. Allow more: bound=<number>.\n")
    assert sorted(path.name for path in run.iterdir()) == [".hydra", "export", "run.json"]


def test_what_validation_says_of_the_scores_is_kept_and_the_card_says_how_it_holds(run, capsys):
    data = open_held_out(run, str(run / "export"), 10_000, 0)
    ranker = Reranker(run / "export", device="cpu")
    texts = {pair.passage_id: pair.passage for pair in data.valid.pairs}
    for name, part in (("valid", data.valid), ("test", data.test)):
        scores = ranker.score((pair.query, pair.passage) for pair in part.pairs)
        found: dict[str, dict[str, float]] = {}
        for pair, score in zip(part.pairs, scores, strict=True):
            found.setdefault(pair.query_id, {})[pair.passage_id] = score
        write_run(run / f"{name}.run", ranked(found), "tag")
    assert main([f"run={run}", "to=fitted", "precision=0.2"]) == 0, capsys.readouterr().err
    told, card = capsys.readouterr().out, (run / "export" / "README.md").read_text()
    assert f"files: {run}/export/  fitted.json" in told
    assert card.startswith("# The card\n\n## Scores\n\nFitted to ")
    assert "| this ranker | sigmoid(" in card
    fitted = Reranker(run / "export", device="cpu")
    kept = json.loads((run / "export" / "fitted.json").read_text())
    assert (fitted.fusion._asdict(), fitted.probability._asdict()) == (kept["fusion"], kept["probability"])
    assert ranker.rerank("how do bees fly", texts.values())[0].probability is None
    assert main([f"run={run}", "to=fitted", "precision=0.2"]) == 0
    assert (run / "export" / "README.md").read_text() == card, "one chapter, put again"
    (run / "valid.run").unlink()
    assert main([f"run={run}", "to=fitted"]) == 1
    assert f"error: {run}/valid.run is not there: the run's validation wasn't kept. Train it again." in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["to=fitted", "bound=1"], "bound has no effect with to=fitted. Leave it out."),
        (["to=onnx", "precision=0.5"], "precision has no effect with to=onnx. Leave it out."),
        (["to=fitted", "precision=1"], "precision is '1'; expected a number above 0 and below 1."),
    ],
)
def test_a_setting_of_another_kind_of_export_is_refused(run, capsys, words, message):
    assert main([f"run={run}", *words]) == 1
    assert capsys.readouterr().err == f"error: {message}\n"


def test_an_export_outside_of_a_run_has_no_validation_to_fit_to(run, tmp_path, capsys):
    alone = (run / "export").rename(tmp_path / "alone")
    assert main([f"run={alone}", "to=fitted"]) == 1
    assert capsys.readouterr().err == f"error: run={alone} lies outside of a run, whose validation is fitted to. Name a run.\n"


def test_a_graph_that_ranks_otherwise_is_not_kept(run, graphs, capsys):
    graphs.add("float32")
    old = run / "export" / ALL[0]
    old.parent.mkdir()
    old.write_bytes(b"of an earlier export")
    assert main([f"run={run}", "to=onnx", "pairs=100"]) == 1
    told = capsys.readouterr().err
    assert told.startswith("error: onnx float32 changes the validation's nDCG@10 by ")
    assert told.endswith(f"); allowed are 0.0001. {old} was removed. The graph computes something else: please report it.\n")
    assert files(run / "export") == []
    assert "| over 0.0001 |" in (run / "export" / "README.md").read_text()


def test_an_export_without_a_package_says_so_and_writes_nothing(run, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    monkeypatch.setitem(sys.modules, "onnx", sys)
    assert main([f"run={run}", "to=onnx"]) == 1
    assert capsys.readouterr() == (
        "",
        "error: to=onnx needs the package onnxscript, which isn't installed. Run: pip install -e '.[onnx]'\n",
    )
    assert files(run / "export") == []
    assert (run / "export" / "README.md").read_text() == "# The card\n"


def test_pairs_are_whole_queries_from_all_over_a_split(run):
    data, whole = open_held_out(run, str(run / "export"), 40, 0), open_held_out(run, str(run / "export"), 10**6, 0)
    sizes = [sum(pair.query_id == query for pair in data.test.pairs) for query in data.test.qrels]
    assert sum(sizes) == len(data.test.pairs) <= 100
    assert len({*sizes}) == 1
    assert [*data.test.qrels] != [*whole.test.qrels][: len(data.test.qrels)]
    assert {*data.test.qrels} < {*whole.test.qrels}
    assert not {*whole.valid.qrels} & {*whole.test.qrels}
    assert whole.others == []
    assert [*open_held_out(run, str(run / "export"), 1, 0).test.qrels] == [*whole.test.qrels][:1]


def test_the_data_of_a_run_in_windows_are_opened_without_tokenising_them(run, tmp_path):
    before = open_held_out(run, str(run / "export"), 40, 20)
    store = tmp_path / "store"
    cfg = composed("+experiment=smoke", "data.windows={stride: 8, most: 16}", "data.max_length=64", f"data.store={store}")
    OmegaConf.save(cfg, run / ".hydra" / "config.yaml")
    run_data.build_data(cfg, load_tokenizer(str(run / "export")), 64, 0, train=False).open_test()  # as the run did
    tokens = {*store.glob("*-passages")}
    found = open_held_out(run, str(run / "export"), 40, 20)
    assert found[:3] == before[:3]
    assert len(tokens) == 1
    assert {*store.glob("*-passages")} == tokens


def test_what_8_bit_ranges_are_found_on_decides_nothing(run):
    data, whole = open_held_out(run, str(run / "export"), 10**6, 20), open_held_out(run, str(run / "export"), 10**6, 0)
    fitted = {pair.query_id for pair in data.others}
    assert 0 < len(data.others) <= 20
    assert fitted | {*data.valid.qrels} == {*whole.valid.qrels}
    assert not fitted & {*data.valid.qrels}


def test_validation_decides_and_the_test_is_reported(run, graphs, monkeypatch):
    def changes() -> list[list[float]]:
        stage_export.export(run / "export", run, ("int8",), 100, 1)
        return [[row[of] for row in read_precisions(str(run / "export"))] for of in ("change", "test_change")]

    decides, reported = changes()
    honest, asked = agreement.Reference._scores, []

    def scores(reference, score):
        test, valid = honest(reference, score)
        asked.append(score)
        return (test if len(asked) == 1 else -test), valid  # the first is the reference

    monkeypatch.setattr(agreement.Reference, "_scores", scores)
    turned = changes()
    assert turned[0] == decides
    assert turned[1][1:] != reported[1:]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["to=onnx"], f"run is not set. Usage: {USAGE}"),
        (["run={run}"], f"to is not set. Usage: {USAGE}"),
        (
            ["run={run}", "form=onnx"],
            f"'form=onnx' is no setting; the keys are run, to, data, pairs, bound, precision. Usage: {USAGE}",
        ),
        (["run={run}", "to=onnx", "to=int8"], "to is given twice: onnx and int8."),
        (
            ["run={run}", "to=onnx,tflite"],
            "to names 'tflite'; expected some of onnx, openvino, int8, with commas between them, or trimmed or fitted alone.",
        ),
        (
            ["run={run}", "to=onnx,int8"],
            "to=onnx,int8: there is no 8-bit graph for ONNX, where scaling each row takes what 8-bit products gain. "
            "Use to=onnx, to=openvino,int8, or to=int8, which torch computes without a graph.",
        ),
        (
            ["run={run}", "to=onnx,trimmed"],
            "to names 'trimmed'; expected some of onnx, openvino, int8, with commas between them, or trimmed or fitted alone.",
        ),
        (["run={run}", "to=onnx", "pairs=many"], "pairs is 'many'; expected a whole number of at least 1."),
        (["run={run}", "to=onnx", "pairs=0"], "pairs is '0'; expected a whole number of at least 1."),
        (["run={run}", "to=onnx", "bound=nan"], "bound is 'nan'; expected a number of at least 0."),
        (["run={run}/x", "to=onnx"], "run={run}/x is neither a finished run nor an export (no {run}/x/config.json)."),
        (["run={run}", "to=onnx", "data=/"], "data=/ is no run: /.hydra/config.yaml is not there."),
    ],
)
def test_wrong_words_get_one_message(run, capsys, words, message):
    assert main([word.replace("{run}", str(run)) for word in words]) == 1
    assert capsys.readouterr() == ("", f"error: {message.replace('{run}', str(run))}\n")


def test_an_export_outside_of_a_run_needs_data(run, tmp_path, capsys):
    (run / "export").rename(tmp_path / "ranker")
    assert main([f"run={tmp_path}/ranker", "to=onnx"]) == 1
    assert capsys.readouterr().err == (
        f"error: run={tmp_path}/ranker lies outside of a run, so there are no data to check it on. Add data=<run>.\n"
    )


def test_a_runtime_that_was_not_asked_for_is_not_written_and_named_as_not_checked(run, capsys):
    need("onnx", "onnxscript", "openvino")
    assert main([f"run={run}", "to=openvino", "bound=1", "pairs=100"]) == 0, capsys.readouterr().err
    assert "not checked: onnx float32: there is no onnx/model.onnx\n" in capsys.readouterr().out
    assert not (run / "export" / "onnx").exists()
    card = (run / "export" / "README.md").read_text()
    assert "| onnx |" not in card
    assert "- Not checked: onnx float32: there is no onnx/model.onnx\n" in card


def test_another_s_tool_that_ranks_otherwise_is_told_and_nothing_is_removed(run, graphs, capsys, monkeypatch):
    def softmax(export):
        return lambda pairs: [1.0] * len(pairs)

    monkeypatch.setattr(agreement, "TOOLS", (Tool("softmax", "torch", softmax),))
    assert main([f"run={run}", "to=onnx", "pairs=100"]) == 1
    told = capsys.readouterr().err
    assert told.startswith(f"error: softmax {torch.__version__} float32 changes the validation's nDCG@10 by ")
    assert told.endswith(
        "allowed are 0.0001. All its scores are 1, as a softmax over the only label makes them. "
        f"{run}/export stays as it is; don't rank with softmax {torch.__version__} unless you change how it is called.\n"
    )
    assert files(run / "export") == [ALL[0]]
    assert "| over 0.0001 |" in (run / "export" / "README.md").read_text()


def test_eight_bits_that_change_too_much_are_not_kept_and_the_exact_graph_is(run, graphs, capsys):
    graphs.add("int8")
    assert main([f"run={run}", "to=openvino,int8", "pairs=100"]) == 1
    told = capsys.readouterr().err.removeprefix("error: ").splitlines()
    assert all(line.startswith("openvino int8 changes the validation's nDCG@10 by ") for line in told)
    assert [line.partition("allowed are 0.01. ")[2] for line in told] == [
        f"{run / 'export' / INT8[bits]} was removed. Use another precision, or allow more: bound=<number>."
        for bits in int8_levels()
    ]
    assert files(run / "export") == [ALL[1]]


def test_an_export_that_is_asked_to_stop_leaves_nothing_of_its_graphs(run, capsys, monkeypatch):
    def write(ranker, kinds, stage, batches, weights):
        (stage / "onnx").mkdir()
        (stage / "onnx/model.onnx").write_bytes(b"half")
        signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(stage_export, "write_graphs", write)
    before = sorted((run / "export").rglob("*"))
    assert main([f"run={run}", "to=int8", "pairs=100"]) == 143
    assert capsys.readouterr().err == "stopped by SIGTERM.\n"
    assert sorted((run / "export").rglob("*")) == before


def test_what_a_killed_export_left_is_swept_away(run):
    left = run / "export" / ".graphs" / "onnx" / "model.onnx"
    left.parent.mkdir(parents=True)
    left.write_bytes(b"half")
    with staged(run / "export") as stage:
        assert not left.exists()
        with pytest.raises(RuntimeError, match="is in use by pid"), staged(run / "export"):
            pass
        assert stage.is_dir()
    assert not stage.exists()
