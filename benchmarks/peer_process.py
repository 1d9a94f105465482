"""Scores pairs with sentence-transformers on OpenVINO, each time it is told to, in an environment that has both.

``python benchmarks/peer_process.py <export> <settings as JSON>`` reads names of files of pairs, one on a line, and answers
each with the scores and the CPU seconds that they took. It imports nothing of ours.
"""

import json
import sys
import time
from pathlib import Path

from sentence_transformers import CrossEncoder

ranker = CrossEncoder(sys.argv[1], backend="openvino", device="cpu", model_kwargs=json.loads(sys.argv[2]))
print("ready", flush=True)
for line in sys.stdin:
    pairs = json.loads(Path(line.rstrip("\n")).read_text(encoding="utf-8"))
    start = time.process_time()
    scores = ranker.predict(pairs, batch_size=32, show_progress_bar=False)
    print(json.dumps([scores.tolist(), time.process_time() - start]), flush=True)
