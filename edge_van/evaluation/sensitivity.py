"""What quantising each layer costs: with only it on its grid, and with all but it.

In: a bundle and labelled images. Out: a ``Sensitivity``, also as a file that a report reads and that an interrupted
measurement goes on from. The graph is computed in float as it is written, by OpenVINO.
"""

from __future__ import annotations

import hashlib
import tempfile
import time
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from edge_van.bundle.bundle import Bundle, as_bundle, require_unreplaced
from edge_van.bundle.layout import FP32_ONNX, SENSITIVITY_NAME
from edge_van.bundle.models import BundleModel, models_of
from edge_van.bundle.whole import require_fitting
from edge_van.errors import BundleError, DataError, UsageError
from edge_van.evaluation.sensitivity_record import (
    SENSITIVITY_KIND,
    SENSITIVITY_SCHEMA_VERSION,
    ActivationRange,
    Cost,
    Measurement,
    PlaceSensitivity,
    Sensitivity,
    encode_sensitivity,
    read_sensitivity,
)
from edge_van.head import Head
from edge_van.images.labelled import Wanted, open_labelled
from edge_van.images.sets import splits
from edge_van.images.stream import StreamStats, stream
from edge_van.machine import describe_machine, versions
from edge_van.progress import UNWATCHED, Work
from edge_van.quantization.switched import Place
from edge_van.quantization.switched_session import SwitchedGraph
from edge_van.runtimes.onnx_file import read_onnx
from edge_van.statistics import evenly_spread, sqnr_db, sqnr_db_per_image
from edge_van.storage.files import LONGEST_NAME_BYTES, replace_file, require_output, sha256_of
from edge_van.storage.folders import add_goes_on, raised_on_termination
from edge_van.tasks import tally_of
from edge_van.text import one_line
from edge_van.version import __version__

IMAGES = 256
SAVE_EVERY_S = 10.0
_PARTIAL = ".{}.partial"


@dataclass(frozen=True)
class SensitivityOptions:
    """What of a measurement is seldom asked for.

    scheme     a graph of the bundle by its scheme's name; None: OpenVINO's, or the first there is
    images     that are used, evenly spread over all; two runs of 109 layers and more over each
    labels     a file of what is true of the images, as ``ValidateOptions`` takes it
    threshold  stands for that of the bundle's sigmoid
    """

    scheme: str | None = None
    images: int = IMAGES
    labels: str | Path | None = None
    threshold: float | None = None

    def __post_init__(self) -> None:
        if self.images < 2:
            raise UsageError(f"sensitivity takes at least 2 images, whose halves are compared; got {self.images}")


@dataclass(frozen=True)
class _Images:
    """``pixels`` (N, H, W, C) and what is true of them; ``names`` are the classes'."""

    pixels: NDArray[np.uint8]
    truth: NDArray[Any]
    names: tuple[str, ...]
    data: str

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.pixels.tobytes() + self.truth.tobytes()).hexdigest()


