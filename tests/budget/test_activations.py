"""``budget.activations``: where hard-swish gains time, the place first that makes least noise for it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from watching import Watching

from edge_van.budget import activations
from edge_van.budget.activations import activation_bargains
from edge_van.bundle.recipe import ACTIVATION_PLACES
from edge_van.export.job import ExportJob, probe_of
from edge_van.input_spec import InputSpec
from edge_van.model.fold import FoldedVAN, fold
from edge_van.model.van import VAN
from edge_van.progress import Work
from edge_van.quantization.activations import with_activation, writers
from edge_van.quantization.calibration import CalibrationImages
from edge_van.statistics import sqnr_db

SPEC = InputSpec(size=(32, 32))


@pytest.fixture(scope="module")
def job(narrow_van: VAN) -> ExportJob:
    folded = fold(narrow_van, SPEC.size)[0]
    pixels = np.random.default_rng(0).integers(0, 256, (10, *SPEC.size, 3), np.uint8)
    images = CalibrationImages(pixels, SPEC, 4)
    return ExportJob(Path, SPEC, folded, images, probe_of((pixels,), SPEC, folded), Work(Watching()))


def times(model: FoldedVAN, ms: dict[str, float]) -> dict[str, float]:
    """Milliseconds of each layer, by place."""
    return {name: ms.get(place, 1.0) for place in ACTIVATION_PLACES for name in writers(model, place)}


def noise_db(job: ExportJob, place: str) -> float:
    images = torch.cat(list(job.images))
    with torch.no_grad():
        return sqnr_db(job.folded(images).numpy(), with_activation(job.folded, "hardswish", (place,))(images).numpy())


def test_only_places_that_gain_are_named(job: ExportJob) -> None:
    faster = dict.fromkeys(ACTIVATION_PLACES, 1.0) | {"block2.mlp": 0.5, "block3.attn": 0.5, "block4.mlp": 1.5}
    found = activation_bargains(job, times(job.folded, {}), times(job.folded, faster))
    assert set(found) == {"block2.mlp", "block3.attn"}
    assert activation_bargains(job, times(job.folded, faster), times(job.folded, faster)) == ()


def test_of_the_same_gain_the_quieter_comes_first(job: ExportJob) -> None:
    pair = ("block1.mlp", "block4.attn")
    assert all(len(writers(job.folded, place)) == 1 for place in pair)
    quieter = sorted(pair, key=lambda place: -noise_db(job, place))
    assert abs(noise_db(job, pair[0]) - noise_db(job, pair[1])) > 1.0
    found = activation_bargains(job, times(job.folded, {}), times(job.folded, dict.fromkeys(pair, 0.5)))
    assert list(found) == quieter


def test_a_large_gain_outweighs_noise(job: ExportJob) -> None:
    pair = ("block1.mlp", "block4.attn")
    louder = min(pair, key=lambda place: noise_db(job, place))
    quieter = next(place for place in pair if place != louder)
    before = times(job.folded, {louder: 1e6})
    found = activation_bargains(job, before, times(job.folded, {louder: 1.0, quieter: 0.5}))
    assert found == (louder,)  # beside a gain of a million a half is nothing
    before = times(job.folded, {louder: 100.0})
    found = activation_bargains(job, before, times(job.folded, {louder: 1.0, quieter: 0.0}))
    assert found == (louder, quieter)


def test_less_than_can_be_told_from_noise_is_no_gain(job: ExportJob, monkeypatch: pytest.MonkeyPatch) -> None:
    before = times(job.folded, {})
    slight = times(job.folded, {"block2.mlp": 1.0 - 0.5 * activations.LEAST_GAIN})
    assert activation_bargains(job, before, slight) == ()
    monkeypatch.setattr(activations, "LEAST_GAIN", 0.0)
    assert activation_bargains(job, before, slight) == ("block2.mlp",)
