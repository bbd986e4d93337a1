"""Which layers to leave in float first: what that gains in noise, for the time that it costs.

In: the FP32 and INT8 files of one network, calibration images. Out: layers' names, the best bargain first.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_van.bundle.layout import FP32_IR, INT8_IR, OPENVINO_ONNX
from edge_van.errors import VerificationError
from edge_van.export.job import ExportJob
from edge_van.export.models import as_sent
from edge_van.export.openvino import INPUT
from edge_van.model.layer_names import part_at_start, part_of
from edge_van.quantization.switched_session import SwitchedGraph
from edge_van.runtimes.onnx_file import read_onnx
from edge_van.runtimes.openvino import OpenVINOSession
from edge_van.statistics import sqnr_db_per_image

IMAGES = 64
WARMUP_RUNS, TIMED_RUNS, TURNS = 10, 30, 5
SMALLEST_COST_MS = 0.0005
"""Half of what the engine's profiler can tell apart: a layer that costs nothing measurable costs that."""


def bargains(job: ExportJob, float_network: Path) -> tuple[str, ...]:
    """Layers by noise that goes for a millisecond that comes, from the job's files of a calibrated network;
    ``float_network`` is that network's own ONNX file before it was quantised.

    The noise is what a layer makes alone, on calibration images: the images that accuracy is measured on choose
    nothing here. The time is its kernel's in float less its kernel's in INT8, from the engine's profiler.
    """
    pixels, work = job.images.pixels[:IMAGES], job.work
    noise = _noise(job, float_network, pixels)
    image = as_sent(pixels[:1], job.spec)
    with work.reporter.stage("Timing each layer"):
        fp32, int8 = layer_times([job.place(file) for file in (FP32_IR, INT8_IR)], image)
    cost = {name: max(fp32.get(name, 0.0) - int8.get(name, 0.0), SMALLEST_COST_MS) for name in noise}
    return tuple(sorted(noise, key=lambda name: -noise[name] / cost[name]))


def _noise(job: ExportJob, float_network: Path, pixels: NDArray[np.uint8]) -> dict[str, float]:
    """Share of an image's logits, squared, that each layer alone makes: the geometric mean of the images, as the sum of
    so few would be that of the two or three which one layer strikes most."""
    quantized, plain = (read_onnx(path) for path in (job.place(OPENVINO_ONNX), float_network))
    noise = {}
    with (
        tempfile.TemporaryDirectory(prefix="edge-van-layers-") as folder,
        SwitchedGraph(quantized, plain, job.spec, Path(folder)) as graph,
        job.work.reporter.stage("Measuring the noise of each layer", len(graph.places)) as advance,
    ):
        if kept := [place.name for place in graph.places if place.kept]:
            raise VerificationError(f"{kept[0]} was quantised from other weights than those of {float_network.name}")
        off = graph.logits(pixels, graph.none())
        for index, place in enumerate(graph.places):
            if part_of(place.name) is not None:
                only = graph.none()
                only[index] = True
                each_db = sqnr_db_per_image(off, graph.logits(pixels, only))
                noise[place.name] = float(10.0 ** (-each_db.mean() / 10.0))
            advance(1)
    return noise


def layer_times(paths: Sequence[Path], image: NDArray[Any]) -> list[dict[str, float]]:
    """Of each file the milliseconds of the kernels that carry a layer's name, the median of several turns: what a
    machine does meanwhile falls on all files alike."""
    turns: list[list[dict[str, float]]] = [[] for _ in paths]
    with ExitStack() as stack:
        sessions = [stack.enter_context(OpenVINOSession(path, profile=True)) for path in paths]
        for _ in range(TURNS):
            for session, own in zip(sessions, turns, strict=True):
                own.append(_once(session, image))
    names = [{name for sums in own for name in sums} for own in turns]
    return [
        {name: float(np.median([sums.get(name, 0.0) for sums in own])) for name in every}
        for own, every in zip(turns, names, strict=True)
    ]


def _once(session: OpenVINOSession, image: NDArray[Any]) -> dict[str, float]:
    sums: dict[str, float] = {}
    for kernel in session.profile({INPUT: image}, warmup=WARMUP_RUNS, runs=TIMED_RUNS):
        if part_at_start(kernel.name) is not None:
            name = kernel.name.split("/")[0]
            sums[name] = sums.get(name, 0.0) + kernel.ms
    return sums
