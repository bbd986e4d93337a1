"""What a bundle says of single images: class, probability, and on request where in the image it was found.

In: a ``Bundle``, image files, folders or zip archives, ``PredictOptions``. Out: ``Prediction`` records in the order of
the images, a ``Failure`` for each that has none; with ``grad_cam`` one PNG an image. Images are decoded as everywhere
else (``edge_van.images.decode``).
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from edge_van.bundle.bundle import Bundle, as_bundle
from edge_van.errors import DataError, UsageError
from edge_van.prediction.answers import Answers, Failure, Prediction
from edge_van.prediction.gradcam import GradCAM
from edge_van.prediction.model import chosen_model
from edge_van.prediction.scores import class_names
from edge_van.prediction.sources import Source, open_sources, with_targets
from edge_van.prediction.turns import in_turns
from edge_van.progress import UNWATCHED, Advance, Reporter, Work
from edge_van.runtimes.image_model import images_a_request, open_bundle_model
from edge_van.storage.files import locked, remove_leftovers
from edge_van.storage.folders import clear_errors

MANY = 64
"""From so many images on OpenVINO computes several at a time: more of them a second, each of them later."""
Result = TypeVar("Result")
SHOWN_AFTER_S = 2.0
"""Shorter work needs no bar."""


@dataclass(frozen=True)
class PredictOptions:
    """Which model, and what to say of each image. ``stage``, ``force`` and ``grad_cam``: see the command's help.

    ``threshold`` stands for that of a bundle whose head is a sigmoid.
    """

    runtime: str | None = None  # None: OpenVINO, or the engine's
    precision: str | None = None  # None: what was chosen for this machine, else int8; torch runs fp32 alone
    engine: str | None = None
    scheme: str | None = None
    top_k: int = 5
    grad_cam: Path | None = None
    stage: int | None = None
    force: bool = False
    threshold: float | None = None

    def __post_init__(self) -> None:
        if self.top_k < 1:
            raise UsageError(f"top_k is a number of classes of 1 or more; got {self.top_k!r}")
        if self.grad_cam is not None and not isinstance(self.grad_cam, Path):
            raise UsageError(f"grad_cam is the Path of a folder; got {self.grad_cam!r}")


def predict(
    bundle: Bundle | str | Path,
    images: str | Path | Sequence[str | Path],
    *,
    options: PredictOptions | None = None,
    work: Work = UNWATCHED,
    on_failure: Callable[[Failure], None] | None = None,
) -> list[Prediction]:
    """Predict every one of ``images``: files, folders and .zip archives of images, in the order given.

    An image that cannot be used, or whose logits are not finite, goes to ``on_failure`` and is left out; so does one
    whose heat map cannot be made or written, which keeps its answer. Without ``on_failure`` the first one is a
    ``DataError``.

    Raises ``UsageError`` for a path that is not there, a heat map that exists already, or options that contradict each
    other; ``BundleError`` for a damaged file, one that fits neither the manifest nor the runtime, or a folder for heat
    maps that cannot be written to; ``MissingRuntimeError`` where the engine is not installed.
    """
    bundle, options = as_bundle(bundle), options or PredictOptions()
    on_failure = on_failure or _raise
    if options.grad_cam is None and (options.stage is not None or options.force):
        flag, does = ("--force", "replaces heat maps") if options.force else ("--stage", "says where Grad-CAM looks")
        raise UsageError(f"{flag} {does}: give --grad-cam DIR with it")
    chosen = chosen_model(bundle, options.runtime, options.precision, options.engine, options.scheme)
    bundle, model = chosen.bundle, chosen.model
    if options.grad_cam is not None and model.is_engine:
        raise UsageError(
            f"{model.runtime} shows no inner maps, from which Grad-CAM is made: leave --grad-cam out, or run the same "
            f"network with --runtime openvino or --runtime onnxruntime"
        )
    head = bundle.manifest.head.with_threshold(options.threshold)
    paths = [Path(images)] if isinstance(images, str | Path) else [Path(path) for path in images]
    with ExitStack() as stack:
        sources = open_sources(stack, paths, work.reporter.note)
        if options.grad_cam is not None:
            sources = with_targets(sources, options.grad_cam, force=options.force)
        bundle.check(*model.files)
        cam, how = None, dict(chosen.options)
        if options.grad_cam is not None:
            cam = GradCAM(bundle, stage=options.stage, graph=model.graph)
            how["stage_map"] = cam.stage
        is_many = len(sources) >= MANY and cam is None and model.runtime == "openvino"
        batch = 1
        if is_many:
            how["throughput"], batch = True, images_a_request(bundle.manifest.input_spec)
        opened = stack.enter_context(open_bundle_model(bundle, model, batch=batch, **how))
        count = opened.requests if is_many else 1
        models = [opened, *(stack.enter_context(opened.sibling()) for _ in range(count - 1))]
        if options.grad_cam is not None:
            _make_folder(options.grad_cam, sources)
        names = class_names(bundle)
        top_k, force = options.top_k, options.force
        workers = [Answers(each, model, names, head, cam, top_k, force, chosen.precision) for each in models]
        groups = [sources[i : i + batch] for i in range(0, len(sources), batch)]
        predictions: list[Prediction] = []
        blank: list[str] = []
        turns = in_turns(workers, groups)
        stack.callback(turns.close)  # before the sessions: a worker may be in the middle of an image
        answers = (pair for group, found in turns for pair in zip(group, found, strict=True))
        for source, outcome in _watched(answers, len(sources), work.reporter, stack):
            if isinstance(outcome, Failure):
                on_failure(outcome)
            else:
                prediction, drawn = outcome
                predictions.append(prediction)
                blank += [source.name] if drawn == "blank" else []
                if isinstance(drawn, Failure):
                    on_failure(drawn)
        if cam is not None and blank:
            written = sum(prediction.grad_cam is not None for prediction in predictions)
            work.reporter.note(
                f"{len(blank)} of {written} heat maps are all zero, the first is that of {blank[0]}: "
                f"nothing in the map of stage {cam.stage} speaks for the class; another --stage may show more"
            )
        return predictions


def _raise(failure: Failure) -> None:
    what = f"the heat map of {failure.image} cannot be made" if failure.heat_map else f"{failure.image} cannot be used"
    raise DataError(f"{what}: {failure.reason}")


def _make_folder(folder: Path, sources: Sequence[Source]) -> None:
    """Where the heat maps go, without what a killed command left of them; ``BundleError`` before the first is made."""
    with clear_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, "not writable", str(folder))
        with locked(folder) as alone:
            names = {source.grad_cam.name for source in sources if source.grad_cam is not None}
            remove_leftovers(folder, names, alone=alone)


def _watched(results: Iterator[Result], total: int, reporter: Reporter, stack: ExitStack) -> Iterator[Result]:
    """The results, with a bar once the work has taken over two seconds."""
    started = time.monotonic()
    advance: Advance | None = None
    for done, result in enumerate(results, 1):
        if advance is not None:
            advance(1)
        elif time.monotonic() - started > SHOWN_AFTER_S:
            advance = stack.enter_context(reporter.stage("Predicting", total))
            advance(done)
        yield result
