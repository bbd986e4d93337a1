"""What a bundle says of single images: class, probability, and on request where in the image it was found.

In: a ``Bundle``, image files, folders or zip archives, ``PredictOptions``. Out: ``Prediction`` records in the order of
the images; with ``grad_cam`` one PNG an image. Images are decoded as everywhere else (``edge_van.decode``).
"""

from __future__ import annotations

import io
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_van.atomic import clear_errors
from edge_van.atomic_files import replace_file
from edge_van.bundle import Bundle
from edge_van.data import MAX_BYTES, BrokenImage, BrokenImageError, decode, open_images
from edge_van.errors import BundleError, DataError, UsageError
from edge_van.gradcam import GradCAM
from edge_van.input_spec import InputSpec
from edge_van.overlay import overlay
from edge_van.predict_model import PredictModel, choose_model
from edge_van.progress import Advance, Reporter
from edge_van.runtimes import Session, open_model
from edge_van.runtimes.normalized import NormalizedSession
from edge_van.runtimes.stage_map import STAGE_MAP
from edge_van.softmax import softmax

SHOWN_AFTER_S = 2.0
"""Shorter work needs no bar."""


@dataclass(frozen=True)
class PredictOptions:
    """Which model, and what to say of each image. ``stage``, ``force`` and ``grad_cam``: see the command's help."""

    runtime: str | None = None  # None: OpenVINO, or the engine's
    precision: str | None = None  # None: int8, but for torch, which runs fp32 alone
    engine: str | None = None
    scheme: str | None = None
    top_k: int = 5
    grad_cam: Path | None = None
    stage: int | None = None
    force: bool = False


@dataclass(frozen=True)
class ClassScore:
    """One class: its index among the logits, its name, softmax probability and logit."""

    index: int
    name: str
    probability: float
    logit: float


@dataclass(frozen=True)
class Prediction:
    """One image: the highest classes in order, the heat map's file for the first of them, and what computed both."""

    image: str
    predictions: tuple[ClassScore, ...]
    grad_cam: str | None
    model: str  # the file in the bundle
    runtime: str


@dataclass(frozen=True)
class _Source:
    """One image: its name as shown, its bytes when asked for, and where its heat map goes."""

    name: str
    read: Callable[[], bytes]
    grad_cam: Path | None = None


def predict(
    bundle: Bundle,
    paths: Sequence[Path],
    options: PredictOptions,
    reporter: Reporter,
    on_broken: Callable[[BrokenImage], None],
) -> list[Prediction]:
    """Predict every image of ``paths``: files, folders and .zip archives of images, in the order given.

    An image that cannot be used goes to ``on_broken`` and is left out. Raises ``UsageError`` for a path that is not
    there, a heat map that exists already, or options that contradict each other; ``BundleError`` for a damaged file or
    one that fits neither the manifest nor the runtime; ``MissingRuntimeError`` where the engine is not installed.
    """
    if options.stage is not None and options.grad_cam is None:
        raise UsageError("--stage says where Grad-CAM looks: give --grad-cam DIR with it")
    model = choose_model(bundle, options.runtime, options.precision, options.engine, options.scheme)
    if options.grad_cam is not None and model.is_engine:
        raise UsageError(
            f"{model.runtime} shows no inner maps, from which Grad-CAM is made: leave --grad-cam out, or run the same "
            f"network with --runtime openvino or --runtime onnxruntime"
        )
    with ExitStack() as stack:
        sources = _sources(stack, paths)
        if options.grad_cam is not None:
            sources = _with_targets(sources, options.grad_cam, force=options.force)
        bundle.check(*model.files)
        cam = None
        if options.grad_cam is not None:
            cam = GradCAM(bundle, stage=options.stage, graph=model.head_graph)
        session, spec = _open(bundle, model, cam)
        stack.enter_context(session)
        if options.grad_cam is not None:
            with clear_errors(options.grad_cam):
                options.grad_cam.mkdir(parents=True, exist_ok=True)
        run = _Run(bundle, model, session, spec, cam, options, [])
        found = []
        for source in _watched(sources, reporter, stack):
            try:
                found.append(run.one(source))
            except BrokenImageError as error:
                on_broken(BrokenImage(source.name, error.reason))
            except DataError as error:  # an image of another size than the camera's
                on_broken(BrokenImage(source.name, str(error)))
        if cam is not None and run.blank:
            reporter.note(
                f"{len(run.blank)} of {len(found)} heat maps are all zero, the first is that of {run.blank[0]}: "
                f"nothing in the map of stage {cam.stage} speaks for the class; another --stage may show more"
            )
        return found


def _open(bundle: Bundle, model: PredictModel, cam: GradCAM | None) -> tuple[Session, InputSpec]:
    """The session, which takes uint8 (1, H, W, 3), and the spec by which an image becomes that."""
    options: dict[str, Any] = {} if cam is None else {"stage_map": cam.stage}
    session = open_model(model.runtime, bundle.file(model.file), **options)
    spec = bundle.manifest.input_spec
    if model.runtime == "openvino":
        return session, spec  # its preprocessing, with a source_size the resize too, is in the graph
    spec = replace(spec, source_size=None)
    return NormalizedSession(session, spec), spec


