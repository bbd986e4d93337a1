"""``engines.trtexec_output``: the documented formats of 8.6, 10.x and 11.x, with odd values and missing lines."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_van.engines.trtexec_output import parse_summary, parse_times, version_of
from edge_van.errors import DataError

STAMP = "[07/25/2026-09:08:28] [I] "


def statistics(name: str, median: str = "1.25", percentiles: bool = True) -> str:
    tail = ", percentile(90%) = 1.5 ms, percentile(95%) = 1.75 ms, percentile(99%) = 2 ms" if percentiles else ""
    return f"{STAMP}{name}: min = 1 ms, max = 3 ms, mean = 1.3 ms, median = {median} ms{tail}"


def output(version: str, state: str = "PASSED", tail: str = "", lines: list[str] | None = None) -> str:
    body = [
        f"{STAMP}=== Performance summary ===",
        f"{STAMP}Throughput: 812.34 qps",
        *(statistics(n) for n in ("Latency", "Enqueue Time", "H2D Latency", "GPU Compute Time", "D2H Latency")),
        f"{STAMP}Total Host Walltime: 3.00123 s",
        f"{STAMP}Total GPU Compute Time: 2.9e+00 s",
        f"{STAMP}Explanations of the performance metrics are printed in the verbose logs.",
    ]
    run = f"TensorRT.trtexec [TensorRT v{version}]{tail} # trtexec --loadEngine=model.engine"
    return "\n".join([f"&&&& RUNNING {run}", *(body if lines is None else lines), f"&&&& {state} {run}"])


@pytest.mark.parametrize(
    ("digits", "tail", "version"),
    [
        ("8502", "", "8.5.2"),
        ("8602", "", "8.6.2"),
        ("100300", "", "10.3.0"),
        ("101303", "", "10.13.3"),
        ("110100", " [b42]", "11.1.0"),
    ],
)
def test_the_summary_of_every_version(digits: str, tail: str, version: str) -> None:
    found = parse_summary(output(digits, tail=tail))
    assert (found.version, found.passed, found.throughput_qps) == (version, True, 812.34)
    assert found.gpu_compute is not None
    assert (found.gpu_compute.min_ms, found.gpu_compute.median_ms, found.gpu_compute.max_ms) == (1.0, 1.25, 3.0)
    assert found.gpu_compute.percentiles_ms == {90: 1.5, 95: 1.75, 99: 2.0}
    assert found.latency == found.h2d == found.d2h == found.enqueue == found.gpu_compute
    assert (found.host_walltime_s, found.gpu_compute_total_s) == (3.00123, 2.9)
    assert version_of(digits) == version


@pytest.mark.parametrize(("text", "value"), [("inf", math.inf), ("-inf", -math.inf), ("1e-05", 1e-5), ("2.5E+3", 2500)])
def test_odd_numbers(text: str, value: float) -> None:
    found = parse_summary(output("100300", lines=[statistics("GPU Compute Time", text)]))
    assert found.gpu_compute is not None
    assert found.gpu_compute.median_ms == value


def test_nan_is_read_as_such() -> None:
    found = parse_summary(output("8602", lines=[statistics("Latency", "nan"), f"{STAMP}Throughput: nan qps"]))
    assert found.latency is not None
    assert math.isnan(found.latency.median_ms)
    assert found.throughput_qps is not None
    assert math.isnan(found.throughput_qps)


def test_missing_lines_are_none() -> None:
    found = parse_summary(output("110100", "FAILED", lines=[]))
    assert not found.passed
    assert found.latency is found.gpu_compute is found.throughput_qps is found.host_walltime_s is None
    short = parse_summary(output("8602", lines=[statistics("Latency", percentiles=False)]))
    assert short.latency is not None
    assert short.latency.percentiles_ms == {}


def test_the_last_run_of_two_counts() -> None:
    lines = [statistics("GPU Compute Time", "9"), statistics("GPU Compute Time", "4")]
    found = parse_summary(output("100300", lines=lines)).gpu_compute
    assert found is not None
    assert found.median_ms == 4.0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no output of trtexec"),
        ("Segmentation fault", "no output of trtexec"),
        (output("100300", lines=[f"{STAMP}Throughput: fast qps"]), "Throughput: fast"),
        (output("100300", lines=[f"{STAMP}GPU Compute Time: min = 1 ms, max = 3 ms"]), "lacks mean, median"),
    ],
)
def test_what_is_there_and_unreadable_is_an_error(text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        parse_summary(text)


@given(st.floats(min_value=0, allow_nan=False, allow_infinity=False), st.integers(1, 99))
def test_any_number_comes_back(value: float, percent: int) -> None:
    line = f"{STAMP}Latency: min = {value} ms, max = {value!r} ms, mean = {value} ms, median = {value} ms, "
    found = parse_summary(output("100300", lines=[f"{line}percentile({percent}%) = {value} ms"])).latency
    assert found is not None
    assert (found.min_ms, found.median_ms, found.percentiles_ms) == (value, value, {percent: value})


TIMES = {
    "startEnqMs": 1.0,
    "endEnqMs": 2.0,
    "startComputeMs": 1.0,
    "endComputeMs": 1.5,
    "h2dMs": 0.0,
    "computeMs": 0.5,
    "d2hMs": 0.0,
    "latencyMs": 0.5,
}


def test_times() -> None:
    assert parse_times(json.dumps([TIMES, TIMES | {"computeMs": 1}])) == (0.5, 1.0)
    with pytest.raises(DataError, match="holds no inference"):
        parse_times("[]")


@pytest.mark.parametrize(
    "text",
    ["", "{}", "[1]", "[[", json.dumps([{"latencyMs": 1}]), '[{"computeMs": NaN}]', '[{"computeMs": "1"}]', "[" * 9999],
)
def test_times_that_are_none(text: str) -> None:
    with pytest.raises(DataError):
        parse_times(text)
