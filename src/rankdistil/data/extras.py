"""Packages that only some formats and backends need: asked for by name, with the command that installs them."""

import importlib
from types import ModuleType


def require(name: str, what: str, extra: str = "formats") -> ModuleType:
    """Import a package of an extra.

    Args:
        name: of the package.
        what: needs it, for the message.
        extra: brings it.

    Raises:
        ValueError: if it isn't installed.
    """
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError:
        package = name.partition(".")[0]
        raise ValueError(
            f"{what} needs the package {package}, which isn't installed. Run: pip install 'rankdistil[{extra}]' "
            f"(from a clone: pip install -e '.[{extra}]')."
        ) from None
