"""The time of every layer, by the kernel that the engine chose for it.

In: models, opened anew with the engine's profiler on (which slows them). Out: a ``LayerProfile`` each.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edge_van.benchmark_record import LayerProfile, LayerTime, Skipped
from edge_van.progress import Reporter
from edge_van.runtimes.base import Kernel
from edge_van.timing.models import TimedModel
from edge_van.timing.sessions import OpenedModels, reason

PROFILE_RUNS = 30


def profile_layers(
    models: Sequence[TimedModel], opened: OpenedModels, reporter: Reporter, skipped: list[Skipped]
) -> tuple[LayerProfile, ...]:
    """Where the engine's profiler is read: the median of every kernel over the runs."""
    profiled = [m for m in models if m.candidate.runtime in ("openvino", "onnxruntime")]
    profiles = []
    with reporter.stage("Timing the layers", len(profiled)) as advance:
        for model in profiled:
            try:
                with opened.open(model, profile=True) as session:
                    feed = opened.feed(session, 1)
                    for _ in range(opened.settings.warmup_runs):
                        session.run(feed)
                    runs = session.profile(feed, PROFILE_RUNS)
                profiles.append(LayerProfile(model.candidate.name, len(runs), median_layers(runs)))
            except Exception as error:  # noqa: BLE001  what was measured before is not lost for it
                skipped.append(Skipped(f"{model.candidate.name}, layers", reason(error)))
            advance(1)
    return tuple(profiles)


def median_layers(runs: Sequence[Sequence[Kernel]]) -> tuple[LayerTime, ...]:
    """One row for each kernel, in the order of the run that shows most. A run that leaves one out took 0 ms for it.

    OpenVINO does not list a kernel that took less than the microsecond it counts in.
    """
    longest = max(runs, key=len)
    times: dict[tuple[str, str, str], list[float]] = {k[:3]: [] for k in longest}
    for run in runs:
        for kernel in run:
            times.setdefault(kernel[:3], []).append(kernel.ms)
    return tuple(
        LayerTime(*key, round(float(np.median([*found, *[0.0] * (len(runs) - len(found))])), 4))
        for key, found in times.items()
    )