def sensitivity(
    bundle: Bundle | str | Path,
    data: str | Path,
    *,
    options: SensitivityOptions | None = None,
    output: str | Path | None = None,
    work: Work = UNWATCHED,
) -> Sensitivity:
    """Measure every place of a bundle's quantised graph on labelled images; the result goes to ``output`` as well, by
    default ``sensitivity.json`` in the bundle, where ``edge_van.report`` finds it.

    Rows of an interrupted measurement of the same graph and images are taken over; they lie beside the output until all
    are there, those of another graph or other images undisturbed. Raises ``UsageError`` for a scheme that is not there
    or an output that is no such result, ``DataError`` for images that cannot be used, ``BundleError`` for a damaged
    file, ``MissingRuntimeError`` without OpenVINO, ``VerificationError`` for logits that are not finite.
    """
    bundle, options = as_bundle(bundle), options or SensitivityOptions()
    require_fitting(bundle)
    path = Path(output) if output is not None else bundle.path / SENSITIVITY_NAME
    require_output(path, longest=LONGEST_NAME_BYTES - len(_PARTIAL.format("0" * 8)))
    before = _before(path)
    model = _graph_of(bundle, options.scheme)
    bundle.check(model.file, FP32_ONNX)
    head = bundle.manifest.head.with_threshold(options.threshold)
    images = _read(bundle, Path(data), head, options, work)
    asked = Measurement(
        scheme=str(model.scheme),
        file=model.file,
        file_sha256=sha256_of(bundle.file(model.file)),
        float_sha256=sha256_of(bundle.file(FP32_ONNX)),
        data=images.data,
        images=len(images.pixels),
        images_sha256=images.sha256,
        head=f"{head.activation} {head.threshold:g}",
        made_with=", ".join(f"{name} {versions().get(name)}" for name in ("edge-van", "openvino")),
    )
    with raised_on_termination(), ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="edge-van-sensitivity-")))
        quantized, float_network = (read_onnx(bundle.file(file)) for file in (model.file, FP32_ONNX))
        graph = stack.enter_context(SwitchedGraph(quantized, float_network, bundle.manifest.input_spec, folder))
        unfinished = _unfinished(path, asked)
        before += _before(unfinished)
        whole = _measured(_Run(graph, images, head), asked, before, unfinished, bundle, work)
        if output is None:
            _require_unreplaced(bundle, unfinished)
        replace_file(path, encode_sensitivity(whole))
        _remove(unfinished)
        return whole


def _require_unreplaced(bundle: Bundle, unfinished: Path) -> None:
    try:
        require_unreplaced(bundle)
    except BundleError:
        _remove(unfinished)  # in another bundle, where nobody would look for these rows
        raise


def _remove(path: Path) -> None:
    with suppress(OSError):
        path.unlink()


def _unfinished(path: Path, asked: Measurement) -> Path:
    """Where rows are kept until all are there: a result of other images is not lost to one that may never end."""
    key = hashlib.sha256(msgspec.json.encode(asked)).hexdigest()[:8]
    return path.with_name(path.stem + _PARTIAL.format(key) + path.suffix)


def _before(path: Path) -> list[Sensitivity]:
    """What is there of an earlier measurement, whole or not."""
    try:
        return [read_sensitivity(path)] if path.exists() else []
    except UsageError as error:
        raise UsageError(f"{error}; it is in the way of the result: remove it, or give --output") from error


def _graph_of(bundle: Bundle, scheme: str | None) -> BundleModel:
    graphs: dict[str | None, BundleModel] = {}
    for model in models_of(bundle.manifest):
        if model.runtime == "onnxruntime" and model.precision == "int8":
            graphs.setdefault(model.scheme, model)  # OpenVINO's comes first, and may be of one name with TensorRT's
    if not graphs or (scheme is not None and scheme not in graphs):
        there = ", ".join(map(str, graphs)) or "none"
        raise UsageError(f"{bundle.path} has no quantised graph {scheme or ''!r}; it has {there}")
    return graphs[scheme] if scheme is not None else next(iter(graphs.values()))


def _read(bundle: Bundle, data: Path, head: Head, options: SensitivityOptions, work: Work) -> _Images:
    """All images decoded, as a few hundred fit into memory."""
    manifest = bundle.manifest
    spec = replace(manifest.input_spec, source_size=None)
    held_out, _ = splits(data)
    wanted = Wanted(head, manifest.num_classes, spec.classes, options.labels)
    with open_labelled(held_out, wanted) as images:
        work.warn(images.warnings)
        stats, indices = StreamStats(), evenly_spread(len(images), options.images)
        with work.reporter.stage("Reading images", len(indices)) as advance:
            batches = []
            for batch in stream(images, spec, batch_size=32, indices=indices, strict=work.strict, stats=stats):
                batches.append(batch)
                advance(len(batch.images))
        work.warn(f"{image.name} is broken and left out: {image.reason}" for image in stats.broken)
        if sum(len(batch.images) for batch in batches) < 2:
            raise DataError(f"{images.source}: sensitivity needs at least two images that can be read")
        pixels = np.concatenate([batch.images for batch in batches])
        which = np.concatenate([batch.indices for batch in batches])
        labels = np.concatenate([batch.labels for batch in batches])
        truth = labels if images.targets is None else images.targets[which]
        return _Images(pixels, truth, tuple(images.classes or ()), one_line(images.source.name))


