"""``edge_van.cli.tables_benchmark``: every column in its unit, best against best, and what is said under the tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from benchmark_samples import MEDIANS_MS, query_rows, rate_rows, result

from edge_van.bundle.records import Interval
from edge_van.cli.tables_benchmark import show_benchmark
from edge_van.timing.record import BenchmarkResult, Conditions, Doubt, Skipped, Startup

BUNDLE = Path("a folder/van")


def shown(
    capsys: pytest.CaptureFixture[str], found: BenchmarkResult, written: Path | None = None, bundles: int = 1
) -> list[str]:
    show_benchmark(found, written, [BUNDLE] * bundles)
    return capsys.readouterr().out.splitlines()


def cells(lines: Sequence[str], title: str, row: str) -> dict[str, str]:
    """The columns of a row of the table with that title; columns of one name are numbered."""
    [start] = [i for i, line in enumerate(lines) if line.startswith(title)]
    [header, *rows] = [line for line in lines[start:] if line.startswith(("┃", f"│ {row} "))]
    values = rows[0]
    names = [name.strip() for name in header.strip("┃").split("┃")]
    named = [name if names.index(name) == i else f"{name} {i}" for i, name in enumerate(names)]
    return dict(zip(named, [value.strip() for value in values.strip("│").split("│")], strict=True))


def test_queries(capsys: pytest.CaptureFixture[str]) -> None:
    lines = shown(capsys, result(multi_stream=query_rows(MEDIANS_MS, images=8)))
    row = result().single_stream[1]
    expected = {
        "model": "openvino-int8",
        "p50 ms": f"{row.median_ms:.2f}",
        "p90 ms": f"{row.p90_ms:.2f}",
        "p99 ms": f"{row.p99_ms:.2f}",
        "times openvino-fp32 (95 % interval)": "2.00 (2.00 to 2.00)",
    }
    assert cells(lines, "SingleStream, 700 queries of one image each", "openvino-int8") == expected
    assert cells(lines, "MultiStream, 700 queries of 8 images each", "openvino-int8") == expected


def test_offline_divides_best_by_best(capsys: pytest.CaptureFixture[str]) -> None:
    """FP32 is best at batch 1 with 500 images/s, INT8 at 8 with 1,500; at batch 8 it has five times FP32's."""
    at_1 = rate_rows({"openvino-fp32": 2.0, "openvino-int8": 1.0}, 1)
    at_8 = rate_rows({"openvino-fp32": 80 / 3, "openvino-int8": 16 / 3}, 8)
    lines = shown(capsys, result(offline=(*at_1, *at_8)))
    times = "times openvino-fp32's best (95 % interval)"
    int8, fp32 = (cells(lines, "Offline", name) for name in ("openvino-int8", "openvino-fp32"))
    assert (int8["images/s"], int8["best batch"], int8["streams"]) == ("1506.8", "8", "1")
    assert int8[times] == "3.00 (not paired)"  # what was measured minutes apart has no interval
    assert int8[times] != fp32[times] == "1.00 (1.00 to 1.00)"
    assert fp32["best batch"] == "1"
    assert "mJ/image" not in int8


def test_energy_is_in_millijoules_an_image(capsys: pytest.CaptureFixture[str]) -> None:
    fp32, int8 = rate_rows(MEDIANS_MS, 8)
    lines = shown(capsys, result(offline=(fp32, replace(int8, joules_per_image=0.01234))))
    assert cells(lines, "Offline", "openvino-int8")["mJ/image"] == "12.34"
    assert cells(lines, "Offline", "openvino-fp32")["mJ/image"] == "-"


def test_offline_at_one_batch_size_is_paired(capsys: pytest.CaptureFixture[str]) -> None:
    fp32, int8 = rate_rows(MEDIANS_MS, 8)
    int8 = replace(int8, ratio=1.97, ratio_interval=Interval(1.91, 2.03))
    lines = shown(capsys, result(offline=(fp32, int8)))
    assert "1.97 (1.91 to 2.03)" in cells(lines, "Offline", "openvino-int8").values()


