"""``edge_van.runtimes.telemetry``: what a fresh process has imported after an export and a run."""

import os
import subprocess
import sys
from pathlib import Path

SCRIPT = """
import os, sys
from pathlib import Path
from edge_van.export.openvino import export_openvino
from edge_van.input_spec import InputSpec
from edge_van.runtimes import open_model
onnx, ir = map(Path, sys.argv[1:])
export_openvino(onnx, InputSpec(size=(64, 64)), ir)
for runtime, path in (("openvino", ir), ("onnxruntime", onnx)):
    open_model(runtime, path).close()
from openvino.tools.ovc import convert_impl
print(convert_impl.tm.__name__, os.environ["ORT_DISABLE_TELEMETRY"])
"""


def test_no_engine_tells_anyone(graphs: dict[str, Path], tmp_path: Path) -> None:
    """ONNX Runtime keeps what it collects in a database in the home; OpenVINO's converter has its stand-in."""
    environment = {**os.environ, "HOME": str(tmp_path / "home")}
    environment.pop("ORT_DISABLE_TELEMETRY")
    (tmp_path / "home").mkdir()
    command = [sys.executable, "-c", SCRIPT, graphs["fp32"], tmp_path / "m.xml"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["openvino.tools.ovc.telemetry_stub", "1"], done.stderr
    assert list((tmp_path / "home").rglob("*.db")) == []
