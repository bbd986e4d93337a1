"""What INT8 costs in accuracy: overall, by scheme, in the logits, by class, and the images that flipped.

In: a side of a report. Out: blocks of its page.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edge_van.bundle.records import Accuracy, ClassChange, Interval, Manifest, SchemeResult
from edge_van.reports.figures.rows import Axis, BarRow, ChangeRow, IntervalRow, bars, changes, intervals
from edge_van.reports.format import interval, number, points, signed, signed_interval
from edge_van.reports.lookup import Runs, limit_points, metric_of, shipped_accuracy, titled
from edge_van.reports.record import Explanation, Report, Side
from edge_van.reports.view import Block, Flips, Plot, Table, Text, columns
from edge_van.statistics import wilson_interval
from edge_van.text import precision_words

NO_MANIFEST = Text("A benchmark's result holds no accuracy: give the bundle's folder to see it.", "hint")
NOT_MEASURED = Text("Accuracy was never measured: edge-van quantize --data DIR measures it on labelled images.", "hint")
NO_CLASSES = Text("Accuracy by class is that of OpenVINO's INT8, which was not measured on labelled images.", "hint")
TARGETS = {"openvino": "OpenVINO", "tensorrt": "TensorRT"}
MOST_CLASSES = 20
EXACT_DB = 150.0
"""Logits that agree to so many dB are the same computation: float32 ends near there."""

_SHARES = (
    "The intervals of {metric} are Wilson's, of each model by itself. INT8 is judged by that of the drop, Newcombe's "
    "for paired proportions: both models saw the same images."
)
_RANKED = (
    "mAP is the mean over the labels of their average precision. INT8 is judged by the interval of the drop, from "
    "images drawn again and again, the same for both models."
)


def drop_ends(report: Report) -> tuple[float, ...]:
    """Ends of every measured drop's interval, and the limits: the plots of all sides share an axis."""
    manifests = [side.manifest for side in report.sides if side.manifest is not None]
    bounds = [a.drop_interval for manifest in manifests for _, _, a in _measured(manifest)]
    return (*map(limit_points, manifests), *(end for bound in bounds for end in (bound.low, bound.high)))


def overall(side: Side, runs: Runs, name: str, ends: Sequence[float] = ()) -> tuple[Block, ...]:
    """FP32 beside INT8, and every measured scheme's drop against the limit; the axis holds ``ends`` too."""
    manifest = side.manifest
    if manifest is None:
        return (NO_MANIFEST,)
    if (accuracy := shipped_accuracy(manifest)) is None:
        return (NOT_MEASURED,)
    return (_both(accuracy, manifest), _drops(manifest, name, ends))


def _both(a: Accuracy, manifest: Manifest) -> Table:
    five = None
    if a.top5_fp32_percent is not None and a.top5_int8_percent is not None:
        five = a.top5_fp32_percent - a.top5_int8_percent
    is_share = a.metric != "mAP"  # of images that are right
    own = [interval(_interval_of(p, a.images)) if is_share else "" for p in (a.fp32_percent, a.int8_percent)]
    rows = [
        (f"{a.metric}, %", number(a.fp32_percent), number(a.int8_percent), signed(a.drop_points)),
        ("95 % intervals", *own, signed_interval(a.drop_interval)),
    ]
    for m in a.others:
        drop = f"{signed(m.drop_points)} ({signed_interval(m.drop_interval)})"
        rows.append((f"{m.name}, %", number(m.fp32_percent), number(m.int8_percent), drop))
    if five is not None:
        rows.append(("top-5, %", number(a.top5_fp32_percent), number(a.top5_int8_percent), signed(five)))
    rows += [
        ("agreement, %", "", number(a.agreement_percent), ""),
        ("logit SQNR, dB", "", number(a.logit_sqnr_db, 1), ""),
    ]
    left_out = f", {a.broken} unreadable left out" if a.broken else ""
    return Table(
        f"{a.images:,} images of {a.data}{left_out}; a drop of up to {points(limit_points(manifest))} is allowed",
        columns("", "FP32", a.model, "drop, points"),
        tuple(rows),
        note=_SHARES.format(metric=a.metric) if is_share else _RANKED,
    )


def _interval_of(percent: float, images: int) -> Interval:
    low, high = wilson_interval(percent / 100, images)
    return Interval(100 * low, 100 * high)


