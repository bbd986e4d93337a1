"""Results as tables on standard output.

In: records. Out: what a person reads at the end of a command, the next command last.
"""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from edge_van.bundle.layout import FP32_ONNX
from edge_van.bundle.records import Accuracy, Latency, Manifest, MetricChange
from edge_van.cli.tables_budget import show_budget
from edge_van.text import one_line, precision_words

if TYPE_CHECKING:
    from edge_van.bundle.bundle import Bundle
    from edge_van.doctor import Check
    from edge_van.model.complexity import Complexity, VariantInfo
    from edge_van.model.dla import DLAReport

WORST_CLASSES = 5


UNLIMITED_WIDTH = 500
"""Columns where standard output is no terminal: nothing is cut off or broken in a file or a pipe."""


class _Console(Console):
    """Prints lines with everything unprintable escaped: names in a stranger's bundle may hold terminal codes."""

    def print(self, *objects: Any, **options: Any) -> None:
        super().print(*(one_line(o) if isinstance(o, str) else o for o in objects), **options)


class _Table(Table):
    """A table in the style of all results, its title to the left."""

    def __init__(self, title: str | None = None) -> None:
        super().__init__(title=None if title is None else one_line(title), title_justify="left")

    def add_row(self, *cells: Any, **options: Any) -> None:
        super().add_row(*(one_line(c) if isinstance(c, str) else c for c in cells), **options)


def console_for_results() -> Console:
    """Standard output, without markup and emoji codes: paths and ``edge-van[quantize]`` are shown as they are."""
    console = _Console(highlight=False, markup=False, emoji=False)
    if not console.is_terminal:
        console.width = UNLIMITED_WIDTH
    return console


def table_for_results(title: str, columns: Sequence[str], *, left: Sequence[str] = ()) -> Table:
    """An empty table; the columns named in ``left`` are aligned to the left, numbers to the right."""
    table = _Table(title=title)
    for column in columns:
        table.add_column(one_line(column), justify="left" if column in left else "right")
    return table


def show_bundle(bundle: Bundle) -> None:
    """The summary of ``quantize``, and of ``info`` on any machine."""
    console, manifest = console_for_results(), bundle.manifest
    spec = manifest.input_spec
    console.print(
        f"VAN-{manifest.variant}, {manifest.num_classes} classes, {spec.size[0]}x{spec.size[1]} px, "
        f"{'calibrated' if manifest.method == 'ptq' else 'trained'} on {manifest.calibration.images} images "
        f"({manifest.calibration.left_out} left out: also in the validation set, repeated or unreadable)"
    )
    if manifest.accuracy is not None:
        show_accuracy(manifest.accuracy, classes=False)
    if manifest.latency is not None:
        _show_latency(console, manifest.latency, manifest.machine.cpu)
    for accuracy in manifest.precisions.values():
        agreement = f"agreement {accuracy.agreement_percent:.2f} %"
        console.print(f"{accuracy.model}: {accuracy.metric} drop {_drop(accuracy)}, {agreement}")
    if manifest.cpu is not None:
        active = precision_words(str(manifest.cpu.active))
        console.print(f"Active on {manifest.machine.cpu}: {active}, {manifest.cpu.reason}", soft_wrap=True)
    _show_schemes(console, manifest)
    if manifest.budget is not None:
        show_budget(console, _Table("What was tried to keep within the budget"), manifest.budget)
    for warning in manifest.warnings:
        console.print(f"warning: {warning}")
    size = sum(f.size_bytes for f in manifest.files) / 1e6
    console.print(f"Bundle: {bundle.path}  ({len(manifest.files)} files, {size:.1f} MB)", soft_wrap=True)
    command = f"edge-van validate {shlex.quote(str(bundle.path))} --data YOUR_IMAGES"
    if manifest.schemes and manifest.schemes[0].target != "openvino":
        command += f" --scheme {manifest.schemes[0].name}"
    console.print(f"Next:   {command}", soft_wrap=True)  # not broken, so that it can be copied


