"""A ladder climbed with the real engines, in a process of its own that is killed after each rung."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import onnx
import pytest
from cli_samples import image_folders, narrow_checkpoint, start

from edge_van.bundle.bundle import Bundle, open_bundle, verify
from edge_van.bundle.recipe import ACTIVATION_PLACES
from edge_van.checkpoint.training_state import RUNGS

RECIPE = """
samples = 8
ranges = "minmax"
[reconstruction]
images = 12
steps = 3
batch = 4
[qat]
images = 12
steps = 3
batch = 4
"""
BRIEFLY = """
from edge_van.budget import float_layers, ladder, trial
from edge_van.evaluation import evidence
from edge_van.timing.latency import MIN_ROUNDS, RunLength
trial.LENGTH = RunLength(MIN_ROUNDS, 0.0, bound_seconds=60.0)
evidence.LATENCY_ROUNDS, evidence.LATENCY_S = MIN_ROUNDS, 0.0
float_layers.TIMED_RUNS = 5
"""
NOTHING_DOES = """
ladder.Ladder._is_inside = lambda self, rung: False  # so that all of it is climbed
"""
KILLED = """
import os, signal
from edge_van.budget import memory
keep = memory.Memory.keep_rung
def keep_and_die(self, key, rung):
    keep(self, key, rung)
    os.kill(os.getpid(), signal.SIGKILL)
memory.Memory.keep_rung = keep_and_die
"""


@pytest.fixture(scope="module")
def flags(tmp_path_factory: pytest.TempPathFactory) -> tuple[object, ...]:
    root = tmp_path_factory.mktemp("climbed")
    narrow_checkpoint(root / "n.safetensors")
    image_folders(root / "data", {"train": 8, "val": 8})
    (root / "recipe.toml").write_text(RECIPE)
    images = ("--data", root / "data", "--recipe", root / "recipe.toml")
    return ("quantize", "--checkpoint", root / "n.safetensors", *images, "--target", "openvino", "--max-drop", 0)


def measured(stderr: str) -> list[str]:
    """The rungs whose accuracy was measured, from the stages that were announced."""
    stages = [line.removeprefix("Measuring ").removesuffix(" ...") for line in stderr.splitlines()]
    return [s for s in stages if s in ("as asked", "ranges", "reconstruction", "QAT") or s.endswith("layers in float")]


@pytest.mark.slow
def test_killed_on_each_rung_it_repeats_none(flags: tuple[object, ...], tmp_path: Path) -> None:
    """A narrow VAN may be no faster in INT8 than in FP32, which ends its layers in float at the first of them."""
    kept = tmp_path / ".b.training" / RUNGS
    tried: list[str] = []
    for _ in range(20):
        process = start(*flags, "--output", tmp_path / "b", before=BRIEFLY + NOTHING_DOES + KILLED)
        _, err = process.communicate(timeout=300)
        tried += measured(err)
        if process.returncode != -signal.SIGKILL:
            break
        assert not (tmp_path / "b").exists()
        assert len(json.loads(kept.read_bytes())["rungs"]) == len(tried)
    assert process.returncode == 3, err
    assert len(set(tried)) == len(tried)
    layers = [name for name in tried if name.endswith("layers in float")]
    assert [name for name in tried if name not in layers] == ["as asked", "ranges", "reconstruction", "QAT"]
    assert "2 layers in float" in layers
    assert "QAT, 2 layers in float" in layers
    bundle = open_bundle(tmp_path / "b")
    assert verify(bundle) == []
    agrees(bundle, tried)
    wider = start(*flags[:-1], 100, "--output", tmp_path / "b", "--force", before=BRIEFLY)
    _, err = wider.communicate(timeout=300)
    assert wider.returncode == 0, err
    assert measured(err) == []
    assert not kept.exists()
    agrees(open_bundle(tmp_path / "b"), ["as asked"])


def test_an_activation_is_chosen_and_recorded(flags: tuple[object, ...], tmp_path: Path) -> None:
    """How much a narrow VAN gains by hard-swish is noise: whatever is taken, all files and records say the same."""
    before = BRIEFLY + "from edge_van.budget import activations\nactivations.LEAST_GAIN = 0.0\n"
    wide = (*flags[:-1], 100, "--activation", "auto", "--output", tmp_path / "b")
    process = start(*wide, before=before)
    _, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    bundle = open_bundle(tmp_path / "b")
    record, recipe = bundle.manifest.budget, bundle.manifest.recipe
    assert record is not None
    [taken] = record.rungs
    assert (recipe.activation, recipe.activation_places) == (taken.activation, taken.activation_places)
    assert recipe.activation in ("gelu", "hardswish")
    kinds = [node.op_type for node in onnx.load(bundle.file("onnx/model_openvino.onnx")).graph.node]
    places = len(recipe.activation_places)
    assert (kinds.count("HardSwish") > 0) == (places > 0)
    assert (kinds.count("Gelu") > 0) == (places < len(ACTIVATION_PLACES))
    assert "hard-swish in" in taken.name if places else taken.name == "as asked"
    float_kinds = {node.op_type for node in onnx.load(bundle.file("onnx/model.onnx")).graph.node}
    assert "Gelu" in float_kinds
    assert "HardSwish" not in float_kinds


def test_an_activation_is_not_chosen_for_devices_alone(flags: tuple[object, ...], tmp_path: Path) -> None:
    process = start(*flags[:-4], "--activation", "auto", "--target", "tensorrt", "--output", tmp_path / "b")
    _, err = process.communicate(timeout=300)
    assert process.returncode == 2
    assert "the activation is chosen by the latency of OpenVINO's model" in err
    assert list(tmp_path.iterdir()) == []


def agrees(bundle: Bundle, tried: list[str]) -> None:
    """The bundle is the rung that was taken, and its own accuracy is that rung's."""
    record, accuracy = bundle.manifest.budget, bundle.manifest.accuracy
    assert record is not None
    assert accuracy is not None
    assert [rung.name for rung in record.rungs] == tried
    taken = record.rungs[record.chosen]
    recipe = bundle.manifest.recipe
    assert (recipe.method, recipe.ranges, recipe.samples) == (taken.method, taken.ranges, taken.samples)
    assert recipe.float_layers == taken.float_layers
    assert accuracy.drop_points == taken.drop_points
    assert accuracy.logit_sqnr_db == pytest.approx(taken.logit_sqnr_db, abs=0.05)
    assert record.by_interval == (record.budget.max_drop_points > 50)  # 24 images show nothing finer
