"""Secrets in a config: no key that names one, and what comes from the environment is written down as a reference only.

Settings land in the run's folder, in its loggers and in reports.
"""

import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.resolvers import oc

SECRET = re.compile(r"((api|access|private|secret)[_-]?key|token|passw(or)?d|secret|credentials?)$", re.IGNORECASE)


def recorded(node: Any) -> Any:
    """Resolve a config as ``rankdistil.config.checks.plain`` does, for files and loggers.

    A text that comes from the environment stays a reference, as it may be a secret. A digest beside it tells whether it is
    another one the next time.
    """
    if isinstance(node, ListConfig):
        return [_recorded(node, place) for place in range(len(node))]
    if isinstance(node, DictConfig):
        return {key: _recorded(node, key) for key in node}
    return node


def _recorded(node: DictConfig | ListConfig, key: Any) -> Any:
    value = node[key]
    if not isinstance(value, str):
        return recorded(value)  # a number or a switch is no secret
    with _references():
        reference = node[key]
    digest = hashlib.sha256(value.encode()).hexdigest()[:8]
    return value if reference == value else f"{reference} ({digest})"


@contextmanager
def _references() -> Iterator[None]:
    """Let ``${oc.env:NAME}`` stand for itself."""
    OmegaConf.register_new_resolver("oc.env", lambda *words: f"${{oc.env:{','.join(map(str, words))}}}", replace=True)
    try:
        yield
    finally:
        OmegaConf.register_new_resolver("oc.env", oc.env, replace=True)


def refuse_secrets(node: Any, section: str = "") -> None:
    """Refuse keys that name a secret, at any depth: settings are written to files.

    Raises:
        ValueError: naming the key, not its value.
    """
    children = OmegaConf.to_container(node, resolve=False) if isinstance(node, DictConfig) else node
    pairs = children.items() if isinstance(children, dict) else enumerate(children) if isinstance(children, list) else ()
    for key, child in pairs:
        name = f"{section}.{key}".lstrip(".")
        if isinstance(key, str) and SECRET.search(key):
            raise ValueError(f"{name} looks like a secret, and settings are written to files. Use the environment.")
        refuse_secrets(child, name)
