"""The rooms of the package: which may import from which, and that no arrow runs up or in a circle."""

from __future__ import annotations

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import edge_van

ROOT = Path(edge_van.__file__).parent
GROUND, FACE = "the ground", "the public face"
FLOORS: tuple[tuple[str, ...], ...] = (
    (GROUND,),
    ("storage",),
    ("bundle", "images", "model", "tasks"),
    ("checkpoint", "runtimes"),
    ("prediction", "quantization", "timing"),
    ("engines", "evaluation", "export", "training"),
    ("budget", "deployment", "pipeline", "reports", "resizing", "serving", "starting_point"),
    (FACE,),
    ("cli", "doctor", "schemas", "__main__"),
)
"""From the bottom up. A room imports from its own floor and those below it."""
ON_THE_GROUND = (
    *("assets", "errors", "head", "input_spec", "machine", "nvml"),
    *("progress", "recipe_file", "schedule", "statistics", "text", "version"),
)
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}


def module_of(path: Path) -> str:
    """``bundle.files`` for ``edge_van/bundle/files.py``; a package is its ``__init__``; "" is the public face."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__").removesuffix("__init__")


def room_of(module: str) -> str:
    first = module.split(".")[0]
    return GROUND if first in ON_THE_GROUND else first or FACE


MODULES = {module_of(path): path for path in sorted(ROOT.rglob("*.py"))}


def imports_of(path: Path) -> set[str]:
    """The modules of the package that ``path`` imports anywhere in it, also inside functions and for types alone."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "edge_van":
            base = (node.module or "").removeprefix("edge_van").removeprefix(".")
            for name in node.names:
                inner = f"{base}.{name.name}".removeprefix(".")
                found.add(inner if inner in MODULES else base)
        elif isinstance(node, ast.Import):
            found |= {n.name.removeprefix("edge_van").removeprefix(".") for n in node.names if n.name[:8] == "edge_van"}
    return found


ARROWS = {module: imports_of(path) for module, path in MODULES.items()}


def test_every_room_has_its_floor() -> None:
    assert {room_of(module) for module in ARROWS} == FLOOR.keys()


@pytest.mark.parametrize("module", ARROWS)
def test_no_arrow_runs_up(module: str) -> None:
    floor = FLOOR[room_of(module)]
    up = sorted(other for other in ARROWS[module] if FLOOR[room_of(other)] > floor)
    assert not up, f"{module} is on floor {floor} and imports from above: move what it takes, or hand it in"


def test_modules_import_in_no_circle() -> None:
    assert no_circle(ARROWS) == ""


def test_rooms_import_in_no_circle() -> None:
    rooms: dict[str, set[str]] = {}
    for module, others in ARROWS.items():
        rooms.setdefault(room_of(module), set()).update(room_of(other) for other in others)
    assert no_circle({room: others - {room} for room, others in rooms.items()}) == ""


def no_circle(graph: dict[str, set[str]]) -> str:
    try:
        tuple(TopologicalSorter(graph).static_order())
    except CycleError as error:
        return " -> ".join(error.args[1])
    return ""


def test_a_circle_and_an_arrow_are_seen(tmp_path: Path) -> None:
    """The test itself: what it reads of a file, and that it finds a circle."""
    path = tmp_path / "module.py"
    path.write_text("def f():\n    from edge_van.bundle import files\n    from edge_van.text import one_line\n")
    assert imports_of(path) == {"bundle.files", "text"}
    assert no_circle({"a": {"b"}, "b": {"c"}, "c": {"a"}})
    assert not no_circle({"a": {"b"}, "b": {"c"}, "c": set()})