@dataclass(frozen=True)
class _Run:
    """An opened model and all that one image's prediction needs."""

    bundle: Bundle
    model: PredictModel
    session: Session
    spec: InputSpec
    cam: GradCAM | None
    options: PredictOptions
    blank: list[str]
    """The images whose heat map is all zero so far."""

    def one(self, source: _Source) -> Prediction:
        data = source.read()
        pixels = decode(data, self.spec)
        output = self.session.run({self.session.inputs[0].name: pixels[None]})
        logits = output[next(info.name for info in self.session.outputs if info.name != STAGE_MAP)]
        scores = rank(logits[0], self._names(logits), self.options.top_k)
        if self.cam is not None and source.grad_cam is not None:
            [heat] = self.cam.heat_maps(output[STAGE_MAP], np.array([scores[0].index]))
            if not heat.any():
                self.blank.append(source.name)
            seen = pixels if self.spec.source_size is None else decode(data, replace(self.spec, source_size=None))
            _save(overlay(seen, heat), source.grad_cam, force=self.options.force)
        written = None if source.grad_cam is None else _text(source.grad_cam)
        return Prediction(source.name, scores, written, self.model.file, self.model.runtime)

    def _names(self, logits: NDArray[Any]) -> tuple[str, ...]:
        count = self.bundle.manifest.num_classes
        if logits.shape != (1, count):
            raise BundleError(
                f"{self.model.file} returns {logits.shape} logits for one image, the checkpoint it was made from has "
                f"{count} classes: make the bundle again"
            )
        return self.spec.classes or tuple(f"class {i}" for i in range(count))


def rank(logits: NDArray[Any], names: Sequence[str], top_k: int) -> tuple[ClassScore, ...]:
    """The ``top_k`` highest of the logits (classes,), or all where there are fewer; a tie goes to the lower index.

    ``VerificationError`` for logits that are not finite.
    """
    values, probabilities = logits.astype(np.float64), softmax(logits)
    order = np.argsort(-values, kind="stable")[:top_k]
    return tuple(ClassScore(int(i), names[i], float(probabilities[i]), float(values[i])) for i in order)


def _sources(stack: ExitStack, paths: Sequence[Path]) -> list[_Source]:
    """Every path's images; archives stay open until the stack is closed."""
    found: list[_Source] = []
    for path in paths:
        if path.is_dir() or path.suffix.lower() == ".zip":
            images = stack.enter_context(open_images(path, labelled=False))
            found += [_Source(_text(path / item.name), _reader(images, i)) for i, item in enumerate(images.items)]
        elif path.exists() or path.is_symlink():
            found.append(_Source(_text(path), _file_reader(path)))
        else:
            raise UsageError(f"{_text(path)} is not there: give image files, folders or .zip archives of images")
    if not found:
        raise UsageError("no image was given: give image files, folders or .zip archives of images")
    return found


def _reader(images: Any, index: int) -> Callable[[], bytes]:
    return lambda: bytes(images.read(index))


def _file_reader(path: Path) -> Callable[[], bytes]:
    def read() -> bytes:
        try:
            if not path.is_file():  # a pipe would block, a device never end
                raise BrokenImageError("it is no regular file")
            size = path.stat().st_size
            if size > MAX_BYTES:
                raise BrokenImageError(f"{size} bytes, over the limit of {MAX_BYTES}")
            return path.read_bytes()
        except OSError as error:
            raise BrokenImageError(f"it cannot be read ({error.strerror})") from error

    return read


def _text(path: Path) -> str:
    """A name for people and for JSON: bytes that are no UTF-8 are shown by their numbers."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def _with_targets(sources: Sequence[_Source], folder: Path, *, force: bool) -> list[_Source]:
    """Each source with a heat map's file of its own: images of one stem are told apart by a number."""
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"--grad-cam takes a folder, {_text(folder)} is a file: choose another")
    taken: set[str] = set()
    result = []
    for source in sources:
        stem, number = Path(source.name.replace("\\", "_")).stem, 1
        while (name := f"{stem}_{number}" if number > 1 else stem).casefold() in taken:
            number += 1
        taken.add(name.casefold())
        target = folder / f"{name}_grad_cam.png"
        if not force and (target.exists() or target.is_symlink()):
            raise UsageError(f"{_text(target)} exists: give --force to replace it, or choose another folder")
        result.append(replace(source, grad_cam=target))
    return result


def _save(image: Any, path: Path, *, force: bool) -> None:
    """Write a PNG whole or not at all."""
    if not force and path.exists():  # it was not when the command began
        raise UsageError(f"{_text(path)} was put there meanwhile: give --force to replace it")
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    replace_file(path, buffer.getvalue())


def _watched(sources: Sequence[_Source], reporter: Reporter, stack: ExitStack) -> Iterator[_Source]:
    """The sources, with a bar once the work has taken over two seconds."""
    started = time.monotonic()
    advance: Advance | None = None
    for done, source in enumerate(sources):
        if advance is None and time.monotonic() - started > SHOWN_AFTER_S:
            advance = stack.enter_context(reporter.stage("Predicting", len(sources)))
            advance(done)
        yield source
        if advance is not None:
            advance(1)
