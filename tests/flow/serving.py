"""Proves that an export gives the same scores elsewhere: FlashRank, ``rerankers``, sentence-transformers on OpenVINO.

``python tests/flow/serving.py [<folder for the environments>]`` installs each from the package index, in an environment of its
own: their versions would not fit into ours. No test of the suite: it needs the network and minutes.
"""

import json
import math
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from transformers import BertConfig, BertForSequenceClassification
from transformers.utils import logging

sys.path.insert(0, str(Path(__file__).parents[1]))
from support import MINILM

from rankdistil import Reranker
from rankdistil.inference.export_files import FILES, weights, write_export
from rankdistil.inference.write_graphs import write_graphs
from rankdistil.models.bert import CrossEncoder
from rankdistil.models.checkpoints import load_tokenizer

QUERY = "how long does a worker bee live"
PASSAGES = ["In summer, workers live about six weeks.", "A queen may live for years.", "Honey is sweet.", "six weeks " * 20]
CLOSE = 1e-5
TORCH = f"torch=={torch.__version__.partition('+')[0]}"
TOOLS = {  # packages, and the code that prints the scores of the passages in their order
    "flashrank": (
        ["flashrank"],
        """
import json, sys
from pathlib import Path
from flashrank import Config, Ranker, RerankRequest
export, graph, query, passages = Path(sys.argv[1]), sys.argv[2], sys.argv[3], json.loads(sys.argv[4])
Config.model_file_map[export.name] = graph
ranker = Ranker(model_name=export.name, cache_dir=str(export.parent), max_length=128)
found = ranker.rerank(RerankRequest(query=query, passages=[{"id": n, "text": text} for n, text in enumerate(passages)]))
print(json.dumps([float(hit["score"]) for hit in sorted(found, key=lambda hit: hit["id"])]))
""",
    ),
    "rerankers": (
        ["rerankers[transformers]", TORCH],
        """
import json, sys
from rerankers import Reranker
export, _, query, passages = sys.argv[1:4] + [json.loads(sys.argv[4])]
found = Reranker(export, model_type="cross-encoder", device="cpu", dtype="float32", verbose=0).rank(query=query, docs=passages)
print(json.dumps([float(hit.score) for hit in sorted(found.results, key=lambda hit: hit.document.doc_id)]))
""",
    ),
    "sentence-transformers": (
        ["sentence-transformers[openvino]>=6", TORCH],
        """
import json, sys
from pathlib import Path
from sentence_transformers import CrossEncoder
export, _, query, passages = sys.argv[1:4] + [json.loads(sys.argv[4])]
settings = {"file_name": "openvino_model.xml", "ov_config": {"INFERENCE_PRECISION_HINT": "f32"}}
ranker = CrossEncoder(export, backend="openvino", device="cpu", model_kwargs=settings)
print(json.dumps(ranker.predict([(query, passage) for passage in passages]).tolist()))
""",
    ),
}


def make_export(folder: Path) -> None:
    """Write a small ranker with random weights, whose scores differ."""
    torch.manual_seed(0)
    tokenizer = load_tokenizer(MINILM)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=24,
        num_hidden_layers=2,
        num_attention_heads=3,
        intermediate_size=48,
        num_labels=1,
    )
    ranker = CrossEncoder(BertForSequenceClassification(config)).eval()
    with torch.no_grad():
        for name, value in ranker.named_parameters():
            if "LayerNorm" not in name and "embeddings" not in name:
                value.normal_(std=0.2)  # fresh weights give all pairs nearly the same score
    write_export(folder, ranker, tokenizer, 128)
    write_graphs(ranker, {"onnx", "openvino"}, folder, [], weights(folder))


def main(folder: Path) -> None:
    """Compare the tools' scores with ours; raises where one differs."""
    logging.disable_progress_bar()
    export = folder / "export"
    make_export(export)
    logits = Reranker(str(export), device="cpu").score((QUERY, passage) for passage in PASSAGES)
    assert max(logits) - min(logits) > 0.01, logits
    expected = dict.fromkeys(TOOLS, logits) | {"flashrank": [1 / (1 + math.exp(-logit)) for logit in logits]}
    for name, (packages, code) in TOOLS.items():
        python = folder / name / "bin" / "python"
        if not python.is_file():
            subprocess.run([sys.executable, "-m", "venv", str(folder / name)], check=True)
            subprocess.run([python, "-m", "pip", "install", "--quiet", *packages], check=True)
        words = [str(export), FILES["onnx", "float32"], QUERY, json.dumps(PASSAGES)]
        done = subprocess.run([python, "-c", code, *words], capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(f"{name} can't load the export:\n{done.stderr}")
        found = json.loads(done.stdout.splitlines()[-1])
        largest = max(abs(a - b) for a, b in zip(found, expected[name], strict=True))
        print(f"{name}: largest difference {largest:.1e} over {len(PASSAGES)} pairs")
        if largest > CLOSE:
            raise RuntimeError(f"{name} scores {found}; expected {expected[name]} within {CLOSE:g}.")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(Path(sys.argv[1]))
    else:
        with tempfile.TemporaryDirectory() as temporary:
            main(Path(temporary))
