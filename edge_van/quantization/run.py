"""Equalise, calibrate, train where the recipe says so, convert: from a folded network to the quantised graphs.

In: a ``FoldedVAN``, calibration images, a ``Recipe``. Out: ``Prepared``, and of it one ``QuantizedVAN`` a scheme.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from torch.fx import GraphModule

from edge_van.bundle.recipe import QATSettings, Recipe
from edge_van.checkpoint.training_state import SUFFIX
from edge_van.errors import UsageError
from edge_van.model.fold import FoldedVAN
from edge_van.progress import Work
from edge_van.quantization.activations import with_activation
from edge_van.quantization.calibration import CalibrationImages
from edge_van.quantization.equalize import equalize
from edge_van.quantization.histograms import Histograms
from edge_van.quantization.ptq import Calibrated, QuantizedVAN, calibrate, capture, convert
from edge_van.quantization.qat import Resume, quantization_aware
from edge_van.quantization.quantizer import VANQuantizer
from edge_van.quantization.scheme import (
    LAYERS,
    Scheme,
    for_openvino,
    get_scheme,
    is_norm,
    place_of,
    roles,
)


def openvino_scheme_of(recipe: Recipe) -> Scheme:
    """That of the recipe's OpenVINO model."""
    left = frozenset(recipe.float_layers)
    return replace(for_openvino(recipe.openvino_scheme), left=left, ranges=recipe.ranges)


def device_scheme_of(recipe: Recipe, name: str) -> Scheme:
    """The scheme called ``name`` with the recipe's ranges."""
    return replace(get_scheme(name), ranges=recipe.ranges)


@dataclass(frozen=True)
class QATJob:
    """What training takes. ``states`` is the folder where each scheme's state is kept, ``key`` all it depends on;
    ``method`` names the recipe's table, ``start`` what the states of one command differ by: their ranges."""

    images: CalibrationImages
    settings: QATSettings
    seed: int = 0
    states: Path | None = None
    key: str = ""
    method: str = "qat"
    start: str = ""

    def resume(self, scheme: Scheme) -> Resume | None:
        if self.states is None:
            return None
        # not the scheme's repr: a set of strings has another order in each process
        roles = " ".join(sorted(scheme.roles))
        grid = f"{scheme.name} {scheme.grids} {roles}" + "".join(f" -{place}" for place in sorted(scheme.left))
        # OpenVINO's model and a TensorRT graph may be of one scheme by name
        name = "-".join(filter(None, (self.method, self.start, scheme.name, "pairs" if scheme.pairs else "")))
        return Resume(self.states / f"{name}{SUFFIX}", f"{self.key} {grid}")


@dataclass(frozen=True)
class Prepared:
    """What every scheme starts from. ``folded`` is the float network that all are compared with.

    ``float_network`` is the same function as a bundle's FP32 files have it: with the very weights that are quantised,
    so that what quantising one layer costs can be told from the files. A recipe's other activation has other weights.
    """

    folded: FoldedVAN
    float_network: FoldedVAN
    equalized: FoldedVAN  # the same function but for a recipe's activation, with ranges that quantise better
    captured: GraphModule  # of ``equalized``
    images: CalibrationImages
    histograms: Histograms  # of what ``captured`` computes of ``images``
    qat: QATJob | None = None  # None: ranges are calibrated, nothing is trained


def prepare(folded: FoldedVAN, images: CalibrationImages, recipe: Recipe, work: Work) -> Prepared:
    """Put in the recipe's activation, equalise the channels, capture the graph."""
    with work.reporter.stage("Equalising channels"):
        source = with_activation(folded, recipe.activation, recipe.activation_places)
        equalized = equalize(source, images, strength=recipe.equalize_strength)
        float_network, captured = equalized if source is folded else folded, capture(equalized)
        return Prepared(folded, float_network, equalized, captured, images, Histograms(captured, images))


