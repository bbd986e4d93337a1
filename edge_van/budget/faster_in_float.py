"""Which kinds of layers this CPU runs sooner in float than in INT8: measured in place, the whole model at a time.

In: what makes candidates, a ``Recipe``. Out: layers' names. A layer's kernel alone does not tell: left in float, it
spares the quantiser before it, and the layer before it may write what others read in float anyway.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from edge_van.budget.trial import Trials
from edge_van.bundle.layout import INT8_IR
from edge_van.bundle.recipe import Recipe
from edge_van.bundle.records import LatencyRow
from edge_van.errors import VerificationError
from edge_van.model.layer_names import Part, part_of
from edge_van.quantization.run import openvino_scheme_of
from edge_van.quantization.scheme import place_of, roles
from edge_van.runtimes.model_file import ModelFile
from edge_van.timing.latency import RunLength, measure_latency

KINDS = (Part.LKA_LOCAL, Part.LKA_DILATED, Part.FFN_DEPTHWISE, Part.HEAD)
"""The others were slower in float at 64 and at 224 px on one CPU: see graph_choices.py in benchmarks/."""
LEAST_GAIN = 1.005
"""What an interval's lower end must be over: one file timed twice in graph_choices.py was 1.003 and 1.004 apart."""
LENGTH = RunLength(300, 30.0, bound_seconds=120.0)
WHOLE = "all in INT8"


def faster_in_float(trials: Trials, recipe: Recipe) -> tuple[str, ...]:
    """Layers of the kinds that are shown to make the model faster where they are left in float; none where all are
    best in INT8. ``recipe`` trains nothing and leaves no layer in float.

    Raises as the stages that it runs.
    """
    layers = _layers(trials, recipe)
    if not layers:
        return ()
    with TemporaryDirectory(prefix="edge-van-float-layers-") as name:
        folder = Path(name)
        made = {WHOLE: _made(trials, recipe, folder)}
        for kind, names in layers.items():
            try:
                made[kind] = _made(trials, replace(recipe, float_layers=names), folder, kind)
            except VerificationError as error:
                trials.job.work.warn([f"with {kind} in float the model cannot be made: {error}"])
        rows = _timed(trials, made, f"Timing {len(made) - 1} kinds of layers in float")
        faster = [kind for kind in layers if kind in rows and rows[kind].ratio_interval.low > LEAST_GAIN]
        if len(faster) < 2:
            return layers[faster[0]] if faster else ()
        best = max(faster, key=lambda kind: rows[kind].ratio)
        union = tuple(name for kind in faster for name in layers[kind])
        try:
            several = _made(trials, replace(recipe, float_layers=union), folder, "several")
        except VerificationError as error:
            trials.job.work.warn([f"with {', '.join(faster)} in float the model cannot be made: {error}"])
            return layers[best]
        rows = _timed(trials, {best: made[best], "several": several}, "Timing these kinds together")
        return union if rows["several"].ratio_interval.low > LEAST_GAIN else layers[best]


def _layers(trials: Trials, recipe: Recipe) -> dict[str, tuple[str, ...]]:
    """The layers of each of ``KINDS`` that the recipe's scheme quantises."""
    scheme, captured = openvino_scheme_of(recipe), trials.prepare_for(recipe).captured
    places = [place_of(node, role) for node, role in roles(captured) if role in scheme.roles]
    found = {str(kind): tuple(place for place in places if part_of(place) is kind) for kind in KINDS}
    return {kind: names for kind, names in found.items() if names}


def _made(trials: Trials, recipe: Recipe, folder: Path, name: str = "whole") -> Path:
    """The recipe's OpenVINO model, in a file of its own."""
    trials.make(recipe)
    source, path = trials.job.place(INT8_IR), folder / f"{name.replace(' ', '_')}.xml"
    for suffix in (".xml", ".bin"):
        shutil.copyfile(source.with_suffix(suffix), path.with_suffix(suffix))
    return path


def _timed(trials: Trials, made: Mapping[str, Path], title: str) -> dict[str, LatencyRow]:
    """Beside the first of them, in turns."""
    models: Sequence[ModelFile] = [ModelFile(name, "openvino", path) for name, path in made.items()]
    with trials.job.work.reporter.stage(f"{title}, at most 120 s", LENGTH.rounds) as advance:
        latency = measure_latency(models, baseline=models[0].name, length=LENGTH, progress=advance)
    trials.job.work.warn(latency.notes)
    return {row.name: row for row in latency.rows}
