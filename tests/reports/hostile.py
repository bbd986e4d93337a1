"""What images show of a bundle, made up; and evidence under names that are markup, attributes and terminal codes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from bundle_samples import MANIFEST
from samples import CLASSES, DOUBT, HOSTILE

from edge_van.reports.pictures import jpeg
from edge_van.reports.record import CAMPair, CAMs, Explanation, Flip, Side, TopClass
from edge_van.timing.record import BenchmarkResult, Skipped


def explanation(name: str = "") -> Explanation:
    """Seven of ten flips and four pairs, one of them flipped, all of images twice as wide as high; every name ends with
    ``name``."""
    generator = np.random.default_rng(0)
    picture = jpeg(generator.integers(0, 256, (48, 96, 3), dtype=np.uint8))
    classes = [f"{c}{name}" for c in CLASSES]
    flips = tuple(
        Flip(f"val/{c}/{i}.png", picture, c, TopClass(c, 0.46), TopClass(classes[0], 0.51), "lost")
        for i, c in enumerate(classes[1:8])
    )
    pairs = (
        CAMPair(flips[0].image, classes[1], classes[0], picture, picture, picture, 0.99),
        *(CAMPair(f"{c}.png", c, c, picture, picture, picture, 0.99) for c in classes[:2]),
        CAMPair(f"constant{name}.png", classes[3], classes[3], picture, picture, picture, None),
    )
    correlations = tuple(generator.uniform(0.9, 1.0, 60).tolist())
    cams = CAMs(3, pairs, 64, correlations, 4, 0.95, 0.91, 0.9)
    machine = replace(MANIFEST.machine, cpu=f"a cpu{name}")
    return Explanation(f"validation.zip{name}", machine, 2000, 1, 5, 3, 2, flips, cams)


def hostile_side(name: str, side: Side) -> Side:
    """The same evidence under names that are markup, terminal codes and formulas."""
    content = side.manifest
    assert content is not None
    assert content.accuracy is not None
    classes = tuple(replace(c, name=f"{HOSTILE}{i}") for i, c in enumerate(content.accuracy.classes))
    content = replace(
        content,
        accuracy=replace(content.accuracy, classes=classes, data=HOSTILE),
        checkpoint=HOSTILE,
        warnings=(HOSTILE,),
    )
    return replace(side, name=name + HOSTILE, manifest=content, explanation=explanation(HOSTILE))


def hostile_run(result: BenchmarkResult) -> BenchmarkResult:
    """The same run under such a command, machine, doubt, runtime, precision, kernel and reason."""
    last = replace(result.models[-1], runtime=HOSTILE, precision=HOSTILE, takes=HOSTILE, settings=HOSTILE)
    kernels = tuple(replace(layer, operator=HOSTILE, kernel=HOSTILE) for layer in result.layers[0].layers[:3])
    return replace(
        result,
        command=HOSTILE,
        machine=replace(result.machine, cpu=HOSTILE),
        models=(*result.models[:-1], last),
        layers=(replace(result.layers[0], layers=kernels + result.layers[0].layers[3:]), *result.layers[1:]),
        doubts=(replace(DOUBT, text=HOSTILE),),
        skipped=(Skipped(HOSTILE, HOSTILE),),
    )
