"""What decides the scores of a checkpoint: its weights, its shape and its tokens, told apart by what their files hold.

Comparing paths was rejected (a folder's content changes), and so was comparing weights alone: another activation function or
vocabulary scores otherwise with the same weights.
"""

import json
import re
from collections.abc import Iterable
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

from rankdistil.files import content
from rankdistil.models.locate import locate

TOKENIZER = ("tokenizer.json", "vocab.txt", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")
# What tools write without anybody's having asked: versions and places, and what the last call left set.
VOLATILE = {
    "config.json": ("transformers_version", "_name_or_path", "torch_dtype", "dtype"),
    "tokenizer_config.json": ("name_or_path", "transformers_version", "backend", "is_local", "local_files_only"),
    "tokenizer.json": ("truncation", "padding"),
}


def deciding_parts(path: str) -> dict[str, str]:
    """Hash what decides scores: ``weights``, ``config`` and ``tokenizer``.

    Args:
        path: see ``locate``.

    Returns:
        Hash by part; of a checkpoint that has yet to be fetched from the hub, its id as ``weights``.

    Raises:
        FileNotFoundError: if a folder holds no weights.
        ValueError: if a file is damaged.
    """
    folder = locate(path)
    if not isinstance(folder, Path):
        return {"weights": path}
    weights = sorted(folder.glob("*.safetensors"))
    if not weights:
        raise FileNotFoundError(f"{folder} holds no .safetensors file: it is no checkpoint that can be started from.")
    return {
        "weights": _joined(map(content, weights)),
        "config": _joined(_told(folder, ["config.json"])),
        "tokenizer": _joined(_told(folder, TOKENIZER)),
    }


def identity(path: str) -> str:
    """Tell checkpoints apart by content: one hash of all that decides scores; what has yet to be fetched stands for itself."""
    found = deciding_parts(path)
    return _joined(found.values()) if len(found) > 1 else path


def is_content(name: str) -> bool:
    """Whether what ``identity`` returned is a hash."""
    return re.fullmatch("[0-9a-f]{16}", name) is not None


def _told(folder: Path, names: Iterable[str]) -> list[str]:
    files = [folder / name for name in names if (folder / name).is_file()]
    return [f"{file.name} {content(file) if file.suffix != '.json' else _of_json(file, content(file))}" for file in files]


@cache  # parsing a tokenizer takes long
def _of_json(file: Path, held_now: str) -> str:
    """Hash what the values of a file are, whatever their order, without those that decide nothing."""
    try:
        held: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        kept = {key: value for key, value in held.items() if key not in VOLATILE.get(file.name, ())}
    except (ValueError, AttributeError) as error:
        raise ValueError(f"{file} is damaged ({error}). Copy the checkpoint again.") from None
    return sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()[:16]


def _joined(hashes: Iterable[str]) -> str:
    return sha256(" ".join(hashes).encode()).hexdigest()[:16]
