"""What is printed is what was meant: no markup eaten, nothing cut off in a pipe, a command that can be copied."""

from dataclasses import replace
from pathlib import Path

import pytest
from bundle_samples import ACCURACY, MANIFEST

from edge_van.bundle.bundle import Bundle
from edge_van.bundle.records import ClassChange, Interval, Latency, LatencyRow, SchemeResult
from edge_van.cli.tables import show_accuracy, show_bundle, show_checks, show_info
from edge_van.doctor import Check
from edge_van.model.complexity import best_dilation, complexity_table, variant_table

ODD = "[red]a[/] :dog: b"


def test_names_are_shown_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    classes = (ClassChange(ODD, 5, 80.0, 60.0, {ODD: 3, "cat": 2}),)
    show_accuracy(replace(ACCURACY, data=ODD, classes=classes, broken=2))
    out = capsys.readouterr().out
    assert f"50 images of {ODD}" in out
    assert f"{ODD} 3, cat 2" in out
    assert "2 broken images were left out" in out
    assert "+1.00 (-1.00 to +3.00)" in out
    assert "top-5" not in out


def test_a_strangers_terminal_codes_are_escaped(capsys: pytest.CaptureFixture[str]) -> None:
    evil = "x\x1b]0;title\x07\x1b[31my"
    classes = (ClassChange(evil, 5, 80.0, 60.0, {evil: 3}),)
    accuracy = replace(ACCURACY, data=evil, model=evil, classes=classes)
    show_accuracy(accuracy)
    show_checks([Check(evil, "ok", evil, evil, evil)])
    show_bundle(Bundle(Path(evil), replace(MANIFEST, variant=evil, warnings=(evil,), accuracy=accuracy)))
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert "\x07" not in out
    assert out.count("x\\x1b]0;title\\x07\\x1b[31my") > 8


def test_an_extra_is_not_taken_for_markup(capsys: pytest.CaptureFixture[str]) -> None:
    show_checks([Check("torch", "missing", None, "not installed", "pip install 'edge-van[quantize]'")])
    assert "not installed (pip install 'edge-van[quantize]')" in capsys.readouterr().out


def test_a_bundle_in_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    row = LatencyRow("fp32", "openvino", 1.0, 2.0, 3.0, 1.0, Interval(1.0, 1.0), (1.0,))
    notes = ("[bold] note " + "long " * 30,)
    file = "onnx/model_openvino_with_a_long_name.onnx"
    scheme = SchemeResult("openvino", file, False, ("conv", "residual"), 74, 31.5, 99.0, 64)
    manifest = replace(
        MANIFEST,
        accuracy=replace(ACCURACY, top5_fp32_percent=99.0, top5_int8_percent=98.5),
        latency=Latency(1, 0, 10, 300, "fp32", (row,), 0.5, notes),
        schemes=(scheme,),
        warnings=("[x] " + "word " * 40,),
        rounded=replace(ACCURACY, model="bf16", drop_points=0.25, logit_sqnr_db=45.5),
    )
    show_bundle(Bundle(Path("/a [b]") / ("deep" * 30), manifest))
    out = capsys.readouterr().out
    assert file in out
    [rounded] = [line for line in out.splitlines() if "onnx/model.onnx, rounded" in line]
    assert "none, bfloat16" in rounded
    assert "45.5" in rounded
    assert "+0.25 (-1.00 to +3.00)" in rounded
    assert "asymmetric with gate, residual, LayerNorm" in out
    assert f"warning: {manifest.warnings[0].rstrip()}" in out
    assert f"note: {notes[0].rstrip()}" in out
    assert f"Latency on {MANIFEST.machine.cpu}, batch 1, 300 interleaved rounds" in out
    assert f"no BF16 row: {MANIFEST.machine.cpu} has no BF16 units" in out  # it need not be this machine's
    assert "this CPU" not in out
    assert "99.00" in out
    assert f"Next:   edge-van validate '/a [b]/{'deep' * 30}' --data YOUR_IMAGES" in out.splitlines()


def test_info_has_the_papers_figures(capsys: pytest.CaptureFixture[str]) -> None:
    show_info(variant_table(["b0"]), complexity_table(21), 21, best_dilation(21))
    out = capsys.readouterr().out
    assert "32,64,160,256" in out
    assert "4.11" in out
    assert "cheapest dilation for K = 21: d = 3" in out
