"""Accuracy of INT8 against FP32 on the same images, streamed.

In: opened models of one network and labelled images. Out: an ``Accuracy`` record a model: the metric of the network's
task, its drop with the paired interval, agreement, logit SQNR and how each class fares.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from edge_van.bundle.records import Accuracy
from edge_van.errors import DataError, UsageError
from edge_van.evaluation.remembered import Remembered
from edge_van.head import Head
from edge_van.images.sets import ImageSet
from edge_van.images.stream import BrokenImage, StreamStats, stream
from edge_van.progress import Work
from edge_van.runtimes.image_model import ImageModel
from edge_van.statistics import evenly_spread
from edge_van.tasks import tally_of
from edge_van.tasks.base import Tally
from edge_van.text import one_line


@dataclass(frozen=True)
class Measured:
    """The accuracy of each model by its name, the images that were left out, and what to doubt of the metric."""

    accuracy: dict[str, Accuracy]
    broken: tuple[BrokenImage, ...]
    near_chance: str | None = None


def measure_accuracy(
    fp32: ImageModel,
    others: Mapping[str, ImageModel],
    images: ImageSet,
    work: Work,
    *,
    head: Head | None = None,
    title: str = "Measuring accuracy",
    limit: int | None = None,
) -> Measured:
    """Run all models over the labelled ``images``, evenly spread ones up to ``limit``, each decoded once.

    ``head`` None is a softmax. Broken images are left out; with ``work.strict`` the first one is a ``DataError``.
    Raises ``DataError`` if no image could be read, ``BundleError`` if a model has another number of classes,
    ``VerificationError`` for logits that are not finite.
    """
    if images.classes is None:
        raise DataError(f"{images.source}: accuracy needs labelled images, one folder a class or a file of labels")
    if limit is not None and limit < 1:
        raise UsageError(f"--limit takes at least 1 image, got {limit}")
    stats = StreamStats()
    outputs = fp32.num_classes or len(images.classes)
    tallies = {name: tally_of(head or Head(), outputs) for name in others}
    indices = _spread(images, len(images) if limit is None else limit)
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
            reference = (
                fp32.logits_at(batch.indices.tolist(), batch.images)
                if isinstance(fp32, Remembered)
                else fp32.logits(batch.images)
            )
            logits = {
                name: reference if model is fp32 else model.logits(batch.images) for name, model in others.items()
            }
            inference_s += time.perf_counter() - began
            truth = batch.labels if images.targets is None else images.targets[batch.indices]
            for name, tally in tallies.items():
                tally.add(reference, logits[name], truth)
            advance(stats.images + len(stats.broken) - done)
            done = stats.images + len(stats.broken)
        if left := len(stats.broken) + stats.images - done:  # the last ones were broken
            advance(left)
    if not stats.images:
        first = f", {stats.broken[0].name} because of {stats.broken[0].reason}" if stats.broken else ""
        raise DataError(f"{images.source}: none of the {len(images)} images could be read{first}")
    took = _Took(time.perf_counter() - start, inference_s, stats)
    data = one_line(images.source.name)
    records = {name: _record(tally, data, images.classes, took) for name, tally in tallies.items()}
    doubt = next((doubt for _, doubt in records.values()), None)  # of FP32, so the same of all
    return Measured({name: record for name, (record, _) in records.items()}, tuple(stats.broken), doubt)


def _spread(images: ImageSet, limit: int) -> list[int]:
    """Evenly over all images, those of several labels in the order of their first, so that each has its share."""
    if images.targets is None:
        return evenly_spread(len(images), limit)
    order = np.argsort(np.where(images.targets.any(1), images.targets.argmax(1), -1), kind="stable")
    return sorted(order[evenly_spread(len(images), limit)].tolist())


@dataclass(frozen=True)
class _Took:
    wall_s: float
    inference_s: float
    stats: StreamStats


def _record(tally: Tally, data: str, names: tuple[str, ...], took: _Took) -> tuple[Accuracy, str | None]:
    """The record, and what to doubt of it."""
    figures = tally.figures(names)
    metric = figures.metric
    top5 = figures.top5 or (None, None)
    doubt = None
    if figures.is_near_chance:
        doubt = (
            f"FP32's {metric.name} of {metric.fp32_percent:.2f} % is near chance, {figures.chance_percent:.2f} %: "
            f"check the order of the classes (--classes) and the preprocessing (--mean, --std, --crop)"
        )
    accuracy = Accuracy(
        data=data,
        images=tally.images,
        broken=len(took.stats.broken),
        fp32_percent=metric.fp32_percent,
        int8_percent=metric.int8_percent,
        top5_fp32_percent=top5[0],
        top5_int8_percent=top5[1],
        drop_points=metric.drop_points,
        drop_interval=metric.drop_interval,
        agreement_percent=tally.agreement_percent,
        logit_sqnr_db=tally.logit_sqnr_db,
        classes=figures.classes,
        images_per_s=tally.images / took.wall_s,
        decode_s=took.stats.decode_s,
        inference_s=took.inference_s,
        wait_s=took.stats.wait_s,
        metric=metric.name,
        others=figures.others,
    )
    return accuracy, doubt