def _show_schemes(console: Console, manifest: Manifest) -> None:
    measured = [a for a in (manifest.rounded, *(s.accuracy for s in manifest.schemes)) if a is not None]
    metric = measured[0].metric if measured else Accuracy.metric
    table = _Table(title="Schemes (against FP32 on held-out images, computed exactly)")
    for column in ("file", "INT8 layers, rest", "SQNR dB", "agreement %", f"{metric} drop (95 % interval)", "images"):
        table.add_column(column, justify="left" if column.startswith(("file", "INT8")) else "right", overflow="fold")
    for s in manifest.schemes:
        kind = "none" if not s.quantized_layers else f"{s.quantized_layers} {'' if s.symmetric else 'a'}symmetric"
        if "residual" in s.roles:
            kind += " with gate, residual, LayerNorm"
        drop, images = "-" if manifest.accuracy is None else "see above", s.images
        if (a := s.accuracy) is not None:
            drop, images = _drop(a), a.images
        elif s.target != "openvino":
            drop = "-"
        table.add_row(
            s.file, f"{kind}, {s.float_type}", f"{s.logit_sqnr_db:.1f}", f"{s.agreement_percent:.1f}", drop, str(images)
        )
    if (a := manifest.rounded) is not None:
        noise, same = f"{a.logit_sqnr_db:.1f}", f"{a.agreement_percent:.1f}"
        table.add_row(f"{FP32_ONNX}, rounded", "none, bfloat16", noise, same, _drop(a), str(a.images))
    console.print(table)


def _drop(accuracy: Accuracy | MetricChange) -> str:
    interval = accuracy.drop_interval
    return f"{accuracy.drop_points:+.2f} ({interval.low:+.2f} to {interval.high:+.2f})"


def show_accuracy(accuracy: Accuracy, *, classes: bool = True) -> None:
    """The metrics of both, the drop with its interval; with ``classes`` the ones that changed most."""
    console, a = console_for_results(), accuracy
    table = _Table(title=f"Accuracy on {a.images} images of {a.data}")
    for column in ("", "FP32", one_line(a.model), "drop in points (95 % interval)"):
        table.add_column(column, justify="right" if column else "left")
    table.add_row(
        f"{a.metric} %",
        f"{a.fp32_percent:.2f}",
        f"{a.int8_percent:.2f}",
        _drop(a),
    )
    if a.top5_fp32_percent is not None and a.top5_int8_percent is not None:
        five = a.top5_fp32_percent - a.top5_int8_percent
        table.add_row("top-5 %", f"{a.top5_fp32_percent:.2f}", f"{a.top5_int8_percent:.2f}", f"{five:+.2f}")
    for m in a.others:
        table.add_row(f"{m.name} %", f"{m.fp32_percent:.2f}", f"{m.int8_percent:.2f}", _drop(m))
    console.print(table)
    console.print(
        f"agreement {a.agreement_percent:.2f} %, logit SQNR {a.logit_sqnr_db:.1f} dB; {a.images_per_s:.0f} images/s: "
        f"inference {a.inference_s:.1f} s, waiting for images {a.wait_s:.1f} s (decoding: {a.decode_s:.1f} s of CPU)"
    )
    if a.broken:
        console.print(f"{a.broken} broken images were left out")
    if classes:
        _show_classes(console, accuracy)


def _show_classes(console: Console, accuracy: Accuracy) -> None:
    table = _Table(title="Classes that changed most")
    for column in ("class", "images", "recall FP32 %", "recall INT8 %", "predictions that moved, to"):
        table.add_column(column, justify="left" if column in ("class", "predictions that moved, to") else "right")
    for c in accuracy.most_changed()[:WORST_CLASSES]:
        moved = c.moved_most()[:3]
        table.add_row(
            c.name,
            str(c.images),
            f"{c.recall_fp32_percent:.1f}",
            f"{c.recall_int8_percent:.1f}",
            ", ".join(f"{name} {count}" for name, count in moved),
        )
    console.print(table)


def _show_latency(console: Console, latency: Latency, cpu: str) -> None:
    """``cpu`` measured it, which need not be this machine's."""
    table = _Table(title=f"Latency on {cpu}, batch {latency.batch}, {latency.rounds} interleaved rounds")
    for column in ("OpenVINO", "median ms", "p90 ms", "p99 ms", f"times {latency.baseline.upper()} (95 % interval)"):
        table.add_column(column, justify="left" if column == "OpenVINO" else "right")
    for row in latency.rows:
        table.add_row(
            precision_words(row.name),
            f"{row.median_ms:.2f}",
            f"{row.p90_ms:.2f}",
            f"{row.p99_ms:.2f}",
            f"{row.ratio:.2f} ({row.ratio_interval.low:.2f} to {row.ratio_interval.high:.2f})",
        )
    console.print(table)
    if not any(row.name == "bf16" for row in latency.rows):
        console.print(f"no BF16 row: {cpu} has no BF16 units")
    for note in latency.notes:
        console.print(f"note: {note}")


