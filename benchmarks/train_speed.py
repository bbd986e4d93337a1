"""How many images a second a training takes here, at each input size, and how long a recipe would be.

In: variants, sizes, a recipe. Out: a table, and a JSON with every step. Updates are whole: augmentation, forward,
backward, AdamW, averaged weights; the images are random, which changes no time.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import RESULTS, results_folder, write_result

from edge_van.input_spec import InputSpec
from edge_van.model.van import VAN
from edge_van.training.images import InMemory
from edge_van.training.loop import Training, start_accelerator
from edge_van.training.settings import TrainSettings, load_train_settings

CLASSES = 10


def training(variant: str, size: int, batch: int) -> Training:
    """Of 2,048 random images, after its first two steps, which are slower."""
    settings = TrainSettings(epochs=1000, batch=batch, size=size)
    generator = np.random.default_rng(0)
    pixels = generator.integers(0, 256, (2048, size, size, 3), np.uint8)
    images = InMemory(pixels, generator.integers(0, CLASSES, 2048))
    torch.manual_seed(0)
    spec = InputSpec(size=(size, size), crop=1.0)
    made = Training(VAN(variant, CLASSES), images, spec, settings, start_accelerator(settings, cpu=True))
    for _ in range(2):
        made.take_step_()
    return made


def hours(settings: TrainSettings, images: int, rates: dict[int, float]) -> float:
    """Of a training of so many images; between two measured sizes its time is that of the areas between."""
    steps = settings.steps(images)
    counts = Counter(settings.size_at(step, steps) for step in range(steps))
    if not min(rates) <= min(counts) <= max(counts) <= max(rates):
        raise SystemExit(f"the recipe trains at {min(counts)} to {max(counts)} px: give --sizes that reach as far")
    areas = sorted(size**2 for size in rates)
    seconds = [1.0 / rates[round(area**0.5)] for area in areas]
    return sum(n * settings.batch * float(np.interp(s**2, areas, seconds)) for s, n in counts.items()) / 3600


def main() -> None:
    """Time every variant at every size in turns, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--variant", nargs="+", default=["b0", "b1"])
    parser.add_argument("--sizes", type=int, nargs="+", default=[32, 48, 64])
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--recipe", type=Path, help="a training's TOML file, to say how long --images take by it")
    parser.add_argument("--images", type=int, default=50_000)
    parser.add_argument("--results", type=results_folder, default=RESULTS)
    args = parser.parse_args()
    settings = None if args.recipe is None else load_train_settings(args.recipe)
    pairs = list(itertools.product(args.variant, args.sizes))
    trainings = [training(variant, size, args.batch) for variant, size in pairs]
    steps: list[list[float]] = [[] for _ in pairs]
    for _ in range(args.rounds):
        for run, seconds in zip(trainings, steps, strict=True):
            start = time.perf_counter()
            run.take_step_()
            seconds.append(time.perf_counter() - start)
    rows: list[dict[str, Any]] = []
    for (variant, size), seconds in zip(pairs, steps, strict=True):
        rate = args.batch / statistics.median(seconds)
        spread = [args.batch / max(seconds), args.batch / min(seconds)]
        rows.append({"variant": variant, "size": size, "images_per_s": rate, "spread": spread, "steps_s": seconds})
        print(f"{variant} at {size:3d} px: {rate:6.1f} images/s ({spread[0]:.1f} to {spread[1]:.1f})")
    content: dict[str, Any] = {"batch": args.batch, "rows": rows}
    if settings is not None:
        content["recipe"], content["images"] = args.recipe.name, args.images
        content["recipe_hours"] = {
            v: hours(settings, args.images, {r["size"]: r["images_per_s"] for r in rows if r["variant"] == v})
            for v in args.variant
        }
        for variant, needed in content["recipe_hours"].items():
            print(f"{args.recipe.name}: {needed:.1f} hours for {variant} of {args.images:,} images")
    write_result(args, content)


if __name__ == "__main__":
    sys.exit(main())