class Graphs:
    """The quantised graphs of one prepared network: ranges are observed and trainings run once for all that they serve.

    With ``prepared.qat`` each scheme is trained by itself, with all that it can quantise on its grid: weights learn the
    noise of just the layers that are quantised. What a scheme leaves in float is taken off the grid after that.
    """

    def __init__(self, prepared: Prepared, work: Work) -> None:
        self._prepared, self._work = prepared, work
        self._calibrated: Calibrated | None = None
        self._trained: dict[Scheme, Calibrated] = {}

    def of(self, scheme: Scheme) -> QuantizedVAN:
        """Raises as ``calibrate``, ``quantization_aware`` and ``convert``."""
        self._check_left(scheme)
        base = _base(scheme)
        ready = self._ranges(base) if self._prepared.qat is None else self._training(base)
        with self._work.reporter.stage(f"Quantising {scheme.name}"):
            return convert(ready, scheme)

    def observe(self, schemes: Iterable[Scheme], *, largest: bool = False) -> None:
        """Run the calibration images once for all ``schemes``, as far as their tensors have not been seen, and for the
        ``largest`` activation."""
        schemes = tuple(schemes)
        for scheme in schemes:
            self._check_left(scheme)
        captured, histograms = self._prepared.captured, self._prepared.histograms
        bases = [VANQuantizer(_base(scheme)) for scheme in schemes]
        names = histograms.unseen({name for base in bases for name in base.tensors(captured)})
        if names or (largest and histograms.largest is None):
            with self._work.reporter.stage("Calibrating", len(self._prepared.images.pixels)) as advance:
                histograms.see(names, advance, largest=largest)

    def _check_left(self, scheme: Scheme) -> None:
        """``UsageError`` for a name that nothing has, and for a scheme that leaves all of its layers in float."""
        known = ((place_of(node, role), role) for node, role in roles(self._prepared.captured))
        places = {place: role for place, role in known if place and role in scheme.roles}
        if unknown := sorted(scheme.left - places.keys()):
            raise UsageError(
                f"float_layers names {unknown[0]!r}, which {scheme.name} does not quantise; it quantises "
                f"{', '.join(sorted(places)[:3])}, ..."
            )
        if not {place for place, role in places.items() if role in LAYERS} - scheme.left:
            raise UsageError("float_layers names every layer: nothing is left to quantise")

    def _ranges(self, scheme: Scheme) -> Calibrated:
        if self._calibrated is None or not self._calibrated.serves(scheme):
            self.observe((scheme,))
            prepared = self._prepared
            with self._work.reporter.stage(f"Setting the ranges of {scheme.name}"):
                self._calibrated = calibrate(
                    prepared.equalized,
                    prepared.images,
                    scheme,
                    captured=prepared.captured,
                    histograms=prepared.histograms,
                )
        return self._calibrated

    def _training(self, scheme: Scheme) -> Calibrated:
        job = self._prepared.qat
        if job is None or scheme in self._trained:
            return self._trained[scheme]
        ready = self._ranges(scheme).only(scheme)
        with self._work.reporter.stage(f"Training {scheme.name}", job.settings.steps * job.settings.batch) as advance:
            self._trained[scheme] = quantization_aware(
                ready,
                self._prepared.folded,
                job.images,
                job.settings,
                seed=job.seed,
                resume=job.resume(scheme),
                progress=advance,
            )
        return self._trained[scheme]


def _base(scheme: Scheme) -> Scheme:
    """What is calibrated for ``scheme``: all that it may quantise. What reads a LayerNorm has a grid of its own where
    that is left in float: from the start."""
    return replace(scheme, left=frozenset(place for place in scheme.left if is_norm(place)))


def quantized_graphs(prepared: Prepared, schemes: Sequence[Scheme], work: Work) -> Iterator[QuantizedVAN]:
    """Each scheme's graph in turn, the one with most roles first: its ranges may serve the others."""
    graphs = Graphs(prepared, work)
    graphs.observe(schemes)
    for scheme in sorted(schemes, key=lambda s: -len(s.roles)):
        yield graphs.of(scheme)
