"""Accuracy of INT8 against FP32 on the same images, streamed.

In: opened models of one network and labelled images. Out: an ``Accuracy`` record a model: top-1, top-5, the drop with
its paired interval, agreement, logit SQNR and where the predictions moved, by class. An image takes a few bytes.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_van.bundle.records import Accuracy, ClassChange, Interval
from edge_van.errors import DataError, UsageError, VerificationError
from edge_van.images.sets import ImageSet
from edge_van.images.stream import BrokenImage, StreamStats, stream
from edge_van.progress import Work
from edge_van.runtimes.image_model import ImageModel
from edge_van.statistics import evenly_spread, in_top_k, paired_drop_interval, to_db
from edge_van.text import one_line

TOP_K = 5


class _Tally:
    """Sums over batches of FP32 and INT8 logits (N, classes) with their labels (N,)."""

    def __init__(self, num_classes: int) -> None:
        self.num_classes = num_classes
        self.right: dict[str, list[NDArray[np.bool_]]] = {"fp32": [], "int8": []}
        self.top5 = {"fp32": 0, "int8": 0}
        self.agree = 0
        self.signal = 0.0
        self.noise = 0.0
        self.images = np.zeros(num_classes, np.int64)
        self.hits = {"fp32": np.zeros(num_classes, np.int64), "int8": np.zeros(num_classes, np.int64)}
        self.moved: Counter[tuple[int, int]] = Counter()  # (true class, INT8's class) where INT8 differs from FP32

    def add(self, fp32: NDArray[Any], int8: NDArray[Any], labels: NDArray[np.int64]) -> None:
        for name, logits in (("fp32", fp32), ("int8", int8)):
            if not np.isfinite(logits).all():
                raise VerificationError(
                    f"the {name.upper()} model returned logits that are not finite: run edge-van doctor BUNDLE, and "
                    f"make the bundle again"
                )
            right = logits.argmax(1) == labels
            self.right[name].append(right)
            self.hits[name] += np.bincount(labels[right], minlength=self.num_classes)
            self.top5[name] += int(in_top_k(logits, labels, TOP_K).sum())
        self.images += np.bincount(labels, minlength=self.num_classes)
        first, second = fp32.argmax(1), int8.argmax(1)
        self.agree += int((first == second).sum())
        differs = first != second
        self.moved.update(zip(labels[differs].tolist(), second[differs].tolist(), strict=True))
        self.signal += float((fp32.astype(np.float64) ** 2).sum())
        self.noise += float(((fp32.astype(np.float64) - int8) ** 2).sum())


@dataclass(frozen=True)
class Measured:
    """The accuracy of each model by its name, and the images that were left out."""

    accuracy: dict[str, Accuracy]
    broken: tuple[BrokenImage, ...]


def measure_accuracy(
    fp32: ImageModel,
    others: Mapping[str, ImageModel],
    images: ImageSet,
    work: Work,
    *,
    title: str = "Measuring accuracy",
    limit: int | None = None,
) -> Measured:
    """Run all models over the labelled ``images``, evenly spread ones up to ``limit``, each decoded once.

    Broken images are left out; with ``work.strict`` the first one is a ``DataError``. Raises ``DataError`` if no image
    could be read, ``BundleError`` if a model has another number of classes, ``VerificationError`` for logits that are
    not finite.
    """
    if images.classes is None:
        raise DataError(f"{images.source}: accuracy needs labelled images, one folder a class")
    if limit is not None and limit < 1:
        raise UsageError(f"--limit takes at least 1 image, got {limit}")
    stats = StreamStats()
    tallies = {name: _Tally(fp32.num_classes or len(images.classes)) for name in others}
    indices = evenly_spread(len(images), len(images) if limit is None else limit)
    inference_s, done = 0.0, 0
    start = time.perf_counter()
    with work.reporter.stage(title, len(indices)) as advance:
        batches = stream(
            images,
            fp32.spec,
            batch_size=fp32.batch,
            indices=indices,
            strict=work.strict,
            stats=stats,
        )
        for batch in batches:
            began = time.perf_counter()
            reference = fp32.logits(batch.images)
            logits = {
                name: reference if model is fp32 else model.logits(batch.images) for name, model in others.items()
            }
            inference_s += time.perf_counter() - began
            for name, tally in tallies.items():
                tally.add(reference, logits[name], batch.labels)
            advance(stats.images + len(stats.broken) - done)
            done = stats.images + len(stats.broken)
        if left := len(stats.broken) + stats.images - done:  # the last ones were broken
            advance(left)
    if not stats.images:
        first = f", {stats.broken[0].name} because of {stats.broken[0].reason}" if stats.broken else ""
        raise DataError(f"{images.source}: none of the {len(images)} images could be read{first}")
    took = _Took(time.perf_counter() - start, inference_s, stats)
    names = fp32.spec.classes or images.classes
    return Measured(
        {name: _record(tally, one_line(images.source.name), names, took) for name, tally in tallies.items()},
        tuple(stats.broken),
    )


@dataclass(frozen=True)
class _Took:
    wall_s: float
    inference_s: float
    stats: StreamStats


def _record(tally: _Tally, data: str, names: tuple[str, ...], took: _Took) -> Accuracy:
    n = int(tally.images.sum())
    right = {name: np.concatenate(parts) for name, parts in tally.right.items()}
    drop, low, high = paired_drop_interval(right["fp32"], right["int8"])
    with_top5 = tally.num_classes > TOP_K
    classes = tuple(
        ClassChange(
            name=names[c],
            images=int(tally.images[c]),
            recall_fp32_percent=100.0 * float(tally.hits["fp32"][c] / tally.images[c]),
            recall_int8_percent=100.0 * float(tally.hits["int8"][c] / tally.images[c]),
            moved_to={names[to]: k for (true, to), k in sorted(tally.moved.items()) if true == c},
        )
        for c in range(tally.num_classes)
        if tally.images[c]
    )
    return Accuracy(
        data=data,
        images=n,
        broken=len(took.stats.broken),
        top1_fp32_percent=100.0 * float(right["fp32"].mean()),
        top1_int8_percent=100.0 * float(right["int8"].mean()),
        top5_fp32_percent=100.0 * tally.top5["fp32"] / n if with_top5 else None,
        top5_int8_percent=100.0 * tally.top5["int8"] / n if with_top5 else None,
        top1_drop_points=drop,
        top1_drop_interval=Interval(low, high),
        agreement_percent=100.0 * tally.agree / n,
        logit_sqnr_db=to_db(tally.signal, tally.noise),
        classes=classes,
        images_per_s=n / took.wall_s,
        decode_s=took.stats.decode_s,
        inference_s=took.inference_s,
        wait_s=took.stats.wait_s,
    )
