"""What labelled images show of a bundle: predictions that flipped from FP32 to INT8, and where both networks look.

In: a ``Bundle`` with OpenVINO models and labelled images. Out: an ``Explanation`` with small JPEGs in it.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from edge_van.bundle.bundle import Bundle
from edge_van.errors import BundleError, DataError, MissingRuntimeError, VerificationError
from edge_van.head import Head
from edge_van.images.decode import as_rgb, decode
from edge_van.images.labelled import Wanted, open_labelled
from edge_van.images.sets import ImageSet, splits
from edge_van.images.stream import StreamStats, stream
from edge_van.machine import describe_machine
from edge_van.progress import Reporter
from edge_van.reports.cams import cams_of
from edge_van.reports.pictures import at_least, jpeg
from edge_van.reports.record import CAMs, Explanation, Flip, TopClass
from edge_van.runtimes.image_model import open_bundle_model
from edge_van.statistics import evenly_spread
from edge_van.tasks.probabilities import check_finite, sigmoid, softmax
from edge_van.text import one_line, without_folders

Array = NDArray[Any]
MOST_FLIPS = 12
_KINDS: tuple[Literal["lost", "gained", "both_wrong"], ...] = ("lost", "gained", "both_wrong")


class NoModelsError(BundleError):
    """A bundle without the two OpenVINO models that images are run through."""


@dataclass(frozen=True)
class _Candidate:
    """A flip before its image is drawn: position in the set, true answer, (answer, probability) of both models.

    Answers are numbers of ``_answers``; the probability is None where the head gives none.
    """

    index: int
    label: int
    fp32: tuple[int, float | None]
    int8: tuple[int, float | None]

    @property
    def sure(self) -> float:
        """Both probabilities together."""
        return (self.fp32[1] or 0.0) + (self.int8[1] or 0.0)

    @property
    def kind(self) -> Literal["lost", "gained", "both_wrong"]:
        if self.fp32[0] == self.label:
            return "lost"
        return "gained" if self.int8[0] == self.label else "both_wrong"


def explain(
    bundle: Bundle,
    data: Path,
    reporter: Reporter,
    *,
    labels: str | Path | None = None,
    image_limit: int,
    cam_limit: int,
) -> Explanation:
    """Run OpenVINO's FP32 and INT8 over up to ``image_limit`` images, evenly over all of ``data``.

    ``labels`` is a file of what is true of them, as ``open_labelled`` takes it. Kept are the flips with the highest
    probability of both predictions together, ``MOST_FLIPS`` at most, images that INT8 lost first. Of several labels an
    image the one is shown whose probability changed most among those that came or went.

    Raises ``BundleError`` for damaged models, ``NoModelsError`` for a bundle without them, ``DataError`` for images
    that do not fit, ``MissingRuntimeError`` without OpenVINO, ``VerificationError`` for logits that are not finite.
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
            open_labelled(splits(data)[0], Wanted(manifest.head, manifest.num_classes, spec.classes, labels))
        )
        for warning in images.warnings:
            reporter.note(warning)
        fp32, int8 = (stack.enter_context(open_bundle_model(bundle, model)) for model in models)
        indices = evenly_spread(len(images), image_limit)
        candidates: list[_Candidate] = []
        seen = 0
        with reporter.stage("Looking for predictions that flipped", len(indices)) as advance:
            for part in stream(images, spec, batch_size=fp32.batch, indices=indices, stats=stats):
                by_fp32, by_int8 = (model.logits(part.images) for model in (fp32, int8))
                truth = part.labels if images.targets is None else images.targets[part.indices]
                candidates += _flipped(manifest.head, by_fp32, by_int8, part.indices, truth)
                seen += len(part.labels)
                advance(len(part.labels))
        if not seen:
            raise DataError(f"{images.source}: none of the {len(indices)} images could be read")
        names = tuple(map(one_line, images.classes or ()))  # a folder's name need not be UTF-8
        kinds = [flip.kind for flip in candidates]
        candidates.sort(key=lambda c: (_KINDS.index(c.kind), -c.sure, c.index))
        answers = names if images.targets is None else tuple(a for name in names for a in (f"no {name}", name))
        flips = tuple(_drawn(flip, images, bundle, answers) for flip in candidates[:MOST_FLIPS])
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


def _flipped(head: Head, fp32: Array, int8: Array, indices: NDArray[np.int64], truth: NDArray[Any]) -> list[_Candidate]:
    """The images of one batch of which the models, from their logits (N, outputs), do not say the same."""
    for logits in (fp32, int8):
        check_finite(logits)
    first, second = head.choices(fp32), head.choices(int8)
    rows = np.flatnonzero((first != second).any(1)).tolist()
    found = []
    for i in rows:
        # the label that changed most, of those that came or went; the only output there is; or the two classes
        changed = np.abs(sigmoid(fp32[i]) - sigmoid(int8[i])) * (first[i] != second[i]) if truth.ndim == 2 else [0]
        c = int(np.argmax(changed))
        label = 2 * c + int(truth[i, c]) if truth.ndim == 2 else int(truth[i])
        sides = [(2 * c + int(said[i, c]), float(logits[i, c])) for said, logits in ((first, fp32), (second, int8))]
        by: list[tuple[int, float | None]]
        if head.activation == "sigmoid":
            by = [(answer, float(sigmoid(np.array(x if answer % 2 else -x)))) for answer, x in sides]
        else:
            by = [_of_class(head, logits[i], int(said[i, 0])) for said, logits in ((first, fp32), (second, int8))]
        found.append(_Candidate(int(indices[i]), label, by[0], by[1]))
    return found


def _of_class(head: Head, logits: Array, chosen: int) -> tuple[int, float | None]:
    return chosen, float(softmax(logits)[chosen]) if head.activation == "softmax" else None


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
