"""What a model is called on the page: by its runtime and precision, and by its bundle where a run has several.

In: a run and its models. Out: their names, whole for tables and short for plots.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from edge_van.bundle.engine_record import ENGINE_RUNTIMES
from edge_van.reports.figures.planes import RUNTIME_NAMES
from edge_van.reports.format import distinct
from edge_van.reports.lookup import target_of
from edge_van.text import precision_words
from edge_van.timing.record import BenchmarkModel, BenchmarkResult

MOST_OF_A_BUNDLE = 18
"""Characters of a bundle's name before its models' in a plot."""


@dataclass(frozen=True)
class Label:
    """``whole`` for tables and text; ``plot`` has a short name for the bundle, which no other bundle of the run has."""

    whole: str
    plot: str


def runtime_name(runtime: str) -> str:
    return RUNTIME_NAMES.get(runtime, runtime)


def labels_of(models: Iterable[BenchmarkModel], run: BenchmarkResult) -> dict[str, Label]:
    """By the model's name: ``OpenVINO INT8``, behind the bundle's name where the run has several, and with the target
    where a bundle has one engine for each of several."""
    bundles = [bundle.name for bundle in run.bundles]
    shortened = dict(zip(bundles, distinct(bundles, MOST_OF_A_BUNDLE), strict=True))
    labels = {}
    listed = list(models)
    count = Counter((m.bundle, m.runtime, m.precision) for m in listed)
    for model in listed:
        own = f"{runtime_name(model.runtime)} {precision_words(model.precision)}"
        if count[model.bundle, model.runtime, model.precision] > 1 and model.runtime in ENGINE_RUNTIMES:
            own += f", {target_of(model)}"  # built for more than one target
        several = len(bundles) > 1
        labels[model.name] = Label(
            f"{model.bundle}: {own}" if several else own, f"{shortened[model.bundle]}: {own}" if several else own
        )
    return labels
