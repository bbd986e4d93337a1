"""``budget.faster_in_float``: the kinds that are shown to be faster, alone and together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
import pytest
from watching import Watching

from edge_van.budget import faster_in_float as module
from edge_van.budget.faster_in_float import KINDS, WHOLE, faster_in_float
from edge_van.budget.trial import Trials, folder_of
from edge_van.bundle.recipe import Recipe
from edge_van.bundle.records import Interval, LatencyRow
from edge_van.errors import VerificationError
from edge_van.export.job import ExportJob, probe_of
from edge_van.input_spec import InputSpec
from edge_van.model.fold import fold
from edge_van.model.layer_names import Part, part_of
from edge_van.model.van import VAN
from edge_van.progress import Work
from edge_van.quantization.calibration import CalibrationImages
from edge_van.quantization.recipe import load_recipe
from edge_van.quantization.run import prepare

SPEC = InputSpec(size=(48, 48))
RECIPE = load_recipe()


@pytest.fixture
def trials(narrow_van: VAN, tmp_path: Path) -> Iterator[Trials]:
    folded = fold(narrow_van, SPEC.size)[0]
    pixels = np.random.default_rng(0).integers(0, 256, (32, *SPEC.size, 3), np.uint8)
    images, work = CalibrationImages(pixels, SPEC, 4), Work(Watching())
    job = ExportJob(folder_of(tmp_path), SPEC, folded, images, probe_of((pixels,), SPEC, folded), work)
    prepared = prepare(folded, images, RECIPE, work)
    with ExitStack() as stack:
        yield Trials(job, None, lambda recipe: prepared, stack)  # type: ignore[arg-type]  # no accuracy is measured


def quantizers(path: Path) -> int:
    return Counter(op.get_type_name() for op in ov.Core().read_model(path).get_ops())["FakeQuantize"]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """Times as fast as what comes first, by name; what is not there is half as fast. What is timed is remembered."""
    ratios: dict[str, float] = {}

    def timed(trials: Trials, made: Mapping[str, Path], title: str) -> dict[str, LatencyRow]:
        seen.append({name: quantizers(path) for name, path in made.items()})
        first = next(iter(made))
        return {name: row(name, 1.0 if name == first else ratios.get(name, 0.5)) for name in made}

    monkeypatch.setattr(module, "_timed", timed)
    return ratios


seen: list[dict[str, int]] = []
"""How many quantisers each of the files has that were timed together."""


@pytest.fixture(autouse=True)
def nothing_seen() -> None:
    seen.clear()


def row(name: str, ratio: float) -> LatencyRow:
    return LatencyRow(name, "openvino", 1.0, 1.0, 1.0, ratio, Interval(ratio - 0.01, ratio + 0.01), (1.0,))


def of(layers: tuple[str, ...]) -> set[Any]:
    return {part_of(layer) for layer in layers}


def test_where_nothing_is_faster_all_stay(trials: Trials, clock: dict[str, float]) -> None:
    clock |= {str(Part.LKA_LOCAL): 1.005, str(Part.HEAD): 1.0}  # intervals that reach down to 1 and under it
    assert faster_in_float(trials, RECIPE) == ()
    [counts] = seen
    assert list(counts) == [WHOLE, *map(str, KINDS)]
    assert all(counts[str(kind)] < counts[WHOLE] for kind in KINDS)


def test_one_kind_stands_alone(trials: Trials, clock: dict[str, float]) -> None:
    clock[str(Part.LKA_LOCAL)] = 1.02
    layers = faster_in_float(trials, RECIPE)
    assert of(layers) == {Part.LKA_LOCAL}
    assert len(layers) == sum(trials.job.folded.variant.depths)
    assert len(seen) == 1
    replace(RECIPE, float_layers=layers)  # names that a recipe takes


@pytest.mark.parametrize(("together", "kinds"), [(1.05, {Part.LKA_LOCAL, Part.HEAD}), (1.005, {Part.HEAD})])
def test_several_are_taken_if_they_are_faster_than_the_best_of_them(
    trials: Trials, clock: dict[str, float], together: float, kinds: set[Part]
) -> None:
    clock |= {str(Part.LKA_LOCAL): 1.02, str(Part.HEAD): 1.03, "several": together}
    assert of(faster_in_float(trials, RECIPE)) == kinds
    first, second = seen
    assert list(second) == [str(Part.HEAD), "several"]
    both = first[str(Part.LKA_LOCAL)] + first[str(Part.HEAD)] - first[WHOLE]
    assert second["several"] == both


def test_a_scheme_that_leaves_a_kind_in_float_is_not_asked_for_it(trials: Trials, clock: dict[str, float]) -> None:
    assert faster_in_float(trials, replace(RECIPE, openvino_scheme="int8_pointwise")) == ()
    assert seen == []


def test_what_cannot_be_made_is_said_and_left_out(
    trials: Trials, clock: dict[str, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    make = trials.make

    def fails_without_the_head(recipe: Recipe) -> None:
        if recipe.float_layers == ("head",):
            raise VerificationError("too noisy")
        make(recipe)

    monkeypatch.setattr(trials, "make", fails_without_the_head)
    clock[str(Part.LKA_LOCAL)] = 1.02
    assert of(faster_in_float(trials, RECIPE)) == {Part.LKA_LOCAL}
    assert str(Part.HEAD) not in seen[0]
    reporter = trials.job.work.reporter
    assert isinstance(reporter, Watching)
    assert reporter.notes == ["warning: with head in float the model cannot be made: too noisy"]