def show_engines(bundle: Bundle, tag: str) -> None:
    """The summary of ``build``: one row an engine, then the choice."""
    console, engines = console_for_results(), bundle.manifest.engines[tag]
    rows = {row.scheme: row for row in engines.choice.table}
    table = _Table(title=f"Engines for {tag}")
    columns = ("scheme", "layers by datatype", "plan MB", "built in s", "drop", "median ms", "p99 ms")
    for column in columns:
        table.add_column(column, justify="left" if column in columns[:2] else "right")
    for engine in engines.engines:
        row = rows[engine.scheme]
        kinds = Counter(layer.runs_in for layer in engine.layers)
        table.add_row(
            engine.scheme,
            ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items())),
            f"{engine.plan_bytes / 1e6:.1f}",
            f"{engine.build_s:.1f}",
            "-" if row.drop_points is None else f"{row.drop_points:+.2f}",
            "-" if row.median_ms is None else f"{row.median_ms:.3f}",
            "-" if row.p99_ms is None else f"{row.p99_ms:.3f}",
        )
    console.print(table)
    for engine in engines.engines:
        for warning in engine.warnings:
            console.print(f"warning: {engine.scheme}: {warning}")
    for row in engines.choice.table:
        if row.note:
            console.print(f"{row.scheme}: {row.note}")
    console.print(f"Active: {engines.choice.active or 'none'} ({engines.choice.reason})")
    console.print(f"Engines: {bundle.path / 'tensorrt' / tag}", soft_wrap=True)


def show_dla(report: DLAReport) -> None:
    """One row a layer, the sum below."""
    console = console_for_results()
    title = (
        f"VAN-{report.variant} at {report.input_size[0]}x{report.input_size[1]} px on a DLA, by the documented rules"
    )
    table = _Table(title=title)
    for column in ("layer", "operator", "DLA", "why not"):
        table.add_column(column, overflow="fold")
    for layer in report.layers:
        table.add_row(layer.name, layer.operator, "yes" if layer.allowed else "no", layer.reason)
    console.print(table)
    console.print(
        f"{report.allowed} of {len(report.layers)} layers could run on a DLA, with {report.transitions} changes "
        f"between DLA and GPU: a poor target for a VAN, and no default here"
    )
    console.print(f"note: {report.note}")


def show_info(variants: Sequence[VariantInfo], complexity: Sequence[Complexity], kernel_size: int, best: int) -> None:
    """Variants beside the paper, and the cost of a K x K convolution three ways."""
    console = console_for_results()
    table = _Table(title="Variants, counted beside the paper's figures")
    for column in ("variant", "embed dims", "depths", "params M", "paper", "GMACs", "paper", "ImageNet top-1 %"):
        table.add_column(column, justify="left" if column in ("variant", "embed dims", "depths") else "right")
    for v in variants:
        table.add_row(
            v.name,
            ",".join(map(str, v.embed_dims)),
            ",".join(map(str, v.depths)),
            f"{v.params / 1e6:.2f}",
            f"{v.paper_params_m:g}",
            f"{v.macs / 1e9:.2f}",
            f"{v.paper_gmacs:g}",
            "-" if v.paper_top1_percent is None else f"{v.paper_top1_percent:g}",
        )
    console.print(table)
    _show_complexity(console, complexity, kernel_size, best)


def _show_complexity(console: Console, complexity: Sequence[Complexity], kernel_size: int, best: int) -> None:
    """P(K, d) and F(K, d) of the paper's section 3.1."""
    table = _Table(
        title=f"A {kernel_size}x{kernel_size} convolution over b0's first stage (32 channels, 56x56)",
    )
    for column in ("form", "dilation", "params", "GMACs"):
        table.add_column(column, justify="left" if column == "form" else "right")
    for row in complexity:
        dilation = "-" if row.dilation is None else str(row.dilation)
        table.add_row(row.form, dilation, f"{row.params:,}", f"{row.macs / 1e9:.3f}")
    console.print(table)
    console.print(f"cheapest dilation for K = {kernel_size}: d = {best}")


def show_checks(checks: Sequence[Check]) -> None:
    """One line a check."""
    console = console_for_results()
    table = _Table()
    for column in ("check", "status", "version", "detail"):
        table.add_column(column, overflow="fold")
    for c in checks:
        detail = c.detail if c.fix is None else f"{c.detail} ({c.fix})" if c.detail else c.fix
        table.add_row(c.name, c.status, c.version or "", detail)
    console.print(table)
