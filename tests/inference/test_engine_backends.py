"""One export, the same scores everywhere: torch, transformers, sentence-transformers, ONNX Runtime, OpenVINO."""

import json
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from support import MINILM, needs_bfloat16, uneven_ranker
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from rankdistil import Reranker
from rankdistil.data.encode import PairEncoder
from rankdistil.data.records import Pair
from rankdistil.inference import export_files
from rankdistil.inference.engine import open_network
from rankdistil.inference.export_files import FILES, INT8, find_exported, int8_levels, weights, write_export
from rankdistil.inference.onnx import text_batches
from rankdistil.inference.write_graphs import put, remove, require_packages, staged, write_graphs
from rankdistil.models.checkpoints import load_ranker, load_tokenizer

QUERY = "how do bees fly"
PASSAGES = ["", "Wings beat.", "bees " * 300, *(" ".join(["wings beat fast and the air moves"] * n) for n in (9, 1, 3, 3, 20))]
PAIRS = [(QUERY, passage) for passage in PASSAGES]
FIT = [0, 1, 4, 5, 6]  # those that no tool cuts: each cuts in its own way
KINDS = ("onnx", "openvino", "int8")
WAYS = [pytest.param(*way, marks=needs_bfloat16) if way[1] == "bfloat16" else way for way in FILES]
GRAPHS = [way for way in WAYS if "int8" not in way]