def _measured(manifest: Manifest) -> list[tuple[str, str, Accuracy]]:
    """(label, precision, accuracy) of everything whose accuracy was measured beside FP32's."""
    own = (
        ("OpenVINO INT8", "int8", manifest.accuracy),
        *((f"OpenVINO {precision_words(name)}", name, found) for name, found in manifest.precisions.items()),
        ("FP32 rounded to BF16, graph", "bf16", manifest.rounded),
    )
    schemes = (
        (f"{TARGETS.get(s.target, s.target)} {s.name}, graph", s.name, s.accuracy)
        for s in manifest.schemes
        if s.name != "fp32"
    )
    return [(label, precision, a) for label, precision, a in (*own, *schemes) if a is not None]


def _drops(manifest: Manifest, name: str, ends: Sequence[float]) -> Block:
    accuracies, limit = _measured(manifest), limit_points(manifest)
    rows = [IntervalRow(label, p, a.drop_points, a.drop_interval) for label, p, a in accuracies]
    metric = metric_of(manifest)
    title = f"{titled(metric)} drop of every measured scheme against the limit"
    wide, narrow = intervals(
        f"{name}-drop",
        title,
        rows,
        axis=Axis(f"points of {metric} lost; further left is better", ends),
        reference=0.0,
        limit=(limit, f"limit {limit:g}"),
        show=signed,
    )
    table = Table(
        "The figures",
        columns("scheme", f"{metric}, %", "drop, points", "its 95 % interval", "agreement, %", "SQNR, dB", "images"),
        tuple(
            (
                label,
                number(a.int8_percent),
                signed(a.drop_points),
                signed_interval(a.drop_interval),
                number(a.agreement_percent),
                number(a.logit_sqnr_db, 1),
                f"{a.images:,}",
            )
            for label, _, a in accuracies
        ),
        folded=True,
    )
    caption = (
        "Points with their 95 % intervals. OpenVINO INT8 is what its kernels gave on the machine named below; graphs "
        "were computed exactly, as they are written."
    )
    return Plot(f"{name}-drop", title, wide, narrow, table, caption)


def sqnr_values(report: Report) -> tuple[float, ...]:
    """In dB, of everything that is drawn of any side: the plots of all sides share an axis."""
    manifests = [side.manifest for side in report.sides if side.manifest is not None]
    return tuple(row.sqnr_db for m in manifests for row in _noise(m) if row.sqnr_db < EXACT_DB)


@dataclass(frozen=True)
class _Noise:
    """One model's logits against FP32's."""

    label: str
    precision: str
    sqnr_db: float
    agreement_percent: float
    images: int


def _noise(manifest: Manifest) -> list[_Noise]:
    rows = []
    if (a := manifest.accuracy) is not None:
        rows.append(_Noise("OpenVINO INT8", "int8", a.logit_sqnr_db, a.agreement_percent, a.images))
    for s in manifest.schemes:
        precision = "int8" if s.target == "openvino" else s.name
        name = "INT8" if s.name == "openvino" else s.name
        rows.append(_Noise(f"{TARGETS.get(s.target, s.target)} {name}, graph", precision, *_logits(s)))
    return rows


def sqnr(side: Side, runs: Runs, name: str, also: Sequence[float] = ()) -> tuple[Block, ...]:
    """Signal to quantisation noise of every scheme's logits; the axis holds ``also`` too."""
    if side.manifest is None:
        return (Text("A benchmark's result holds no logits: give the bundle's folder to see them.", "hint"),)
    rows = _noise(side.manifest)
    shown = [row for row in rows if row.sqnr_db < EXACT_DB]
    if not shown:
        return (Text("No scheme's logits differ from FP32's."),)
    title = "Logit SQNR by scheme"
    wide, narrow = bars(
        f"{name}-sqnr",
        title,
        [BarRow(r.label, r.precision, ((max(r.sqnr_db, 0.0),),), (number(r.sqnr_db, 1),)) for r in shown],
        axis=Axis("dB; longer is closer to FP32", also),
    )
    table = Table(
        "The figures",
        columns("scheme", "SQNR, dB", "agreement, %", "images"),
        tuple((r.label, number(r.sqnr_db, 1), number(r.agreement_percent), f"{r.images:,}") for r in rows),
        folded=True,
    )
    caption = (
        "10 log10 of the sum of FP32's squared logits over the sum of squared differences. Six dB more is half the "
        "error."
    )
    return (Plot(f"{name}-sqnr", title, wide, narrow, table, caption),)


