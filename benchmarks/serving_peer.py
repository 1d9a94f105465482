"""What people write today to serve a cross-encoder: sentence-transformers behind FastAPI. Serves it until it is ended.

``python benchmarks/serving_peer.py <export> <port>``. It imports nothing of ours.
"""

import sys

import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel
from sentence_transformers import CrossEncoder

app, ranker = FastAPI(), CrossEncoder(sys.argv[1], device="cpu")


class Asked(BaseModel):
    """What a client sends."""

    query: str
    documents: list[str]


@app.post("/rerank")
def rerank(asked: Asked) -> dict[str, list[dict[str, float]]]:
    """Rank documents; FastAPI calls this in threads, 40 at most."""
    scores = ranker.predict([(asked.query, text) for text in asked.documents], show_progress_bar=False).tolist()
    hits = [{"index": index, "relevance_score": score} for index, score in enumerate(scores)]
    return {"results": sorted(hits, key=lambda hit: -hit["relevance_score"])}


if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[2]), log_level="warning")
