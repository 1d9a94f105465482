"""OpenVINO, loaded without its reports to its maker."""

import sys
from functools import cache
from types import ModuleType
from typing import Any

from rankdistil.data.extras import require

TELEMETRY = "openvino_telemetry"  # sends usage to a web service as soon as openvino or nncf is imported; both do without it


def load_openvino(what: str) -> ModuleType:
    """Import openvino.

    Args:
        what: needs it, for the message.

    Raises:
        ValueError: if it isn't installed.
    """
    return _silent("openvino", what)


def load_nncf(what: str) -> ModuleType:
    """Import nncf, OpenVINO's quantiser; see ``load_openvino``."""
    return _silent("nncf", what)


@cache
def openvino_core() -> Any:
    """Return this process's only ``openvino.Core``.

    A core puts a signal stack of its own in place and, when it goes, the one that it found. Two that don't go in the opposite
    order leave a stack that is gone, and the next signal with a handler (Ctrl-C) ends the process; so one is made, and stays.
    """
    return load_openvino("backend=openvino").Core()


def _silent(name: str, what: str) -> ModuleType:
    sys.modules.setdefault(TELEMETRY, None)
    return require(name, what, "openvino")
