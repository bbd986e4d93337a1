"""What labelled images show of a bundle: predictions that flipped from FP32 to INT8, and where both networks look.

In: a ``Bundle`` with OpenVINO models and labelled images. Out: an ``Explanation`` with small JPEGs in it.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from edge_van.bundle.bundle import Bundle
from edge_van.errors import BundleError, DataError, MissingRuntimeError, VerificationError
from edge_van.images.decode import as_rgb, decode
from edge_van.images.sets import ImageSet, open_images, splits
from edge_van.images.stream import StreamStats, stream
from edge_van.machine import describe_machine
from edge_van.prediction.softmax import softmax
from edge_van.progress import Reporter
from edge_van.reports.cams import cams_of
from edge_van.reports.pictures import at_least, jpeg
from edge_van.reports.record import CAMs, Explanation, Flip, TopClass
from edge_van.runtimes.image_model import open_bundle_model
from edge_van.statistics import evenly_spread
from edge_van.text import one_line, without_folders

MOST_FLIPS = 12
_KINDS: tuple[Literal["lost", "gained", "both_wrong"], ...] = ("lost", "gained", "both_wrong")


class NoModelsError(BundleError):
    """A bundle without the two OpenVINO models that images are run through."""


@dataclass(frozen=True)
class _Candidate:
    """A flip before its image is drawn: position in the set, true class, (class, probability) of both models."""

    index: int
    label: int
    fp32: tuple[int, float]
    int8: tuple[int, float]

    @property
    def kind(self) -> Literal["lost", "gained", "both_wrong"]:
        if self.fp32[0] == self.label:
            return "lost"
        return "gained" if self.int8[0] == self.label else "both_wrong"


def explain(bundle: Bundle, data: Path, reporter: Reporter, *, image_limit: int, cam_limit: int) -> Explanation:
    """Run OpenVINO's FP32 and INT8 over up to ``image_limit`` images, evenly over all of ``data``.

    Kept are the flips with the highest probability of both predictions together, ``MOST_FLIPS`` at most, images that
    INT8 lost first. Raises ``BundleError`` for damaged models, ``NoModelsError`` for a bundle without them,
    ``DataError`` for images that do not fit, ``MissingRuntimeError`` without OpenVINO, ``VerificationError`` for logits
    that are not finite.
    """
    manifest = bundle.manifest
    spec = manifest.input_spec
    if {"fp32", "int8"} - {model.precision for model in bundle.models() if model.runtime == "openvino"}:
        raise NoModelsError(
            f"{bundle.path} has no OpenVINO models to run images through: leave --data out, or make the bundle with "
            f"--target openvino"
        )
    machine = describe_machine()
    models = [bundle.model("openvino", precision) for precision in ("fp32", "int8")]
    bundle.check(*(file for model in models for file in model.files))  # all, before an engine is given one
    stats = StreamStats()
    with ExitStack() as stack:
        images = stack.enter_context(
            open_images(splits(data)[0], classes=spec.classes, num_classes=manifest.num_classes)
        )
        for warning in images.warnings:
            reporter.note(warning)
        fp32, int8 = (stack.enter_context(open_bundle_model(bundle, model)) for model in models)
        indices = evenly_spread(len(images), image_limit)
        candidates: list[_Candidate] = []
        seen = 0
        with reporter.stage("Looking for predictions that flipped", len(indices)) as advance:
            for part in stream(images, spec, batch_size=fp32.batch, indices=indices, stats=stats):
                by_fp32, by_int8 = (softmax(model.logits(part.images)) for model in (fp32, int8))
                candidates += _flipped(by_fp32, by_int8, part.indices, part.labels)
                seen += len(part.labels)
                advance(len(part.labels))
        if not seen:
            raise DataError(f"{images.source}: none of the {len(indices)} images could be read")
        names = tuple(map(one_line, spec.classes or images.classes or ()))  # a folder's name need not be UTF-8
        kinds = [flip.kind for flip in candidates]
        candidates.sort(key=lambda c: (_KINDS.index(c.kind), -c.fp32[1] - c.int8[1], c.index))
        flips = tuple(_drawn(flip, images, bundle, names) for flip in candidates[:MOST_FLIPS])
        cams, note = _cams(bundle, images, [flip.index for flip in candidates], names, reporter, cam_limit)
        return Explanation(
            data=one_line(images.source.name),
            machine=machine,
            images=seen,
            broken=len(stats.broken),
            lost=kinds.count("lost"),
            gained=kinds.count("gained"),
            both_wrong=kinds.count("both_wrong"),
            flips=flips,
            cams=cams,
            note=note,
        )


def _cams(
    bundle: Bundle, images: ImageSet, first: list[int], names: tuple[str, ...], reporter: Reporter, limit: int
) -> tuple[CAMs | None, str]:
    """The maps, or why there are none: before the last stage they need torch, and they must be finite."""
    try:
        return cams_of(bundle, images, first, names, reporter, limit=limit), ""
    except (MissingRuntimeError, BundleError, VerificationError) as error:
        reporter.note(f"no Grad-CAM: {error}")
        return None, one_line(f"not shown ({without_folders(error, (bundle.path, images.source))}).")


def _flipped(
    fp32: NDArray[np.float64], int8: NDArray[np.float64], indices: NDArray[np.int64], labels: NDArray[np.int64]
) -> list[_Candidate]:
    """The images of one batch whose predicted classes differ, from the probabilities (N, classes) of both models."""
    tops = fp32.argmax(1), int8.argmax(1)
    return [
        _Candidate(
            int(indices[i]),
            int(labels[i]),
            (int(tops[0][i]), float(fp32[i, tops[0][i]])),
            (int(tops[1][i]), float(int8[i, tops[1][i]])),
        )
        for i in np.flatnonzero(tops[0] != tops[1])
    ]


def _drawn(flip: _Candidate, images: ImageSet, bundle: Bundle, names: tuple[str, ...]) -> Flip:
    # as the network saw it, also where the graph resizes and crops
    spec = bundle.manifest.input_spec
    pixels = decode(images.read(flip.index), replace(spec, source_size=None))
    return Flip(
        one_line(images.items[flip.index].name),
        jpeg(at_least(as_rgb(pixels, spec))),
        names[flip.label],
        TopClass(names[flip.fp32[0]], flip.fp32[1]),
        TopClass(names[flip.int8[0]], flip.int8[1]),
        flip.kind,
    )
