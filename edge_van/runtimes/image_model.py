"""A model of any runtime as one that takes images: uint8 (N, H, W, C), as many as there are.

In: a ``Session`` of one input, an ``InputSpec``. Out: logits (N, classes), and on request the map of a stage.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from queue import SimpleQueue
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edge_van.bundle.bundle import Bundle
from edge_van.bundle.models import BundleModel
from edge_van.errors import BundleError
from edge_van.input_spec import InputSpec
from edge_van.runtimes import Session
from edge_van.runtimes.model_file import ModelFile
from edge_van.runtimes.normalized import NormalizedSession
from edge_van.runtimes.stage_map import STAGE_MAP

if TYPE_CHECKING:
    from typing_extensions import Self

Pixels = NDArray[np.uint8]
Logits = NDArray[np.floating[Any]]
BATCH = 32
"""Images that a model of a free batch size is given at once."""
PART_PIXELS, LARGEST_PART = 4 * 224 * 224, 16
"""What OpenVINO is given in each of its requests: one image of 64 px leaves it idle between operators, and more than
four of 224 px are slower (seen: 8.6 ms an image in fours, 9.6 in sixteens)."""


class ImageModel:
    """A context manager that closes the session. One caller at a time.

    ``spec`` is what images are decoded by: without a ``source_size`` where the resize is not inside. ``batch`` is how
    many are best given at once; they are split, or filled up, for an engine of a fixed batch size. ``requests`` of
    those parts are run at a time.
    """

    def __init__(
        self,
        session: Session,
        spec: InputSpec,
        num_classes: int | None,
        *,
        batch: int = BATCH,
        name: str = "the model",
        requests: int = 1,
    ) -> None:
        """``name`` is what messages call it. ``BundleError`` for a model of several inputs, ``UsageError`` for more
        than one request of an engine that has no siblings."""
        self.session, self.spec, self.num_classes, self.name = NormalizedSession(session, spec), spec, num_classes, name
        self._engine = session
        [self._input] = self.session.inputs
        self._fixed = self._input.shape[0]
        self._part = self._fixed or batch
        self.batch = self._part if requests == 1 else max(batch, self._part * requests)
        self._pool: ThreadPoolExecutor | None = None
        if requests > 1:
            self._pool = ThreadPoolExecutor(requests, "edge-van-requests")
            self._siblings = [self.sibling() for _ in range(requests - 1)]
            self._idle: SimpleQueue[ImageModel] = SimpleQueue()
            for model in (self, *self._siblings):
                self._idle.put(model)
        self._logits = next(info.name for info in session.outputs if info.name != STAGE_MAP)

    def logits(self, images: Pixels) -> Logits:
        """(N, classes) for uint8 images (N, H, W, C); ``BundleError`` for a model of another number of classes."""
        return self.logits_and_maps(images)[0]

    def logits_and_maps(self, images: Pixels) -> tuple[Logits, NDArray[Any] | None]:
        """(N, classes), and the maps (N, C, H, W) where the session was opened with ``stage_map``."""
        split = [images[i : i + self._part] for i in range(0, len(images), self._part)]
        parts = list(map(self._run, split) if self._pool is None else self._pool.map(self._run_next, split))
        logits = np.concatenate([part[self._logits] for part in parts])
        return logits, np.concatenate([part[STAGE_MAP] for part in parts]) if STAGE_MAP in parts[0] else None

    def _run_next(self, images: Pixels) -> dict[str, NDArray[Any]]:
        """By whichever request is idle."""
        model = self._idle.get()
        try:
            return model._run(images)
        finally:
            self._idle.put(model)

    def _run(self, images: Pixels) -> dict[str, NDArray[Any]]:
        count = len(images)
        if self._fixed and count < self._fixed:
            images = np.concatenate([images, np.repeat(images[-1:], self._fixed - count, 0)])
        outputs = self.session.run({self._input.name: np.ascontiguousarray(images)})
        outputs = {name: values[:count] for name, values in outputs.items()}
        shape = outputs[self._logits].shape
        if shape != (count, self.num_classes or shape[-1]):
            raise BundleError(
                f"{self.name} returns {shape} logits for {count} images, its checkpoint has {self.num_classes} "
                f"classes: make the bundle again"
            )
        return outputs

    @property
    def requests(self) -> int:
        """How many siblings, itself one of them, the engine was set up for."""
        return self._engine.streams

    def sibling(self) -> ImageModel:
        """Another on the same loaded model, for another thread; ``UsageError`` where the engine has no such."""
        return ImageModel(self._engine.sibling(), self.spec, self.num_classes, batch=self._part, name=self.name)

    def close(self) -> None:
        if self._pool is not None:
            self._pool.shutdown()
            for model in self._siblings:
                model.close()
        self.session.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def images_a_request(spec: InputSpec) -> int:
    """How many images OpenVINO is best given at once where most a second are wanted."""
    height, width = spec.size
    return 1 if spec.source_size is not None else max(min(PART_PIXELS // (height * width), LARGEST_PART), 1)


def open_image_model(
    file: ModelFile, spec: InputSpec, num_classes: int | None, *, batch: int | None = None, **options: Any
) -> ImageModel:
    """Open a model file of a VAN; ``options`` are those of its runtime. Raises as ``open_model``.

    ``batch`` None is for most images a second: OpenVINO then has a few small batches under way at a time; one where it
    computes a graph exactly (see ``OpenVINOOptions.exact``). Only an OpenVINO model has the resize of a ``source_size``
    inside, and its crop is written for one image.
    """
    requests_wanted = batch is None and not file.options.get("exact", False)
    if file.runtime == "openvino":
        options.setdefault("throughput", requests_wanted)
        options["batch"] = 1 if spec.source_size is not None else batch or images_a_request(spec)
    else:
        spec = replace(spec, source_size=None)
    session = file.open(**options)
    try:
        requests = session.streams if requests_wanted else 1
        return ImageModel(session, spec, num_classes, batch=batch or BATCH, name=file.name, requests=requests)
    except BaseException:
        session.close()
        raise


def open_bundle_model(bundle: Bundle, model: BundleModel, *, batch: int | None = None, **options: Any) -> ImageModel:
    """Open a model of a bundle; its files are hashed before they are run: ``BundleError`` for a damaged one.

    ONNX Runtime computes a Q/DQ graph exactly as it is written, unless ``options`` say ``exact=False``.
    """
    bundle.check(*model.files)
    file, manifest = ModelFile(model.file, model.runtime, bundle.file(model.file)), bundle.manifest
    return open_image_model(file, manifest.input_spec, manifest.num_classes, batch=batch, **options)
