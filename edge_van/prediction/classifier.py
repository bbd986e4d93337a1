"""A bundle's model as a function of one image, for programs; safe to call from several threads.

In: a bundle and which of its models. Out: a ``Classifier``, whose answers are ``Classification`` records.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from queue import LifoQueue
from threading import Lock
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edge_van.bundle.bundle import Bundle, as_bundle
from edge_van.errors import DataError, UsageError
from edge_van.head import Head
from edge_van.images.decode import BrokenImageError, decode
from edge_van.images.sets import MAX_BYTES
from edge_van.input_spec import InputSpec
from edge_van.prediction.model import chosen_model
from edge_van.prediction.scores import ClassScore, class_names, labels_of, rank
from edge_van.runtimes.image_model import ImageModel, open_bundle_model

if TYPE_CHECKING:
    from typing_extensions import Self

MAX_WORKERS = 256


@dataclass(frozen=True, eq=False)
class Classification:
    """What the model says of one image: its logits (outputs,), float, the classes' names in their order, and what the
    logits become."""

    logits: NDArray[Any]
    names: tuple[str, ...]
    head: Head = field(default_factory=Head)

    @property
    def top1(self) -> ClassScore:
        """The class with the highest logit; of two that a single output tells apart, the one the threshold gives."""
        return self.top(1)[0]

    def top(self, count: int = 5) -> tuple[ClassScore, ...]:
        """The ``count`` highest classes, or all where there are fewer; ``VerificationError`` for logits not finite."""
        if count < 1:
            raise UsageError(f"top takes a number of classes of 1 or more; got {count!r}")
        return rank(self.logits, self.names, count, self.head)

    @property
    def labels(self) -> tuple[str, ...]:
        """What the image is said to have: every label that reaches the threshold, or the one class."""
        found = labels_of(self.logits, self.names, self.head)
        return (self.top1.name,) if found is None else found


class Classifier:
    """A context manager, and a function of one image. Callers wait for one of its ``workers``."""

    def __init__(self, models: list[ImageModel], names: tuple[str, ...], head: Head, stack: ExitStack) -> None:
        self.spec, self.head, self.workers = models[0].spec, head, len(models)
        self._names, self._stack = names, stack
        self._idle: LifoQueue[ImageModel | None] = LifoQueue()  # None where it is closed
        self._closing = Lock()
        for model in models:
            self._idle.put(model)

    def __call__(self, image: str | Path | bytes | NDArray[np.uint8]) -> Classification:
        """Classify one image: a file, its bytes, or pixels uint8 (H, W, C) as ``spec`` resizes and crops them
        and in its ``source_order``.

        Raises ``DataError`` for an image that cannot be read or has another size, ``BundleError`` for a model that
        does not fit its manifest.
        """
        pixels = image if isinstance(image, np.ndarray) else _decoded(image, self.spec)
        if pixels.dtype != np.uint8 or pixels.shape != self.spec.source_shape:
            raise DataError(
                f"the pixels are {pixels.dtype} {pixels.shape}, the model takes uint8 {self.spec.source_shape}: resize "
                f"and crop them, or give the file"
            )
        with self._worker() as model:
            return Classification(model.logits(pixels[None])[0], self._names, self.head)

    @contextmanager
    def _worker(self) -> Iterator[ImageModel]:
        model = self._idle.get()
        try:
            if model is None:
                raise UsageError("the classifier is closed: call it inside its with block")
            yield model
        finally:
            self._idle.put(model)

    def close(self) -> None:
        """Let go of the model's memory, once every call is answered; a call after that is a ``UsageError``."""
        with self._closing:
            taken: list[ImageModel | None] = []
            try:
                while len(taken) < self.workers:
                    taken.append(self._idle.get())
            except BaseException:  # Ctrl-C while a call is being answered
                for model in taken:
                    self._idle.put(model)
                raise
            for _ in taken:
                self._idle.put(None)
            self._stack.close()  # without effect the second time

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def open_classifier(
    bundle: Bundle | str | Path,
    *,
    runtime: str | None = None,
    precision: str | None = None,
    engine: str | None = None,
    scheme: str | None = None,
    threads: int | None = None,
    workers: int = 1,
) -> Classifier:
    """Open a bundle's model for classifying: by default the one that was chosen for this machine, else
    OpenVINO's INT8 model.

    ``runtime``, ``precision``, ``engine`` and ``scheme`` choose as ``edge-van predict`` does. ``threads`` are the CPU
    threads of the engine, by default its own choice. ``workers`` is how many calls are computed at once; each has its
    share of the threads. One answers a single caller soonest, as many as cores answer several callers faster.

    Raises ``UsageError`` for a model that is not there or a runtime that has no several workers, ``BundleError`` for a
    damaged file, ``MissingRuntimeError`` without the engine.
    """
    if not 1 <= workers <= MAX_WORKERS:
        raise UsageError(f"workers is a number from 1 to {MAX_WORKERS}; got {workers!r}")
    bundle = as_bundle(bundle)
    chosen = chosen_model(bundle, runtime, precision, engine, scheme)
    bundle, model, options = chosen.bundle, chosen.model, dict(chosen.options)
    if not model.is_engine or threads is not None:
        options["threads"] = threads
    if workers > 1:
        if model.runtime != "openvino":
            raise UsageError(f"{model.runtime} computes one call at a time: leave workers out, or take openvino")
        options["streams"] = workers
    with ExitStack() as stack:
        first = stack.enter_context(open_bundle_model(bundle, model, batch=1, **options))
        models = [first, *(stack.enter_context(first.sibling()) for _ in range(workers - 1))]
        return Classifier(models, class_names(bundle), bundle.manifest.head, stack.pop_all())


def _decoded(image: str | Path | bytes, spec: InputSpec) -> NDArray[np.uint8]:
    """The pixels; an error of a file begins with its name."""
    if isinstance(image, bytes):
        return decode(image, spec)
    try:
        return decode(_content(image), spec)
    except BrokenImageError as error:
        raise DataError(f"{image}: {error}") from error


def _content(image: str | Path) -> bytes:
    path = Path(image)
    try:
        if (size := path.stat().st_size) > MAX_BYTES:
            raise DataError(f"{path} has {size} bytes, over the limit of {MAX_BYTES}: give an image")
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}): give an image file") from error