@pytest.fixture(scope="module")
def export(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write an export of a small ranker with random weights; graphs too, where the packages are there."""
    folder = tmp_path_factory.mktemp("exported") / "export"
    ranker, tokenizer = uneven_ranker(3)
    write_export(folder, ranker, tokenizer, 64)
    encoder = PairEncoder(tokenizer, 64)
    batches = text_batches([Pair("", "", *pair) for pair in PAIRS], encoder, 128)
    try:
        require_packages(KINDS)
    except ValueError:
        return folder
    with staged(folder) as stage:
        for name in write_graphs(ranker, KINDS, stage, batches, weights(folder)):
            put(stage, folder, name)
    return folder


@pytest.fixture(scope="module")
def scores(export: Path) -> np.ndarray:
    """Return torch's scores in float32."""
    found = np.array(Reranker(export, device="cpu").score(PAIRS))
    assert found.std() > 0.1
    return found


def encoded(export: Path, kind: str) -> dict[str, object]:
    """Tokenise the pairs that fit, as transformers does."""
    queries, passages = ([PAIRS[number][side] for number in FIT] for side in (0, 1))
    return AutoTokenizer.from_pretrained(export)(queries, passages, padding=True, return_tensors=kind)


def need(backend: str) -> None:
    if backend == "torch":
        return
    for package in ("onnx", "onnxscript", *(["onnxruntime"] if backend == "onnx" else ["openvino", "nncf"])):
        pytest.importorskip(package, reason=f"the extra {backend} is not installed", exc_type=ImportError)


@pytest.mark.parametrize("backend", ["onnx", "openvino"])
@pytest.mark.fault("H2")
def test_in_float32_a_graph_gives_torchs_scores(export: Path, scores: np.ndarray, backend: str) -> None:
    need(backend)
    found = Reranker(export, device="cpu", backend=backend).score(PAIRS)
    assert found == pytest.approx(scores, abs=1e-5)


@pytest.mark.parametrize(("backend", "precision"), [way for way in WAYS if "float32" not in way])
def test_fewer_bits_keep_scores_within_a_share_of_their_spread(
    export: Path, scores: np.ndarray, backend: str, precision: str
) -> None:
    need(backend)
    found = np.array(Reranker(export, device="cpu", backend=backend, dtype=precision).score(PAIRS))
    assert 1e-5 < np.abs(found - scores).mean() < 0.2 * scores.std()


@pytest.mark.parametrize(("backend", "precision"), GRAPHS)
@pytest.mark.parametrize("budget", [1, 130, 100_000])
@pytest.mark.fault("H2")
def test_scores_do_not_depend_on_the_batch(export: Path, scores: np.ndarray, backend: str, precision: str, budget: int) -> None:
    need(backend)
    ranker = Reranker(export, device="cpu", backend=backend, dtype=precision)
    ranker.engine.network.budget = budget
    assert ranker.score(PAIRS) == pytest.approx(scores, abs=1e-5 if precision == "float32" else 0.05)


@pytest.mark.parametrize(("backend", "precision"), [("torch", "float32"), ("torch", "int8"), *WAYS])
def test_a_pair_scores_alone_what_it_scores_among_others(export: Path, backend: str, precision: str) -> None:
    need(backend)
    ranker = Reranker(export, device="cpu", backend=backend, dtype=precision)
    alone = [ranker.score([pair])[0] for pair in PAIRS]
    assert alone == pytest.approx(ranker.score(PAIRS), abs=1e-3 if precision != "bfloat16" else 0.05)


@pytest.mark.skipif(8 not in int8_levels(), reason="a graph for VNNI is written where it can be checked")
def test_an_8_bit_graph_made_for_vnni_is_refused_where_sums_would_be_cut(
    export: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    need("openvino")
    export = shutil.copytree(export, tmp_path / "export")
    file = export / INT8[7]
    for suffix in (".xml", ".bin"):
        shutil.copy((export / INT8[8]).with_suffix(suffix), file.with_suffix(suffix))
    monkeypatch.setattr(export_files, "weight_bits", lambda: 7)
    with pytest.raises(ValueError) as caught:
        Reranker(export, device="cpu", backend="openvino", dtype="int8")
    assert str(caught.value) == (
        f"{file} was made for processors with 8-bit dot products (VNNI), and this one has none: large sums would come out too "
        f"small. Write one for all: python -m rankdistil.export run={export} to=openvino,int8"
    )


@pytest.mark.parametrize("bits", int8_levels())
def test_no_neighbour_changes_a_score_of_an_8_bit_graph(export: Path, monkeypatch: pytest.MonkeyPatch, bits: int) -> None:
    need("openvino")
    monkeypatch.setattr(export_files, "weight_bits", lambda: bits)
    ranker = Reranker(export, device="cpu", backend="openvino", dtype="int8")
    assert ranker.engine.network.weight_bits == bits
    own, loud = PAIRS[4], (QUERY, "fast " * 300)
    among = [ranker.score([own, *others])[0] for others in ([], [loud], PAIRS, [loud] * 20)]
    assert among == pytest.approx([among[0]] * 4, abs=1e-4)


def test_onnx_runtime_keeps_no_plan_of_memory_for_each_shape(export: Path) -> None:
    need("onnx")
    options = Reranker(export, device="cpu", backend="onnx").engine.network._session.get_session_options()
    assert not options.enable_mem_pattern


@pytest.mark.parametrize("backend", ["onnx", "openvino"])
def test_several_threads_keep_the_order(export: Path, scores: np.ndarray, backend: str) -> None:
    need(backend)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        ranker = Reranker(export, device="cpu", backend=backend)
        ranker.engine.network.budget = 1
        assert ranker.score(PAIRS * 5) == pytest.approx(np.tile(scores, 5), abs=1e-5)
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("backend", ["onnx", "openvino"])
def test_callers_in_several_threads_each_get_their_own_scores(export: Path, scores: np.ndarray, backend: str) -> None:
    need(backend)
    ranker = Reranker(export, device="cpu", backend=backend)
    parts = [(PAIRS * 4)[at : at + 1 + at % 7] for at in range(24)]
    with ThreadPoolExecutor(8) as pool:
        for at, (part, found) in enumerate(zip(parts, pool.map(ranker.score, parts), strict=True)):
            assert found == pytest.approx(np.tile(scores, 4)[at : at + len(part)], abs=1e-5)


INTERRUPTED = """
import gc, os, signal, sys
from rankdistil import Reranker
signal.signal(signal.SIGINT, lambda *_: print("heard"))
rankers = [Reranker(sys.argv[1], device="cpu", backend="openvino") for _ in range(2)]
while rankers:
    rankers.pop(0)
    gc.collect()
os.kill(os.getpid(), signal.SIGINT)
"""


def test_a_process_that_used_openvino_can_still_be_interrupted(export: Path) -> None:
    need("openvino")
    done = subprocess.run([sys.executable, "-c", INTERRUPTED, export], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (0, "heard\n"), done.stderr


def test_onnx_runtime_alone_gives_the_same_scores(export: Path, scores: np.ndarray) -> None:
    need("onnx")
    import onnxruntime

    session = onnxruntime.InferenceSession(export / FILES["onnx", "float32"], providers=["CPUExecutionProvider"])
    assert [each.name for each in session.get_inputs()] == ["input_ids", "attention_mask", "token_type_ids"]
    assert [each.name for each in session.get_outputs()] == ["logits"]
    (logits,) = session.run(None, dict(encoded(export, "np")))
    assert logits.shape == (len(FIT), 1)
    assert logits[:, 0] == pytest.approx(scores[FIT], abs=1e-5)


def test_transformers_and_sentence_transformers_give_the_same_scores(export: Path, scores: np.ndarray) -> None:
    cross_encoder = pytest.importorskip("sentence_transformers").CrossEncoder
    model = AutoModelForSequenceClassification.from_pretrained(export).eval()
    with torch.inference_mode():
        logits = model(**encoded(export, "pt")).logits[:, 0].numpy()
    assert logits == pytest.approx(scores[FIT], abs=1e-5)
    assert cross_encoder(str(export), device="cpu").predict([PAIRS[n] for n in FIT]) == pytest.approx(scores[FIT], abs=1e-5)


@pytest.mark.parametrize(("backend", "precision"), WAYS)
def test_a_graph_of_other_weights_is_refused(export: Path, tmp_path: Path, backend: str, precision: str) -> None:
    need(backend)
    changed = shutil.copytree(export, tmp_path / "changed")
    ranker = load_ranker(str(export))
    with torch.no_grad():
        ranker.bert.classifier.bias.add_(1)
    ranker.bert.save_pretrained(changed)
    with pytest.raises(ValueError) as caught:
        Reranker(changed, device="cpu", backend=backend, dtype=precision)
    assert str(caught.value) == (
        f"{find_exported(str(changed), backend, precision)} was made of other weights, config or tokenizer than lie in "
        f"{changed} now. "
        f"Write it again: python -m rankdistil.export run={changed} to={backend}"
    )


@pytest.mark.parametrize("backend", ["onnx", "openvino"])
def test_a_graph_that_gives_no_single_logit_is_refused(export: Path, tmp_path: Path, backend: str) -> None:
    need(backend)
    folder = shutil.copytree(export, tmp_path / "export")
    ranker = load_ranker(str(export))
    ranker.bert.classifier = torch.nn.Linear(24, 2)
    write_graphs(ranker, {backend}, folder, [], weights(folder))
    with pytest.raises(ValueError, match="expected one logit for each pair"):
        Reranker(folder, device="cpu", backend=backend)


@pytest.mark.parametrize("backend", ["onnx", "openvino"])
def test_a_language_model_s_graph_is_refused(export: Path, tmp_path: Path, backend: str) -> None:
    folder = shutil.copytree(export, tmp_path / "export")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"architectures": ["BertModel"]}))
    with pytest.raises(ValueError, match="is a language model without a ranking head"):
        Reranker(folder, device="cpu", backend=backend)


