"""Accuracy of INT8 against FP32 on the same images, streamed.

In: two opened models of one network and labelled images. Out: an ``Accuracy`` record: top-1, top-5, the drop with its
paired interval, agreement, logit SQNR and where the predictions moved, by class. Memory does not grow with the images
(a few bytes each).
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_van.bundle.records import Accuracy, ClassChange, Interval
from edge_van.errors import BundleError, DataError, UsageError, VerificationError
from edge_van.images.sets import ImageSet
from edge_van.images.stream import BrokenImage, StreamStats, stream
from edge_van.input_spec import InputSpec
from edge_van.progress import Advance
from edge_van.runtimes import Session
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


def validate(
    fp32: Session,
    int8: Session,
    images: ImageSet,
    spec: InputSpec,
    *,
    num_classes: int,
    batch_size: int,
    strict: bool = False,
    limit: int | None = None,
    progress: Advance | None = None,
    on_broken: Any = None,
) -> Accuracy:
    """Run both models over the labelled ``images``. Both take uint8 (batch_size, H, W, 3) and return logits.

    Broken images are left out and counted; with ``strict`` the first one is a ``DataError``. Raises ``DataError`` if
    no image could be read, ``BundleError`` if a model has not ``num_classes`` logits.
    """
    found = validate_all(
        fp32,
        {"int8": int8},
        images,
        spec,
        num_classes=num_classes,
        batch_size=batch_size,
        strict=strict,
        limit=limit,
        progress=progress,
        on_broken=on_broken,
    )
    return found["int8"]


def validate_all(
    fp32: Session,
    others: Mapping[str, Session],
    images: ImageSet,
    spec: InputSpec,
    *,
    num_classes: int,
    batch_size: int,
    strict: bool = False,
    limit: int | None = None,
    progress: Advance | None = None,
    on_broken: Any = None,
) -> dict[str, Accuracy]:
    """``validate`` for several models in one pass: each image is decoded once and seen once by ``fp32``."""
    if images.classes is None:
        raise DataError(f"{images.source}: accuracy needs labelled images, one folder a class")
    if limit is not None and limit < 1:
        raise UsageError(f"--limit takes at least 1 image, got {limit}")
    tallies, stats = {name: _Tally(num_classes) for name in others}, StreamStats()
    indices = None if limit is None else evenly_spread(len(images), limit)
    inference_s = 0.0
    start = time.perf_counter()

    def report(broken: BrokenImage) -> None:
        if progress is not None:
            progress(1)
        if on_broken is not None:
            on_broken(broken)

    batches = stream(images, spec, batch_size=batch_size, indices=indices, strict=strict, on_broken=report, stats=stats)
    for batch in batches:
        began = time.perf_counter()
        reference = _logits(fp32, batch.images, batch_size)
        logits = {
            name: reference if session is fp32 else _logits(session, batch.images, batch_size)
            for name, session in others.items()
        }
        inference_s += time.perf_counter() - began
        for name, tally in tallies.items():
            if reference.shape[1] != num_classes or logits[name].shape != reference.shape:
                raise BundleError(
                    f"the FP32 model returns {reference.shape[1]} classes and the {name.upper()} model "
                    f"{logits[name].shape[1]}, the checkpoint they were made from has {num_classes}: make the bundle "
                    f"again"
                )
            tally.add(reference, logits[name], batch.labels)
        if progress is not None:
            progress(len(batch.labels))
    if not stats.images:
        raise DataError(f"{images.source}: none of the {len(images)} images could be read")
    wall_s = time.perf_counter() - start
    return {name: _record(tally, stats, images, spec, wall_s, inference_s) for name, tally in tallies.items()}


def _logits(session: Session, images: NDArray[np.uint8], batch_size: int) -> NDArray[np.float32]:
    """(N, classes) for N <= batch_size: a short last batch is filled up, for engines with a fixed batch."""
    count = len(images)
    if count < batch_size:
        images = np.concatenate([images, np.repeat(images[-1:], batch_size - count, 0)])
    output = session.run({session.inputs[0].name: np.ascontiguousarray(images)})
    logits: NDArray[np.float32] = output[session.outputs[0].name][:count]
    return logits


def _record(
    tally: _Tally, stats: StreamStats, images: ImageSet, spec: InputSpec, wall_s: float, inference_s: float
) -> Accuracy:
    n = int(tally.images.sum())
    right = {name: np.concatenate(parts) for name, parts in tally.right.items()}
    drop, low, high = paired_drop_interval(right["fp32"], right["int8"])
    names = spec.classes or images.classes or ()
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
        data=one_line(images.source.name),
        images=n,
        broken=len(stats.broken),
        top1_fp32_percent=100.0 * float(right["fp32"].mean()),
        top1_int8_percent=100.0 * float(right["int8"].mean()),
        top5_fp32_percent=100.0 * tally.top5["fp32"] / n if with_top5 else None,
        top5_int8_percent=100.0 * tally.top5["int8"] / n if with_top5 else None,
        top1_drop_points=drop,
        top1_drop_interval=Interval(low, high),
        agreement_percent=100.0 * tally.agree / n,
        logit_sqnr_db=to_db(tally.signal, tally.noise),
        classes=classes,
        images_per_s=n / wall_s,
        decode_s=stats.decode_s,
        inference_s=inference_s,
        wait_s=stats.wait_s,
    )
