"""The sessions of a benchmark run: opened once, shared by the scenarios, one for each batch size where it is fixed.

In: ``TimedModel`` records. Out: sessions and feeds of random pixels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edge_van.bundle.records import Manifest
from edge_van.errors import BundleError, EdgeVanError
from edge_van.progress import SILENT, Advance, Reporter
from edge_van.runtimes import Session
from edge_van.runtimes.normalized import NormalizedSession
from edge_van.text import single_line
from edge_van.timing.latency import random_feed
from edge_van.timing.models import TimedModel
from edge_van.timing.record import BenchmarkSettings, Skipped
from edge_van.timing.startup import compile_cache

if TYPE_CHECKING:
    from typing_extensions import Self

Feed = dict[str, NDArray[Any]]


class OpenedModels:
    """A context manager. OpenVINO compiles a model for one batch size; the other engines take any."""

    def __init__(
        self,
        settings: BenchmarkSettings,
        manifests: Sequence[Manifest],
        names: Sequence[str],
        caches: Mapping[str, Path] | None = None,
        reporter: Reporter = SILENT,
    ) -> None:
        """``caches``: by the model's name, where ``measure_startup`` left what it compiled."""
        self.settings, self._reporter = settings, reporter
        self._caches = caches or {}
        self._manifests = dict(zip(names, manifests, strict=True))
        self._resize_inside = {
            name for name, m in zip(names, manifests, strict=True) if m.input_spec.source_size is not None
        }
        self._stack = ExitStack()
        self._batch_stack = ExitStack()
        self._single: dict[str, Session] = {}
        self._batched: dict[tuple[str, int, int], Session] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close_batch()
        self._stack.close()

    def open(self, model: TimedModel, **options: Any) -> Session:
        """A new session, the caller's to close."""
        threads = {"threads": self.settings.threads} if model.on_cpu else {}
        with compile_cache(self._caches.get(model.name)):
            return model.model_file.open(**threads, **options)

    def load(
        self, models: Sequence[TimedModel], advance: Advance, skipped: list[Skipped], *, strict: bool
    ) -> list[TimedModel]:
        """Open every model for one image and run it once; those that fail are skipped, or with ``strict`` an error.

        ``BundleError`` for one whose input or classes are others than its manifest says.
        """
        left = []
        for model in models:
            try:
                session = self._stack.enter_context(self.open(model))
                session.run(self.feed(session, 1))
            except Exception as error:
                if strict:
                    raise
                skipped.append(Skipped(model.name, reason(error)))
            else:
                self._require_fitting(model, session)
                self._single[model.name] = session
                left.append(model)
            advance(1)
        return left

    def _require_fitting(self, model: TimedModel, session: Session) -> None:
        manifest = self._manifests[model.bundle]
        NormalizedSession(session, manifest.input_spec)
        classes = session.outputs[0].shape[-1]
        if classes not in (None, manifest.num_classes):
            raise BundleError(
                f"{model.file} gives {classes} logits an image, its manifest says {manifest.num_classes} classes: make "
                f"or copy the bundle again"
            )

    def feed(self, session: Session, batch: int) -> Feed:
        return random_feed(session, np.random.default_rng(self.settings.seed), batch)

    def fitting(
        self,
        models: Sequence[TimedModel],
        batch: int,
        scenario: str,
        baseline: str,
        skipped: list[Skipped],
        streams: int | None = None,
    ) -> list[TimedModel]:
        """Those of ``models`` that take ``batch`` images at once; the others are skipped, with the reason.

        Empty where ``baseline`` is not among them: there is nothing to pair the others with.
        """
        left = []
        reporter = self._reporter if batch > 1 else SILENT  # for one image they are loaded already
        with reporter.stage(f"{scenario}: loading the models for {batch} images", len(models)) as advance:
            for model in models:
                why = self._refusal(model, batch, streams)
                if why is None:
                    left.append(model)
                else:
                    skipped.append(Skipped(f"{model.name}, {scenario} with {batch} images", why))
                advance(1)
        if left and baseline not in [model.name for model in left]:
            what = f"{scenario} with {batch} images"
            skipped.append(
                Skipped(what, f"{baseline}, which ratios are taken to, does not take them: give another with --against")
            )
            return []
        return left

    def _refusal(self, model: TimedModel, batch: int, streams: int | None) -> str | None:
        """Why it does not take ``batch`` images. OpenVINO compiles here, and torch.compile: the latter for minutes."""
        if batch > 1 and model.runtime == "openvino" and model.bundle in self._resize_inside:
            return "the crop inside its graph is written for one image"
        try:
            session = self.session(model, batch, streams)
            session.run(self.feed(session, batch))
        except Exception as error:  # noqa: BLE001  out of memory, a failed compilation
            return reason(error)
        return None

    def session(self, model: TimedModel, batch: int, streams: int | None = None) -> Session:
        """For ``batch`` images at once; with ``streams`` a session of its own where the engine has such."""
        single = self._single[model.name]
        if model.runtime != "openvino" or (batch == 1 and streams is None):
            return single
        key = (model.name, batch, streams or 0)
        if key not in self._batched:
            options = {} if streams is None else {"streams": streams}
            self._batched[key] = self._batch_stack.enter_context(self.open(model, batch=batch, **options))
        return self._batched[key]

    def session_and_feed(self, model: TimedModel, batch: int, streams: int | None = None) -> tuple[Session, Feed]:
        session = self.session(model, batch, streams)
        return session, self.feed(session, batch)

    def close_batch(self) -> None:
        """Let go of what was opened for more than one image."""
        self._batch_stack.close()
        self._batched = {}


def reason(error: Exception) -> str:
    """One line for ``Skipped``: ours as it is, an engine's with its type."""
    text = single_line(error, 300)
    return text if isinstance(error, EdgeVanError) else f"{type(error).__name__}: {text}"
