"""What importing costs and what every module must keep to: no engine and no torch too early, a docstring, no sprawl."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

import edge_van

ROOT = Path(edge_van.__file__).parent
MODULES = sorted(ROOT.rglob("*.py"))
MAX_LINES = 300
HEAVY = (
    *("torch", "torchao", "nncf", "onnx", "onnxruntime", "openvino", "safetensors", "huggingface_hub", "scipy"),
    *("matplotlib", "jinja2"),
)
"""None of these is on a device that has numpy, Pillow and one engine; and each takes long to import."""

LIGHT = (
    "edge_van",
    "edge_van.assets",
    "edge_van.bundle.bundle",
    "edge_van.cli.main",
    "edge_van.images.sets",
    "edge_van.doctor",
    "edge_van.errors",
    "edge_van.model.complexity",
    "edge_van.input_spec",
    "edge_van.machine",
    "edge_van.quantization.recipe",
    "edge_van.bundle.records",
    "edge_van.runtimes",
    "edge_van.evaluation.accuracy",
    "edge_van.model.variants",
)


@pytest.mark.parametrize("name", LIGHT)
def test_what_must_be_light_is_there(name: str) -> None:
    assert find_spec(name), "renamed? then name it here as it is called now"


@pytest.mark.parametrize("name", LIGHT)
def test_importing_loads_nothing_heavy(name: str) -> None:
    code = f"import sys, {name}; print(*sorted(set(sys.modules) & set({HEAVY!r})))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 0, result.stderr
    assert result.stdout.split() == []


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("path", MODULES, ids=relative)
def test_module_keeps_the_house_rules(path: Path) -> None:
    source = path.read_text(encoding="utf-8")
    assert ast.get_docstring(ast.parse(source)), "say in the first lines what goes in and what comes out"
    assert len(source.splitlines()) <= MAX_LINES, "is it two things?"
    assert not re.search(r"\b(TODO|FIXME|XXX|HACK)\b", source), "do it now, or open an issue"
