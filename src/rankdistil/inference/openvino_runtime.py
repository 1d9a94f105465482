"""OpenVINO, loaded without its reports to its maker."""

import sys
from types import ModuleType

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


def _silent(name: str, what: str) -> ModuleType:
    sys.modules.setdefault(TELEMETRY, None)
    return require(name, what, "openvino")
