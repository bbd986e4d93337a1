"""Writes the recorded results into ``docs/numbers.md``, and four rows of them into the README.

In: ``benchmarks/results/*.json``. Out: the page whole, and the README between its ``numbers`` marks; a figure is never
typed by hand.
"""

from __future__ import annotations

import json
from pathlib import Path

from tables import (
    arm,
    budget,
    bundles,
    classifier,
    common,
    dense,
    fleet,
    gate,
    image,
    models,
    peers,
    qat,
    scaling,
    speed,
    tensorrt,
    training,
)

HERE = Path(__file__).parent
README, PAGE = HERE.parent / "README.md", HERE.parent / "docs" / "numbers.md"
BEGIN, END = "<!-- numbers -->", "<!-- /numbers -->"
HEAD = """\
# Numbers

<!-- Written whole by `python benchmarks/write_numbers.py`: change that or the results, not this page. -->

Every figure comes from a file in [`benchmarks/results`](../benchmarks/results), which keeps the raw samples.
The machine and the command stand under each table; [`benchmarks/README.md`](../benchmarks/README.md) describes the
commands.

| term | meaning |
|---|---|
| drop | top-1 of FP32 minus top-1 of the model, on the same images; negative where the model has more of them right |
| agreement | share of the images that get the same class as from FP32 |
| logit SQNR | signal to quantisation noise of the logits, against those of FP32 |
| exactly | the Q/DQ graph as it is written, computed by ONNX Runtime without integer kernels |
| ships | part of a bundle by default |
| folded | without BatchNorm: [how it works](how-it-works.md#1-fold) |
"""
TABLES = (
    ("ptq_accuracy", models.accuracy),
    ("ptq_choices", budget.choices),
    ("calibration_samples", budget.samples),
    ("budgets", budget.budgets),
    ("sensitivity_halves", budget.sensitivity),
    ("qat_accuracy", qat.qat),
    ("arm_accuracy", arm.arm),
    ("train_speed", training.speed),
    ("cpu_latency", models.latency),
    ("bundle_numbers", bundles.bundles),
    ("ratio_stability", scaling.stability),
    ("clock", peers.clock),
    ("peers", peers.peers),
    ("roofline", speed.roofline),
    ("graph_choices", speed.choices),
    ("throughput", speed.throughput),
    ("scaling", scaling.scaling),
    ("scenes", dense.scenes),
    ("dense_scaling", dense.dense_scaling),
    ("tensorrt_engines", tensorrt.engines),
    ("ptq_cost", models.cost),
    ("classifier_threads", classifier.classifier),
    ("gate_power", gate.gate),
    ("image_size", image.image),
    ("fleet", fleet.fleet),
)


def results(name: str) -> common.Results:
    """Those of one script. Machines whose CPU multiplies int8 in one instruction come first."""
    found = [json.loads(path.read_text()) for path in sorted((HERE / "results").glob(f"{name}-*.json"))]
    return sorted(found, key=lambda result: not any("vnni" in flag for flag in result["machine"]["flags"]))


def page() -> str:
    """``docs/numbers.md``."""
    parts = [HEAD]
    for name, table in TABLES:
        if found := results(name):
            parts += [*table(found), ""]
    return "\n".join(parts)


def block() -> str:
    """What stands between the README's marks."""
    return "\n".join(models.summary(results("ptq_accuracy"), results("cpu_latency")))


def main() -> None:
    """Write the page, and the README between its marks."""
    PAGE.write_text(page(), encoding="utf-8")
    text = README.read_text(encoding="utf-8")
    head, rest = text.split(BEGIN)
    tail = rest.split(END)[1]
    README.write_text(f"{head}{BEGIN}\n{block()}\n{END}{tail}", encoding="utf-8")


if __name__ == "__main__":
    main()
