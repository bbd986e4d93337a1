"""The install of a device, without torch, on every Python that the package allows and that is here.

``pytest -m slow tests/deployment/test_pythons.py``: a minute or two each, for a virtual environment and its packages.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from edge_van.bundle.bundle import Bundle

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
ROOT = Path(__file__).resolve().parents[2]
PYENV = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
VERSIONS = ("3.10", "3.11", "3.12", "3.13")
CLASSIFY = """
import sys
import numpy as np
import edge_van
with edge_van.open_classifier(sys.argv[1]) as classify:
    print(classify(np.full((64, 64, 3), 90, np.uint8)).logits.tolist())
assert "torch" not in sys.modules
"""


def python_of(version: str) -> str:
    if sys.version_info[:2] == tuple(map(int, version.split("."))):
        return sys.executable
    found = sorted(PYENV.glob(f"{version}.*/bin/python{version}"))
    if not found:
        pytest.skip(f"no Python {version} here (pyenv)")
    return str(found[-1])


@pytest.mark.parametrize("version", VERSIONS)
def test_a_device_classifies_and_deploys(device_bundle: Bundle, tmp_path: Path, version: str) -> None:
    def run(*command: object) -> str:
        done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        return done.stdout

    run(python_of(version), "-m", "venv", tmp_path / "venv")
    programs = tmp_path / "venv" / "bin"
    run(programs / "pip", "install", "-q", f"{ROOT}[openvino]")
    here = run(programs / "python", "-c", CLASSIFY, device_bundle.path)
    root = tmp_path / "root"
    flags = ("--target", "cpu-x86", "--root", root)
    run(programs / "edge-van", "deploy", device_bundle.path, "local", *flags, "--candidate", "openvino")
    assert run(programs / "python", "-c", CLASSIFY, root / "current") == here
    run(programs / "edge-van", "deploy", device_bundle.path, "local", *flags, "--candidate", "fp32")
    assert "openvino" in run(programs / "edge-van", "device", "rollback", "local", "--root", root)