def test_a_graph_is_put_in_place_and_removed_with_its_weights(tmp_path: Path) -> None:
    name = FILES["openvino", "float32"]
    with staged(tmp_path) as stage:
        for suffix in ("xml", "bin"):
            (stage / name).parent.mkdir(exist_ok=True)
            (stage / name).with_suffix(f".{suffix}").write_text(suffix)
        put(stage, tmp_path, name)
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")) == [
        "openvino", "openvino/openvino_model.bin", "openvino/openvino_model.xml",
    ]  # fmt: skip
    remove(tmp_path, name)
    assert not [*tmp_path.iterdir()]


def opened(path: object, backend: str, precision: str = "float32", device: str = "cpu") -> str:
    """Return the message that opening a network ends with."""
    encoder = PairEncoder(load_tokenizer(MINILM), 64)
    with pytest.raises((ValueError, FileNotFoundError)) as caught:
        open_network(backend, str(path), encoder, torch.device(device), precision)
    return str(caught.value)


@pytest.mark.parametrize(
    ("backend", "package", "precision"), [("onnx", "onnxruntime", "float32"), ("openvino", "openvino", "float32")]
)
def test_a_missing_package_is_named_with_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, backend: str, package: str, precision: str
) -> None:
    file = tmp_path / FILES[backend, precision]
    file.parent.mkdir()
    file.touch()
    monkeypatch.setitem(sys.modules, package, None)
    assert opened(tmp_path, backend, precision) == (
        f"backend={backend} ({file}) needs the package {package}, which isn't installed. Run: pip install -e '.[{backend}]'"
    )


@pytest.mark.parametrize(
    ("kinds", "package"),
    [({"onnx"}, "onnxscript"), ({"openvino"}, "openvino"), ({"openvino", "int8"}, "nncf"), ({"onnx"}, "onnxruntime")],
)
def test_an_export_that_lacks_a_package_says_so_first(monkeypatch: pytest.MonkeyPatch, kinds: set[str], package: str) -> None:
    backend = next(iter(kinds - {"int8"}))
    for name in ("onnx", "onnxscript", "onnxruntime", "openvino", "nncf"):
        monkeypatch.setitem(sys.modules, name, None if name == package else sys)
    with pytest.raises(ValueError) as caught:
        require_packages(kinds)
    assert str(caught.value) == (
        f"to={backend} needs the package {package}, which isn't installed. Run: pip install -e '.[{backend}]'"
    )


@pytest.mark.parametrize(
    ("backend", "precision", "name", "to"),
    [
        ("onnx", "float32", "onnx/model.onnx", "onnx"),
        ("openvino", "float32", "openvino/openvino_model.xml", "openvino"),
        ("openvino", "int8", "openvino/openvino_model_qint8_quantized.xml", "openvino,int8"),
    ],
)
def test_a_missing_graph_is_named_with_the_command(tmp_path: Path, backend: str, precision: str, name: str, to: str) -> None:
    assert opened(tmp_path, backend, precision) == (
        f"{tmp_path / name} is not there; backend={backend} with dtype={precision} reads it. "
        f"Write it: python -m rankdistil.export run={tmp_path} to={to} (with data=<run> outside of a run)"
    )


def test_what_a_runtime_cannot_do_is_refused(tmp_path: Path) -> None:
    assert opened(tmp_path, "onnx", "bfloat16") == "dtype is 'bfloat16'; backend=onnx has float32."
    assert opened(tmp_path, "tensorrt") == "backend is 'tensorrt'; expected one of torch, onnx, openvino."
    assert (
        opened("owner/name", "onnx") == "owner/name is no folder here, and backend=onnx reads files of one. Download it first."
    )
    assert opened(tmp_path, "openvino", device="cuda") == (
        "backend=openvino runs on CPUs only, not on cuda. Give device='cpu', or use backend='torch'."
    )
