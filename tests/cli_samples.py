"""What the command line's tests share: a narrow checkpoint, small image folders, and the check of a failed command."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from checkpoint_samples import lively
from PIL import Image

from edge_van.checkpoint.load import save_safetensors
from edge_van.cli import main as cli
from edge_van.input_spec import InputSpec
from edge_van.model.van import VAN
from edge_van.model.variants import Variant

NARROW = Variant("t", (8, 16, 16, 24), (1, 1, 1, 1), 0.0, 0.0, None)
CLASSES = ("ant", "bee", "cow")


def narrow_checkpoint(path: Path, *, nan: bool = False) -> Path:
    """A VAN of three classes at 32 px that quantises in seconds."""
    torch.manual_seed(0)
    van = lively(VAN(NARROW, len(CLASSES)))
    state = van.state_dict()
    if nan:
        state["head.weight"][0, 0] = float("nan")
    save_safetensors(path, state, InputSpec(size=(32, 32), crop=1.0), None, half=False)
    return path


def pixels_of(label: int, size: int, generator: np.random.Generator) -> np.ndarray:
    """uint8 (size, size, 3): noise with more of the class's channel."""
    pixels = generator.integers(0, 120, (size, size, 3))
    pixels[..., label] += 100
    return pixels.astype(np.uint8)


def image_folders(root: Path, counts: dict[str, int], size: int = 32) -> Path:
    """``root/<split>/<class>/<n>.png``; every image differs from every other."""
    generator = np.random.default_rng(0)
    for split, count in counts.items():
        for label, name in enumerate(CLASSES):
            folder = root / split / name
            folder.mkdir(parents=True)
            for i in range(count):
                Image.fromarray(pixels_of(label, size, generator)).save(folder / f"{i}.png")
    return root


def run(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *arguments: object) -> tuple[int, str, str]:
    """(exit code, standard output, standard error) of the command line, in this process."""
    monkeypatch.setattr(sys, "argv", ["edge-van", *map(str, arguments)])
    capfd.readouterr()
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    out, err = capfd.readouterr()
    assert isinstance(stopped.value.code, int)
    return stopped.value.code, out, err


def error_line(err: str) -> str:
    """The one line of the error; all that stands before it are stages and warnings."""
    assert "Traceback" not in err
    lines = err.splitlines()
    errors = [line for line in lines if "error:" in line]
    assert len(errors) == 1, err
    assert errors[0] == lines[-1]
    assert errors[0].startswith("edge-van: error: ")
    return errors[0]


def start(*arguments: object, cwd: Path | None = None, before: str = "") -> subprocess.Popen[str]:
    """The command line in a process of its own, which hears SIGINT even where the tests run in the background.

    ``before``: Python that the process runs first.
    """
    command = ["-c", f"{before}\nfrom edge_van.__main__ import main\nmain()"] if before else ["-m", "edge_van"]
    return subprocess.Popen(
        [sys.executable, *command, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=cwd,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )


def killed_after(saves: int) -> str:
    """For ``start``: the process kills itself by SIGKILL once a training has kept its state that often."""
    return f"""
import os, signal
from edge_van.quantization import qat
from edge_van.training import loop
qat.SAVE_EVERY_STEPS, loop.SAVE_EVERY_S, save, left = 1, 0.0, qat.save_training_state, [{saves}]
def save_and_die(*arguments):
    save(*arguments)
    left[0] -= 1
    if not left[0]:
        os.kill(os.getpid(), signal.SIGKILL)
qat.save_training_state = loop.save_training_state = save_and_die
"""


def tree(root: Path) -> dict[str, bytes]:
    """Everything below ``root``: its bytes by its path, folders as empty."""
    return {str(p.relative_to(root)): p.read_bytes() if p.is_file() else b"" for p in sorted(root.rglob("*"))}