def test_start_up_in_its_units(capsys: pytest.CaptureFixture[str]) -> None:
    starts = (
        Startup("openvino-fp32", 120.4, 5.6, 30.2, 4.4, 210.6, 80.1),
        Startup("openvino-int8", 9, 8, None, None, 7, 6),
    )
    lines = shown(capsys, result(startup=starts))
    assert cells(lines, "Start-up", "openvino-fp32") == {
        "model": "openvino-fp32",
        "load ms": "120",
        "first ms": "6",
        "cached: load ms": "30",
        "first ms 4": "4",
        "peak MiB": "211",
        "of them before loading": "80",
        "MB": "4.0",  # 4,000,000 bytes
    }
    cached = cells(lines, "Start-up", "openvino-int8")
    assert (cached["cached: load ms"], cached["first ms 4"]) == ("-", "-")


def test_scenarios_that_were_left_out_have_no_table(capsys: pytest.CaptureFixture[str]) -> None:
    text = "\n".join(shown(capsys, result(single_stream=(), offline=())))
    assert not any(word in text for word in ("SingleStream", "MultiStream", "Offline", "Start-up"))


def test_what_is_not_alike_is_said_under_the_tables(capsys: pytest.CaptureFixture[str]) -> None:
    fp32, int8 = (replace(model, takes="uint8 NHWC, normalised inside") for model in result().models)
    alike = "\n".join(shown(capsys, result(models=(fp32, int8))))
    assert "What an image is" not in alike
    other = replace(int8, runtime="onnxruntime", takes="float NCHW, normalised before", settings="told not to spin")
    text = "\n".join(shown(capsys, result(models=(fp32, other))))
    assert "openvino: uint8 NHWC, normalised inside; onnxruntime: float NCHW, normalised before" in text
    assert "onnxruntime is told not to spin" in text


def test_rounds_doubts_and_what_is_missing(capsys: pytest.CaptureFixture[str]) -> None:
    found = replace(
        result(),
        conditions=Conditions(720, 31, 1.26, 0.04, 0, 0.3),
        doubts=(Doubt("variation", "offline", (), "the times vary"),),
        skipped=(Skipped("torch", "torch is not installed"),),
    )
    lines = shown(capsys, found)
    assert "not measured: torch: torch is not installed" in lines
    assert "doubt: the times vary" in lines
    [rounds] = [line for line in lines if line.startswith("720 rounds kept")]
    assert "each one query of every model, or one slice of time" in rounds
    assert "31 disturbed ones thrown away" in rounds
    assert rounds.endswith("; of the CPU time other processes took 1.3 %, the hypervisor took 0.0 %")
    assert not any("speaks against" in line for line in lines)


def test_nothing_is_said_for_what_nobody_watched(capsys: pytest.CaptureFixture[str]) -> None:
    assert "Nothing speaks against these figures." in shown(capsys, result())
    blind = Conditions(720, 31, None, None, None, 0.3, not_watched=("throttling by heat", "the GPU"))
    lines = shown(capsys, result(conditions=blind))
    assert "not watched here: throttling by heat; the GPU" in lines
    assert "Nothing that was watched speaks against these figures." in lines
    assert any(line.endswith("31 disturbed ones thrown away") for line in lines)


def test_a_result_is_named_only_once_it_is_written(capsys: pytest.CaptureFixture[str]) -> None:
    text = "\n".join(shown(capsys, result()))
    assert "Result:" not in text
    assert "Next:" not in text
    inside = shown(capsys, result(), BUNDLE / "benchmark.json")
    assert inside[-2:] == ["Result: a folder/van/benchmark.json", "Next:   edge-van report 'a folder/van'"]
    for bundles in (1, 2):  # a report of the bundle would not be of this file
        assert shown(capsys, result(), Path("r.json"), bundles)[-1] == "Next:   edge-van report r.json"