@dataclass
class _Run:
    """A graph and its images; ``cost`` of any setting of the switches."""

    graph: SwitchedGraph
    images: _Images
    head: Head

    def __post_init__(self) -> None:
        self.fp32 = self.graph.float_logits(self.images.pixels)
        self.off = self.graph.logits(self.images.pixels, self.graph.none())

    def cost(self, switches: NDArray[np.bool_], reference: NDArray[Any]) -> tuple[Cost, str]:
        """Noise against ``reference``, the drop from FP32; and the metric that this is of."""
        logits = self.graph.logits(self.images.pixels, switches)
        tally = tally_of(self.head, logits.shape[1])
        tally.add(self.fp32, logits, self.images.truth)
        metric = tally.figures(self.images.names).metric
        each = sqnr_db_per_image(reference, logits)
        means = [float(part.mean()) for part in (each, each[0::2], each[1::2])]
        noise = sqnr_db(reference, logits), means[0], (means[1], means[2])
        return Cost(*noise, metric.drop_points, metric.drop_interval), metric.name

    def place(self, index: int, ranges: tuple[ActivationRange, ...]) -> PlaceSensitivity:
        only, without = self.graph.none(), ~self.graph.none()
        only[index], without[index] = True, False
        place = self.graph.places[index]
        costs = self.cost(only, self.off)[0], self.cost(without, self.fp32)[0]
        return PlaceSensitivity(place.name, place.part, *costs, ranges, place.kept)


def _measured(
    run: _Run, asked: Measurement, before: list[Sensitivity], unfinished: Path, bundle: Bundle, work: Work
) -> Sensitivity:
    """The whole result; rows are kept in ``unfinished`` while it is made, and where it is interrupted."""
    places = run.graph.places
    total, metric = run.cost(~run.graph.none(), run.fp32)
    asked = replace(asked, metric=metric)
    known = {row.name: row for result in before if result.measurement == asked for row in result.places}
    rows = {
        place.name: known[place.name] for place in places if place.name in known and _is_of(known[place.name], place)
    }
    ranges = dict(zip((p.name for p in places), run.graph.ranges(run.images.pixels), strict=True))
    if any(place.kept for place in places):
        work.warn(("the bundle does not hold the float weights of its quantised layers: they stay on their grid",))

    def result() -> Sensitivity:
        return Sensitivity(
            SENSITIVITY_SCHEMA_VERSION,
            SENSITIVITY_KIND,
            __version__,
            datetime.now(timezone.utc).isoformat(timespec="seconds"),
            bundle.manifest.checkpoint_sha256,
            asked,
            describe_machine(),
            total,
            len(places),
            tuple(rows[place.name] for place in places if place.name in rows),
        )

    with work.reporter.stage("Measuring each layer", len(places)) as advance:
        advance(len(rows))
        saved = time.monotonic()
        try:
            for index, place in enumerate(places):
                if place.name in rows:
                    continue
                seen = enumerate(ranges[place.name])
                rows[place.name] = run.place(index, tuple(_range(place, i, r) for i, r in seen))
                advance(1)
                if time.monotonic() - saved > SAVE_EVERY_S:
                    replace_file(unfinished, encode_sensitivity(result()))
                    saved = time.monotonic()
        except (KeyboardInterrupt, SystemExit) as stop:
            if rows:
                replace_file(unfinished, encode_sensitivity(result()))
                add_goes_on(stop)
            raise
    return result()


def _is_of(row: PlaceSensitivity, place: Place) -> bool:
    grids = tuple((r.grid_low, r.grid_high) for r in row.activations)
    return (row.part, row.weights_kept, grids) == (place.part, place.kept, place.grids)


def _range(place: Place, index: int, seen: tuple[float, float, float]) -> ActivationRange:
    low, high = place.grids[index]
    return ActivationRange(low, high, seen[0], seen[1], 100.0 * seen[2])
