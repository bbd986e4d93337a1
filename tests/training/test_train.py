"""``edge_van.training.train``: from folders to a checkpoint that the main job takes; what is refused."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from cli_samples import CLASSES, error_line, image_folders, killed_after, run, start
from watching import Watching

from edge_van.checkpoint.load import load_checkpoint, save_safetensors
from edge_van.errors import BundleError, DataError, UsageError
from edge_van.input_spec import InputSpec
from edge_van.model.van import VAN
from edge_van.model.variants import VARIANTS, Variant
from edge_van.progress import Work
from edge_van.training import loop
from edge_van.training.settings import TrainSettings
from edge_van.training.train import TrainOptions, train

pytest.importorskip("accelerate")
SETTINGS = TrainSettings(epochs=2, batch=8, size=32)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return image_folders(tmp_path_factory.mktemp("train"), {"train": 6, "val": 3})


@pytest.fixture(autouse=True)
def small_b0(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(VARIANTS, "b0", Variant("b0", (4, 6, 8, 12), (1, 1, 1, 1), 0.0, 0.0, None))


def test_a_checkpoint_and_its_curve(data: Path, tmp_path: Path) -> None:
    path = tmp_path / "van.safetensors"
    result = train(data, path, SETTINGS, options=TrainOptions("b0"))
    loaded = load_checkpoint(path)
    assert loaded.spec == InputSpec(size=(32, 32), crop=1.0, classes=CLASSES)
    assert loaded.van.num_classes == 3
    rows = list(csv.DictReader((tmp_path / "van.csv").open()))
    assert [int(row["epoch"]) for row in rows] == [1, 2]
    assert [float(row["loss"]) for row in rows] == [point.loss for point in result.curve]
    assert all(0.0 <= float(row["top1_percent"]) <= 100.0 for row in rows)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["van.csv", "van.safetensors"]
    again = tmp_path / "again.safetensors"
    train(data, again, SETTINGS, options=TrainOptions("b0"))
    assert again.read_bytes() == path.read_bytes()


def test_a_training_that_was_killed_ends_with_the_same_bytes(data: Path, tmp_path: Path) -> None:
    """By SIGKILL, after three of its 14 steps."""
    settings = TrainSettings(epochs=6, batch=8, size=32)
    whole = train(data, tmp_path / "whole.safetensors", settings, options=TrainOptions("b0"))
    narrow = "from edge_van.model.variants import VARIANTS, Variant\nVARIANTS['b0'] = " + repr(VARIANTS["b0"])
    path = tmp_path / "killed.safetensors"
    flags = ("--variant", "b0", "--data", data, "--epochs", 6, "--batch", 8, "--size", 32, "--output", path)
    process = start("train", *flags, before=narrow + killed_after(3))
    _, err = process.communicate(timeout=300)
    assert process.returncode == -signal.SIGKILL, err
    state = torch.load(tmp_path / ".killed.safetensors.training" / "state.pt", weights_only=True)
    assert state["state"]["step"] == 3
    assert not path.exists()
    rest = train(data, path, settings, options=TrainOptions("b0"))
    assert rest.curve == whole.curve
    assert path.read_bytes() == whole.path.read_bytes()


@pytest.mark.parametrize("on_disk", [False, True])
def test_two_processes_train_as_one(tmp_path: Path, on_disk: bool) -> None:
    """By torchrun, on the CPU: the same losses within float noise, with mixtures, dropped blocks and a growing input;
    and top-1, of which each measures its part."""
    data = image_folders(tmp_path / "data", {"train": 10, "val": 3})
    script = tmp_path / "child.py"
    script.write_text(
        "import os, sys\nimport torch\ntorch.set_num_threads(1)\n"
        "from edge_van.model.variants import VARIANTS, Variant\n"
        f"VARIANTS['b0'] = {VARIANTS['b0']!r}\n"
        "from edge_van.training import images\n"
        f"images.MEMORY_SHARE = {0.0 if on_disk else 0.6}\n"
        "from edge_van.cli.main import main\nmain()\n"
    )
    flags = f"--variant b0 --data {data} --epochs 4 --batch 8 --size 32 --first-size 16 --drop-path 0.1 --device cpu"
    environment = os.environ | {"PYTHONPATH": str(Path(loop.__file__).parents[2])}
    curves = []
    for processes in (1, 2):
        launch = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
        output = tmp_path / f"{processes}.safetensors"
        command = [*(launch if processes > 1 else []), str(script), "train", *flags.split(), "--output", str(output)]
        done = subprocess.run(
            [sys.executable, *command], env=environment, capture_output=True, text=True, timeout=300, check=False
        )
        assert done.returncode == 0, done.stderr[-2000:]
        assert done.stdout.count("Next:") == 1  # one of them speaks
        curves.append(list(csv.DictReader(output.with_suffix(".csv").open())))
    # not weight by weight: a bias before a BatchNorm has no gradient but noise, which AdamW makes as large as any
    one, two = curves
    assert [row["epoch"] for row in two] == [row["epoch"] for row in one] == ["1", "2", "3", "4"]
    assert [float(row["loss"]) for row in two] == pytest.approx([float(row["loss"]) for row in one], rel=1e-4)
    tops = [[float(row["top1_percent"]) for row in curve] for curve in curves]
    assert tops[1] == pytest.approx(tops[0], abs=100.0 / 9 + 0.1)  # one of the nine may be a tie but for the noise


def test_another_task_gets_a_head_of_its_own(data: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    start = VAN("b0", 5)
    spec = InputSpec(size=(32, 32), mean=(0.4, 0.4, 0.4), std=(0.3, 0.3, 0.3))
    save_safetensors(tmp_path / "start.safetensors", start.state_dict(), spec, None, half=False)
    settings = TrainSettings(epochs=1, batch=8, size=32, learning_rate=0.0, ema=0.0)
    options = TrainOptions(checkpoint=tmp_path / "start.safetensors")
    train(data, tmp_path / "fine.safetensors", settings, options=options)
    found = load_checkpoint(tmp_path / "fine.safetensors")
    assert (found.van.num_classes, found.spec.mean) == (3, spec.mean)
    for name, value in found.van.named_parameters():
        if not name.startswith("head."):
            assert torch.equal(value, start.state_dict()[name]), name


def test_a_full_disk_loses_nothing(
    data: Path, tmp_path: Path, small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "SAVE_EVERY_S", 0.0)
    path = small_disk / "van.safetensors"
    (small_disk / "others").write_bytes(bytes(200_000))
    with pytest.raises(BundleError, match="free some space"):
        train(data, path, SETTINGS, options=TrainOptions("b0"))
    assert not path.exists()
    assert list(small_disk.iterdir()) == [small_disk / "others"]  # and no state that is half there


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"output": "van.pth"}, "call it NAME.safetensors, not van.pth"),
        ({"options": TrainOptions()}, "from scratch needs --variant"),
        ({"settings": TrainSettings(epochs=1, batch=8, size=32), "options": TrainOptions("b9")}, "b9"),
    ],
)
def test_what_cannot_be_is_refused(data: Path, tmp_path: Path, given: dict[str, Any], words: str) -> None:
    options = given.get("options", TrainOptions("b0"))
    with pytest.raises(UsageError, match=words):
        train(data, tmp_path / given.get("output", "a.safetensors"), given.get("settings", SETTINGS), options=options)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_there_is_kept(data: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(b"mine")
    with pytest.raises(UsageError, match="--force to replace it"):
        train(data, path, SETTINGS, options=TrainOptions("b0"))
    assert path.read_bytes() == b"mine"


def test_images_that_do_not_fit_in_memory_are_decoded_as_needed(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_memory = train(data, tmp_path / "a.safetensors", SETTINGS, options=TrainOptions("b0"))
    sysconf = os.sysconf
    monkeypatch.setattr("os.sysconf", lambda name: 16 if name == "SC_PHYS_PAGES" else sysconf(name))
    watching = Watching()
    on_disk = train(data, tmp_path / "b.safetensors", SETTINGS, options=TrainOptions("b0"), work=Work(watching))
    assert watching.notes[0] == "27 images at 32 px would take 0.0 GiB of memory: decoded as they are needed"
    assert on_disk.curve == in_memory.curve
    assert on_disk.path.read_bytes() == in_memory.path.read_bytes()


def test_the_command(
    data: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    flags = ("train", "--variant", "b0", "--data", data, "--epochs", 1, "--batch", 8, "--size", 32)
    code, out, err = run(capfd, monkeypatch, *flags, "--output", tmp_path / "a.safetensors")
    assert code == 0, err
    assert out.splitlines()[-1] == f"Next:   edge-van quantize --checkpoint {tmp_path / 'a.safetensors'} --data {data}"
    code, _, err = run(capfd, monkeypatch, *flags, "--output", tmp_path / "a.safetensors")
    assert (code, "--force" in error_line(err)) == (2, True)
    if not torch.cuda.is_available():
        code, _, err = run(capfd, monkeypatch, *flags, "--output", tmp_path / "b.safetensors", "--device", "cuda")
        assert (code, "no GPU" in error_line(err)) == (5, True)
    code, _, err = run(capfd, monkeypatch, *flags[:-2], "--size", 3, "--output", tmp_path / "b.safetensors")
    assert (code, "from 16 to 2048" in error_line(err)) == (2, True)


def test_what_is_validated_on_is_not_trained_on(data: Path, tmp_path: Path) -> None:
    folder = tmp_path / "d"
    shutil.copytree(data, folder)
    [*_, copied] = sorted((folder / "val").rglob("*.png"))
    shutil.copy(copied, folder / "train" / copied.parent.name / "copy.png")
    watching = Watching()
    plain = train(data, tmp_path / "a.safetensors", SETTINGS, options=TrainOptions("b0"))
    apart = train(folder, tmp_path / "b.safetensors", SETTINGS, options=TrainOptions("b0"), work=Work(watching))
    first, *epochs = watching.notes
    assert first == "warning: 1 of 19 training images are validation images too: not trained on"
    assert [line.split(",")[0] for line in epochs] == [f"epoch {p.epoch} of 2: loss {p.loss:.3f}" for p in apart.curve]
    assert apart.curve == plain.curve
    options = TrainOptions("b0", validation=data / "train")
    with pytest.raises(DataError, match=r"every image of .* is a validation image too: give others"):
        train(data / "train", tmp_path / "c.safetensors", SETTINGS, options=options)


def test_the_command_takes_a_recipe(
    data: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = tmp_path / "train.toml"
    recipe.write_text("epochs = 4\nbatch = 8\nsize = 32\n", encoding="utf-8")
    flags = ("train", "--variant", "b0", "--data", data, "--recipe", recipe, "--epochs", 2, "--json")
    code, out, err = run(capfd, monkeypatch, *flags, "--output", tmp_path / "a.safetensors")
    assert code == 0, err
    assert [point["epoch"] for point in json.loads(out)["curve"]] == [1, 2]  # what a flag says goes before it
    recipe.write_text("epochs = 4\nlr = 1\n", encoding="utf-8")
    code, _, err = run(capfd, monkeypatch, *flags, "--output", tmp_path / "b.safetensors")
    assert (code, "unknown keys: 'lr'" in error_line(err)) == (2, True)


def test_broken_images_are_left_out_and_counted(data: Path, tmp_path: Path) -> None:
    folder = image_folders(tmp_path / "d", {"train": 3})
    next((folder / "train").rglob("*.png")).write_bytes(b"\x89PNG\r\n\x1a\n")
    watching = Watching()
    train(folder / "train", tmp_path / "a.safetensors", SETTINGS, options=TrainOptions("b0"), work=Work(watching))
    note, *_ = watching.notes
    assert "is broken and left out of training" in note
