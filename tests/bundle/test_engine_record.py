"""``edge_van.bundle.engine_record``: what is written is read back, and the choice is the fastest good engine."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_van.bundle.engine_record import (
    ENGINE_SCHEMA_VERSION,
    EngineRecord,
    PrecisionRow,
    SchemeTiming,
    read_engine_record,
)
from edge_van.bundle.layout import RECORD_NAME
from edge_van.engines.choice import choose_engine, over_the_limit
from edge_van.errors import BundleError
from edge_van.storage.json_format import encode

RECORD = EngineRecord(
    schema_version=ENGINE_SCHEMA_VERSION,
    scheme="int8",
    runtime="tensorrt_rtx",
    version="1.7.1",
    compute_capabilities=("8.6", "8.9"),
    gpu=None,
    onnx="model_int8.onnx",
    onnx_sha256="0" * 64,
    plan_sha256="1" * 64,
    plan_bytes=12,
    build_s=1.5,
    timing_cache="none",
    layers=(PrecisionRow("head", "int8", "int8", "k"),),
)


def test_a_record_comes_back(tmp_path: Path) -> None:
    (tmp_path / RECORD_NAME).write_bytes(encode(RECORD))
    assert read_engine_record(tmp_path) == RECORD


@pytest.mark.parametrize("content", [None, b"", b"{}", b"[1]", b'{"schema_version": "x"}', b'{"scheme": "\xff"}'])
def test_a_broken_record(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / RECORD_NAME).write_bytes(content)
    with pytest.raises(BundleError, match="build the engine again"):
        read_engine_record(tmp_path)


def test_a_record_of_the_future(tmp_path: Path) -> None:
    newer = replace(RECORD, schema_version=ENGINE_SCHEMA_VERSION + 1)
    (tmp_path / RECORD_NAME).write_bytes(encode(newer))
    with pytest.raises(BundleError, match="upgrade edge-van"):
        read_engine_record(tmp_path)


def test_the_fastest_within_the_limit() -> None:
    table = (
        SchemeTiming("int8", 1.4, 0.5),
        SchemeTiming("int8_pointwise", 0.3, 0.7),
        SchemeTiming("fp16", 0.0, 0.9),
        SchemeTiming("fp32", 0.0, None, note="no memory"),
        SchemeTiming("other", None, 0.1),
    )
    assert choose_engine(table, 1.0).active == "int8_pointwise"
    assert choose_engine(table, 1.4).active == "int8"
    assert choose_engine(table, 0.0).active == "fp16"
    choice = choose_engine(table[3:], 5.0)
    assert choice.active is None
    assert choice.reason == "the accuracy of no engine that was timed is known: run edge-van quantize again with --data"
    assert not over_the_limit(choice)
    assert choose_engine(table[3:4], 5.0).reason == "no engine was timed"
    slow = choose_engine(table[:2], 0.1)
    assert slow.reason == "every engine loses over 0.1 points, the best 0.30"
    assert over_the_limit(slow)
    assert not over_the_limit(choose_engine(table, 1.0))
    assert choose_engine(table, 1.0).reason == (
        "int8_pointwise is the fastest within 1 points: 0.700 ms, the next fp16 with 0.900 ms"
    )


@given(
    st.lists(st.tuples(st.none() | st.floats(-2, 5), st.none() | st.floats(0.01, 100)), min_size=1, max_size=6),
    st.floats(0, 5),
)
def test_no_choice_breaks_the_limit_or_is_beaten(rows: list[tuple[float | None, float | None]], limit: float) -> None:
    table = tuple(SchemeTiming(str(i), drop, ms) for i, (drop, ms) in enumerate(rows))
    choice = choose_engine(table, limit)
    fit = [r for r in table if r.median_ms is not None and r.drop_points is not None and r.drop_points <= limit]
    if choice.active is None:
        assert not fit
    else:
        [active] = [r for r in fit if r.scheme == choice.active]
        assert all((active.median_ms or 0) <= (r.median_ms or 0) for r in fit)
