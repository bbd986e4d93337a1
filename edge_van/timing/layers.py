"""The time of every layer, by the kernel that the engine chose for it.

In: models, opened anew with the engine's profiler on (which slows them). Out: a ``LayerProfile`` each.
"""

from __future__ import annotations

from collections.abc import Sequence

from edge_van.progress import Reporter
from edge_van.timing.models import TimedModel
from edge_van.timing.record import LayerProfile, LayerTime, Skipped
from edge_van.timing.sessions import OpenedModels, reason

PROFILE_RUNS = 30


def profile_layers(
    models: Sequence[TimedModel], opened: OpenedModels, reporter: Reporter, skipped: list[Skipped]
) -> tuple[LayerProfile, ...]:
    """Where the engine's profiler is read: the mean of every kernel over the runs."""
    profiled = [m for m in models if m.model_file.runtime in ("openvino", "onnxruntime")]
    profiles = []
    with reporter.stage("Timing the layers", len(profiled)) as advance:
        for model in profiled:
            try:
                with opened.open(model, profile=True) as session:
                    feed = opened.feed(session, 1)
                    warmup = max(opened.settings.warmup_runs, 1)
                    kernels = session.profile(feed, warmup=warmup, runs=PROFILE_RUNS)
                layers = tuple(LayerTime(*kernel[:3], round(kernel.ms, 4)) for kernel in kernels)
                profiles.append(LayerProfile(model.name, PROFILE_RUNS, layers))
            except Exception as error:  # noqa: BLE001  what was measured before is not lost for it
                skipped.append(Skipped(f"{model.name}, layers", reason(error)))
            advance(1)
    return tuple(profiles)
