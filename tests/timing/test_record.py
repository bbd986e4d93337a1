"""``edge_van.timing.record``: a result is read as it was written; anything else is refused in one clear line."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from benchmark_samples import MEDIANS_MS, query_rows, rate_rows, result
from bundle_samples import one_line
from hypothesis import given
from hypothesis import strategies as st

from edge_van.bundle.records import Interval
from edge_van.errors import UsageError
from edge_van.timing.record import (
    BENCHMARK_SCHEMA_VERSION,
    BenchmarkResult,
    LayerProfile,
    LayerTime,
    Startup,
    best_throughput,
    encode_benchmark,
)
from edge_van.timing.record_file import read_benchmark


def written(path: Path, **changes: Any) -> Path:
    content = json.loads(encode_benchmark(result()))
    content.update(changes)
    path.write_text(json.dumps(content))
    return path


def test_a_result_is_read_as_it_was_written(tmp_path: Path) -> None:
    original = result(multi_stream=query_rows(MEDIANS_MS, images=8))
    path = tmp_path / "benchmark.json"
    path.write_bytes(encode_benchmark(original))
    assert read_benchmark(path) == original
    assert encode_benchmark(read_benchmark(path)) == path.read_bytes()


def test_a_result_of_the_time_when_the_cores_were_watched_is_read(tmp_path: Path) -> None:
    """Of version 1 too: what it has more is left out, and its doubt stays one."""
    doubt = {"kind": "cores_apart", "scenario": "single_stream", "models": [], "text": "SingleStream: 30 of 700 rounds"}
    conditions = json.loads(encode_benchmark(result()))["conditions"] | {"core_round_trip_us": 0.213}
    found = read_benchmark(written(tmp_path / "old.json", conditions=conditions, doubts=[doubt]))
    assert found.conditions == result().conditions
    assert [(d.kind, d.text) for d in found.doubts] == [("cores_apart", doubt["text"])]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"schema_version": BENCHMARK_SCHEMA_VERSION + 1},
            ("version 2", "this edge-van reads 1 to 1", "measure again"),
        ),
        ({"schema_version": 0}, ("version 0",)),
        ({"kind": "edge-van report"}, ("'edge-van report'", "edge-van benchmark")),
        ({"kind": 3}, ("kind",)),
        ({"machine": {}}, ("machine",)),
        ({"single_stream": "fast"}, ("single_stream",)),
        ({"baseline": "another"}, ("'another'", "not among its models")),
    ],
)
def test_what_is_no_result_of_this_version_is_refused(tmp_path: Path, changes: Any, words: tuple[str, ...]) -> None:
    with pytest.raises(UsageError) as caught:
        read_benchmark(written(tmp_path / "r.json", **changes))
    one_line(caught, "r.json", *words)


@pytest.mark.parametrize("field", ["median_ms", "ratio", "samples_ms"])
@pytest.mark.parametrize("value", [0.0, -1.0, 1e999])
def test_a_time_that_is_none_is_refused(tmp_path: Path, field: str, value: float) -> None:
    row = result().single_stream[0]
    broken = replace(row, **{field: (value,) if field == "samples_ms" else value})
    path = tmp_path / "r.json"
    content = json.loads(encode_benchmark(result()))
    content["single_stream"][0] = json.loads(json.dumps(broken.__dict__, default=lambda o: o.__dict__))
    path.write_text(json.dumps(content))
    with pytest.raises(UsageError, match=r"no positive number|no benchmark result"):
        read_benchmark(path)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"models": result().models * 2}, "two models or two bundles of one name"),
        ({"bundles": result().bundles * 2}, "two models or two bundles of one name"),
        ({"bundles": tuple(replace(result().bundles[0], name=str(i)) for i in range(17))}, "has 17 bundles"),
        ({"bundles": ()}, "has 0 bundles"),
        ({"bundles": (replace(result().bundles[0], name="other"),)}, "'bundle', which is not among its bundles"),
        ({"startup": (Startup("openvino-int8", 1e300, 1.0, None, None, 1.0, 1.0),)}, "no positive number"),
        ({"startup": (Startup("openvino-int8", 1.0, 1.0, -1.0, None, 1.0, 1.0),)}, "under 0 or no number"),
        ({"startup": (Startup("openvino-fp16", 1.0, 1.0, None, None, 1.0, 1.0),)}, "not among its models"),
        ({"layers": (LayerProfile("openvino-int8", 1, (LayerTime("a", "b", "c", 1e13),)),)}, "under 0 or no number"),
        ({"single_stream": (replace(result().single_stream[0], ratio_interval=Interval(2.0, 1.0)),)}, "ratio"),
        ({"single_stream": (replace(result().single_stream[0], samples_ms=()),)}, "without the samples"),
    ],
)
def test_a_result_that_contradicts_itself_is_refused(tmp_path: Path, changes: Any, words: str) -> None:
    path = tmp_path / "r.json"
    path.write_bytes(encode_benchmark(result(**changes)))
    with pytest.raises(UsageError) as caught:
        read_benchmark(path)
    one_line(caught, words)


def test_a_file_that_is_not_there_or_a_folder(tmp_path: Path) -> None:
    for path in (tmp_path / "absent.json", tmp_path):
        with pytest.raises(UsageError, match="cannot be read"):
            read_benchmark(path)


@given(st.binary(max_size=200))
def test_no_bytes_crash_the_reader(tmp_path_factory: pytest.TempPathFactory, raw: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzz.json"
    path.write_bytes(raw)
    with pytest.raises(UsageError):
        read_benchmark(path)


def test_the_best_batch_is_the_one_with_the_most_images() -> None:
    slow = {name: 10 * ms for name, ms in MEDIANS_MS.items()}
    found: BenchmarkResult = result(offline=(*rate_rows(MEDIANS_MS, 1), *rate_rows(slow, 16)))
    best = best_throughput(found, "openvino-int8")
    assert best is not None
    assert best.batch == 16
    assert best.images_per_s == max(r.images_per_s for r in found.offline if r.model == "openvino-int8")
    assert best_throughput(found, "absent") is None
