"""What engines tell their makers is switched off before they are imported: nothing that edge-van does leaves a machine.

OpenVINO's converter otherwise counts its calls with its maker, and forks a process for it that was seen to hang, and
the command with it at its end. ONNX Runtime collects events in the user's home.
"""

from __future__ import annotations

import os
import sys
from types import ModuleType
from typing import cast


def switch_off_telemetry() -> None:
    """Of an engine that is already imported, or that was told otherwise by its own variable, nothing changes."""
    # documented in onnxruntime's Privacy.md
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    # None makes an import fail: openvino, and nncf, do without where this package is not installed
    sys.modules.setdefault("openvino_telemetry", cast("ModuleType", None))