def _logits(scheme: SchemeResult) -> tuple[float, float, int]:
    """Of the most images that the scheme was run on."""
    if (a := scheme.accuracy) is not None:
        return a.logit_sqnr_db, a.agreement_percent, a.images
    return scheme.logit_sqnr_db, scheme.agreement_percent, scheme.images


def recalls(report: Report) -> tuple[float, ...]:
    """Before and after, of every class that is drawn of any side: the plots of all sides share an axis."""
    measured = [side.manifest.accuracy for side in report.sides if side.manifest is not None]
    shown = [c for a in measured if a is not None for c in a.most_changed()[:MOST_CLASSES]]
    return tuple(value for c in shown for value in (c.recall_fp32_percent, c.recall_int8_percent))


def classes(side: Side, runs: Runs, name: str, also: Sequence[float] = ()) -> tuple[Block, ...]:
    """Recall by class before and after, and the images whose prediction flipped; the recalls' axis holds ``also``
    too."""
    blocks: list[Block] = []
    accuracy = None if side.manifest is None else side.manifest.accuracy
    if accuracy is not None and accuracy.classes:
        blocks.append(_recalls(accuracy, name, also))
    else:
        blocks.append(NO_MANIFEST if side.manifest is None else NO_CLASSES)
    if (explanation := side.explanation) is None:
        blocks.append(Text(f"Images whose prediction flipped: {side.no_explanation}", "hint"))
        return tuple(blocks)
    blocks.append(Text(_flipped(explanation)))
    if explanation.flips:
        blocks.append(Flips(explanation.flips))
    return tuple(blocks)


def _flipped(explanation: Explanation) -> str:
    """How many images flipped, which way, and which of them are shown."""
    count = explanation.lost + explanation.gained + explanation.both_wrong
    broken = f" ({explanation.broken} unreadable left out)" if explanation.broken else ""
    text = (
        f"Of {explanation.images:,} images of {explanation.data}{broken} {count:,} have another prediction in INT8: "
        f"{explanation.lost} that only FP32 had right, {explanation.gained} that only INT8 has right, "
        f"{explanation.both_wrong} that neither has."
    )
    if count > len(explanation.flips) > 0:
        text += (
            f" Shown are {len(explanation.flips)} of the {count:,}: those that only FP32 had right first, then "
            f"those that only INT8 has right; of each kind those first whose two predictions are the most probable."
        )
    return text


def _recalls(accuracy: Accuracy, name: str, also: Sequence[float]) -> Plot:
    ranked = accuracy.most_changed()
    shown = ranked[:MOST_CLASSES]
    title = "Recall by class, FP32 to INT8"
    wide, narrow = changes(
        f"{name}-recall",
        title,
        [ChangeRow(c.name, c.recall_fp32_percent, c.recall_int8_percent) for c in shown],
        axis="recall, %",
        also=also,
    )
    table = Table(
        "The figures",
        columns("class", "images", "FP32, %", "INT8, %", "change", "predictions that moved, to", text=(0, 5)),
        tuple(
            (
                c.name,
                f"{c.images:,}",
                number(c.recall_fp32_percent, 1),
                number(c.recall_int8_percent, 1),
                signed(c.recall_int8_percent - c.recall_fp32_percent, 1),
                _moved(c),
            )
            for c in ranked
        ),
        folded=True,
    )
    which = f" The {len(shown)} of {len(ranked)} classes that changed most." if len(ranked) > len(shown) else ""
    caption = f"The classes that changed most are on top.{which} {_resolution(accuracy)}"
    return Plot(f"{name}-recall", title, wide, narrow, table, caption)


def _moved(change: ClassChange) -> str:
    ranked = change.moved_most()
    more = f" and {len(ranked) - 4} more" if len(ranked) > 4 else ""
    return ", ".join(f"{name} {count}" for name, count in ranked[:4]) + more


def _resolution(accuracy: Accuracy) -> str:
    """What one image weighs in the smallest class, so that nobody reads a flip of one as a trend."""
    fewest = min(c.images for c in accuracy.classes)
    return f"With {fewest:,} images in the smallest class one image is {100 / max(fewest, 1):.1f} points there."
