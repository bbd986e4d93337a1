"""What ``import edge_van`` offers: its names, that nothing is loaded before it is used, and that they are typed."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
import typing
from pathlib import Path

import pytest

import edge_van

FUNCTIONS = (
    "benchmark",
    "build",
    "export_server",
    "open_bundle",
    "open_classifier",
    "predict",
    "quantize",
    "report",
    "resize",
    "validate",
)
MOST_PARAMETERS = 7
ROOT = Path(edge_van.__file__).parent


def test_every_name_is_there_and_no_other() -> None:
    homes = {name for names in edge_van._HOMES.values() for name in names}
    assert set(edge_van.__all__) == homes | {"__version__"}
    assert set(edge_van.__all__) <= set(dir(edge_van))
    for name in edge_van.__all__:
        assert getattr(edge_van, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'quantise'"):
        _ = edge_van.quantise


def test_a_type_checker_sees_the_same_names() -> None:
    [block] = [node for node in ast.parse((ROOT / "__init__.py").read_text()).body if isinstance(node, ast.If)]
    seen = {
        (name.asname or name.name): (node.module or "").removeprefix("edge_van.")
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for name in node.names
    }
    assert seen == edge_van._HOME
    assert (ROOT / "py.typed").is_file()


def test_importing_it_loads_nothing() -> None:
    code = "import edge_van, sys; print(*(m for m in sys.modules if m.startswith(('edge_van.', 'numpy', 'torch'))))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["edge_van.version"]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_function_says_what_it_takes_gives_and_raises(name: str) -> None:
    function = getattr(edge_van, name)
    assert typing.get_type_hints(function, vars(sys.modules[function.__module__]))["return"] is not None
    assert "aise" in (function.__doc__ or ""), "which errors?"


def test_no_function_takes_more_than_seven_parameters() -> None:
    over = {}
    for path in ROOT.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef):
                given = [a.arg for a in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)]
                count = len([name for name in given if name not in ("self", "cls")])
                if count > MOST_PARAMETERS:
                    over[f"{path.relative_to(ROOT)}:{node.name}"] = count
    assert not over, "hand in a record"


def test_the_verbs_call_these() -> None:
    """What the command line does a program can do: each verb's module calls the function of its name."""
    for verb in ("benchmark", "build", "export_server", "predict", "quantize", "report", "validate"):
        source = (ROOT / "cli" / f"{verb}.py").read_text(encoding="utf-8")
        assert f"edge_van.{verb}(" in source
        assert inspect.isfunction(getattr(edge_van, verb))
