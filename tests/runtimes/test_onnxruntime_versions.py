"""Every ONNX file of a bundle in the oldest and the newest ONNX Runtime that the package allows, with default options.

``pytest -m slow tests/runtimes/test_onnxruntime_versions.py``: minutes, for a virtual environment each and the demo.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import edge_van
from edge_van.bundle.bundle import Bundle
from edge_van.bundle.golden import read_golden
from edge_van.bundle.layout import ARM_IR, ARM_ONNX, FP32_IR, FP32_ONNX, INT8_IR, OPENVINO_ONNX
from edge_van.statistics import sqnr_db

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]
OLDEST = "1.30.0"
NEWEST = ""  # whatever the index has
AS_WRITTEN = {FP32_ONNX: FP32_IR, OPENVINO_ONNX: INT8_IR, ARM_ONNX: ARM_IR}
"""Files whose golden logits stand under another file of the same graph."""
FLOORS_DB = {FP32_ONNX: 80.0, OPENVINO_ONNX: 25.0, ARM_ONNX: 25.0}
STRANGER = """
import json, sys
import numpy as np
import onnxruntime as ort

images = np.load(sys.argv[1])
logits = {}
for file in sys.argv[2:]:
    session = ort.InferenceSession(file, providers=["CPUExecutionProvider"])
    [taken] = session.get_inputs()
    logits[file] = session.run(None, {taken.name: images})[0].tolist()
print(json.dumps(logits))
"""


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return edge_van.quantize(output=tmp_path_factory.mktemp("demo") / "b")


@pytest.mark.parametrize("version", [OLDEST, NEWEST])
def test_a_strangers_session_computes_the_same(demo: Bundle, tmp_path: Path, version: str) -> None:
    """Their logits against those of the graph as it is written, that no runtime rewrote."""
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    python = tmp_path / "venv" / "bin" / "python"
    wanted = f"onnxruntime=={version}" if version else "onnxruntime"
    subprocess.run([python, "-m", "pip", "install", "-q", wanted, "numpy"], check=True)
    golden, spec = read_golden(demo), demo.manifest.input_spec
    floats = (golden.pixels / 255.0 - np.array(spec.pixel_mean)) / np.array(spec.pixel_std)
    np.save(tmp_path / "images.npy", floats.transpose(0, 3, 1, 2).astype(np.float32))
    files = {str(path): str(path.relative_to(demo.path)) for path in sorted((demo.path / "onnx").glob("*.onnx"))}
    done = subprocess.run(
        [python, "-c", STRANGER, tmp_path / "images.npy", *files], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    for path, values in json.loads(done.stdout).items():
        file, logits = files[path], np.array(values)
        expected = golden.logits[AS_WRITTEN.get(file, file)]
        measured = sqnr_db(expected, logits)
        print(f"ONNX Runtime {version or 'newest'} {file}: {measured:.1f} dB")
        assert (logits.argmax(1) == expected.argmax(1)).all(), file
        assert measured >= FLOORS_DB.get(file, 15.0), file  # 8-bit weights saturate on CPUs without VNNI
