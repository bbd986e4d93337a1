"""The scripts in ``benchmarks/``: what they compute of what they measured, and the peers that build in seconds."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import openvino as ov
import pytest
from benchmark_scripts import BENCHMARKS, script
from hypothesis import given
from hypothesis import strategies as st
from openvino import opset13 as ops

from edge_van.errors import UsageError
from edge_van.input_spec import InputSpec
from edge_van.model.van import VAN
from edge_van.quantization.calibration import CalibrationImages
from edge_van.training.settings import TrainSettings

pytestmark = pytest.mark.skipif(not BENCHMARKS.is_dir(), reason="no checkout: benchmarks/ is not here")


@pytest.fixture
def tiny_ir(tmp_path: Path) -> Path:
    parameter = ops.parameter(ov.PartialShape([1, 8]), ov.Type.f32, name="images")
    result = ops.result(ops.matmul(parameter, ops.constant(np.eye(8, dtype=np.float32)), False, False))
    ov.save_model(ov.Model([result], [parameter]), tmp_path / "tiny.xml", compress_to_fp16=False)
    return tmp_path / "tiny.xml"


def test_the_hours_of_a_recipe_are_those_of_its_sizes() -> None:
    """Where a pixel takes 1 us at every size; 48 px was not measured."""
    settings = TrainSettings(epochs=3, batch=10, size=64, first_size=32, growing=1.0)
    steps = settings.steps(1000)
    pixels = sum(10 * settings.size_at(step, steps) ** 2 for step in range(steps))
    rates = {size: 1e6 / size**2 for size in (32, 64)}
    assert script("train_speed").hours(settings, 1000, rates) == pytest.approx(pixels * 1e-6 / 3600)


def test_a_result_is_named_by_its_script() -> None:
    names = script("common").script_names
    assert names(BENCHMARKS / "scaling.py") == ("scaling", "benchmarks/scaling.py")
    assert names(BENCHMARKS / "peers" / "run.py") == ("peers", "benchmarks/peers/run.py")


def test_a_result_says_its_command_without_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    common = script("common")
    given = ["--train", "/somewhere/train.zip", "--limit", "5", "--results", "results"]
    words = [str(BENCHMARKS / "peers" / "run.py"), *given]
    monkeypatch.setattr(sys, "argv", words)
    parser = common.arguments("", train=False, test=False)
    path = common.write_result(parser.parse_args(["--results", str(tmp_path)]), {"rows": []})
    assert path.name.startswith("peers-64px-")
    assert json.loads(path.read_text())["command"] == "python benchmarks/peers/run.py --train train.zip --limit 5"
    assert common.told(["--train=/a/t.zip", "--results=/a/b", "x/demo", "-v"]) == ["--train=t.zip", "demo", "-v"]


@given(exponent=st.floats(0.5, 2.0), factor=st.floats(0.1, 100.0))
def test_the_exponent_of_a_power_law_is_found(exponent: float, factor: float) -> None:
    x = np.array([0.02, 0.05, 0.1, 0.2, 0.8])
    found = script("scaling").fit(x, factor * x**exponent)
    assert found.exponent == pytest.approx(exponent, abs=1e-6)
    assert found.exponent_low <= found.exponent <= found.exponent_high


def test_a_straight_line_with_an_offset_is_no_power_law() -> None:
    x = np.array([0.02, 0.05, 0.1, 0.2, 0.8])
    found = script("scaling").fit(x, 3.0 + 20.0 * x)
    assert (found.intercept_ms, found.slope_ms, found.r_squared) == pytest.approx((3.0, 20.0, 1.0))
    assert found.exponent < 0.8
    assert found.exponent_low < found.exponent < found.exponent_high


def test_memory_is_that_of_the_model_in_a_process_of_its_own(tiny_ir: Path) -> None:
    ballast = np.ones(400 * 2**20, np.uint8)  # of this process; ru_maxrss of a child would start from it
    memory = script("scaling").memory_of(tiny_ir)
    assert 10 < memory.imported_mib <= memory.peak_mib < 400
    assert 10 < memory.running_mib <= memory.peak_mib + 1
    del ballast


def test_two_clocks_agree_within_five_percent() -> None:
    summary = script("peers.app_check").summary
    found = summary("fp32", 1, ours=[1.04, 2.08, 1.03], app=[1.0, 2.0, 1.0], own=[1.0, 2.05, 1.0])
    assert found.agrees
    assert found.ratio == pytest.approx(1.04)
    assert found.ratio_low <= found.ratio <= found.ratio_high
    assert found.python_ms == pytest.approx(0.03)
    assert found.inference_ratio == 1.0
    assert not summary("fp32", 1, ours=[1.06], app=[1.0], own=[1.0]).agrees
    assert not summary("fp32", 1, ours=[0.9], app=[1.0], own=[0.9]).agrees


def test_our_clock_holds_what_openvino_times_itself(tiny_ir: Path) -> None:
    by_clock, by_request = script("peers.app_check").our_ms(tiny_ir, 0.05, np.random.default_rng(0))
    assert 0 < by_request < by_clock


def test_a_failing_benchmark_app_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "junk.xml").write_text("<net/>")
    with pytest.raises(RuntimeError, match="benchmark_app"):
        script("peers.app_check").benchmark_app_ms(tmp_path / "junk.xml", 1)


def test_a_peer_that_cannot_be_built_is_a_result() -> None:
    peer = script("peers.peer")

    def broken() -> list[Any]:
        raise RuntimeError("\n  InvalidCxxCompiler: No working C++ compiler found\nwith a long story")

    found = peer.attempt(("torch_compile",), broken)
    assert found == [
        peer.Unavailable("torch_compile", "RuntimeError: InvalidCxxCompiler: No working C++ compiler found")
    ]
    assert peer.attempt(("a",), list) == []


def sleeper(name: str, milliseconds: float) -> Any:
    """A peer that takes a known time."""
    peer = script("peers.peer")

    def forward(images: np.ndarray) -> np.ndarray:
        time.sleep(milliseconds / 1e3)
        return np.zeros((1, 2), np.float32)

    return peer.Peer(name, "sleeps", lambda threads: peer.FunctionSession("sleep", forward, (4, 4), 2, threads))


@pytest.mark.alone
def test_peers_are_timed_alone_and_in_turns() -> None:
    latency = script("peers.latency")
    peers = [sleeper("fp32", 4.0), sleeper("twice_as_fast", 2.0)]
    runs = [latency.time_peers(peers, threads=1, rounds=20, seed=seed, settle_s=0.0) for seed in (0, 1)]
    fp32, fast = latency.ratios(runs, "fp32")
    assert (fp32["name"], fp32["ratio"], fp32["lowest"], fp32["highest"]) == ("fp32", 1.0, 1.0, 1.0)
    assert fast["lowest"] <= fast["ratio"] <= fast["highest"]
    assert 1.3 < fast["ratio"] < 2.5
    assert 0.5 < fast["in_turns_over_alone"] < 2.0
    assert 0.0 <= fast["lingering_cpu_ms"] < 50.0  # what sleeps takes none; other threads of this process may
    assert all(len(row.samples_ms) == run.rounds >= 20 for run in runs for row in run.rows)


@pytest.mark.alone
def test_settling_runs_at_least_once_and_until_the_time_is_over() -> None:
    settle = script("peers.latency").settle
    assert settle(lambda: None, 0.0) == 1
    start = time.perf_counter()
    assert settle(lambda: time.sleep(0.002), 0.2) > 1
    assert time.perf_counter() - start >= 0.2


def test_a_function_is_fed_what_its_inputs_say() -> None:
    session = sleeper("a", 0.0).open(1)
    with pytest.raises(UsageError, match=r"images"):
        session.run({"images": np.zeros((1, 3, 5, 4), np.float32)})
    assert session.run({"images": np.zeros((1, 3, 4, 4), np.float32)})["logits"].shape == (1, 2)


def test_onnx_runtime_quantises_the_unfolded_network(
    narrow_van: VAN, images: Callable[..., Any], tmp_path: Path
) -> None:
    """The files are quantised, run, and are not far from the network: a wrong input name or layout would be."""
    import onnx

    spec = InputSpec(size=(32, 32))
    pixels = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), dtype=np.uint8)
    calibration = CalibrationImages(pixels, spec, 1)
    peers = {p.name: p for p in script("peers.ort_static").build(narrow_van, spec, calibration, tmp_path)}
    assert list(peers) == ["ort_fp32", "ort_defaults", "ort_advised"]
    feed = {"images": calibration[0].numpy()}
    expected = narrow_van(calibration[0]).detach().numpy()
    logits = {}
    for name, peer in peers.items():
        with peer.open(1) as session:
            logits[name] = session.run(feed)["logits"]
    assert np.abs(logits["ort_fp32"] - expected).max() < 1e-3 * np.abs(expected).max()
    for name in ("ort_defaults", "ort_advised"):
        assert not np.array_equal(logits[name], logits["ort_fp32"])
        kinds = [node.op_type for node in onnx.load(tmp_path / f"{name}.onnx").graph.node]
        assert kinds.count("QuantizeLinear") > 10


def test_the_tables_hold_every_model_and_every_size() -> None:
    machine = {"cpu": "CPU", "logical_cores": 2, "flags": ["avx2"], "versions": {"openvino": "2026"}}
    source = {"machine": machine, "command": "python benchmarks/x.py", "size_px": 64, "calibration_images": 4}
    accuracy = {
        "images": 100,
        "data": "cifar10-test.zip",
        "fp32_percent": 85.0,
        "int8_percent": 84.0,
        "drop_points": 1.0,
        "drop_interval": {"low": 0.1, "high": 1.9},
        "logit_sqnr_db": 28.04,
    }
    row = {"name": "fp32", "median_ms": 2.0, "ratio": 1.0, "lowest": 1.0, "highest": 1.0}
    row |= {"in_turns_over_alone": 1.05, "alone_ms": 1.9}
    timed = {
        "latency_size_px": 64,
        "runs": [1, 2],
        "ratios": {
            "fp32": [row, {**row, "name": "openvino", "ratio": 1.5, "in_turns_over_alone": 0.8, "alone_ms": 2.5}]
        },
        "benchmark_app": [
            {
                "model": "fp32",
                "ratio": 1.012,
                "ratio_low": 1.0,
                "ratio_high": 1.02,
                "python_ms": 0.1,
                "inference_ratio": 0.99,
            }
        ],
    }
    peers = script("tables.peers").peers(
        [
            {
                **source,
                "threads": 2,
                "how": {"fp32": "FP32 here", "openvino": "INT8 here"},
                "accuracy": {"openvino": accuracy},
                "unavailable": [{"name": "torchao", "reason": "no compiler"}],
                "latency": [timed],
            }
        ]
    )
    assert "| FP32 here | - | - | - | 2.00 | 1.00 (1.00 to 1.00) |" in peers
    assert "| INT8 here | 84.00 | +1.00 (+0.10 to +1.90) | 28.0 | 2.00, alone 2.50 | 1.50 (1.00 to 1.00) |" in peers
    assert any(line.startswith("| torchao: no compiler |") and line.count("|") == 7 for line in peers)
    clock = script("tables.peers").clock([{**source, "latency": [timed]}])
    assert any("fp32 at 64 px 1.012 (1.000 to 1.020; without Python's 0.10 ms 0.990)" in line for line in clock)
    point = {
        "variant": "b6",
        "size_px": 64,
        "gmacs": 38.4,
        "median_ms": {"fp32": 500.0},
        "memory": {"fp32": {"peak_mib": 1700.2}},
    }
    fit = {
        "points": 5,
        "exponent": 1.01,
        "exponent_low": 0.99,
        "exponent_high": 1.03,
        "intercept_ms": 0.5,
        "slope_ms": 12.0,
        "r_squared": 0.9991,
    }
    scaling = script("tables.scaling").scaling(
        [
            {
                **source,
                "sizes_of": "b0",
                "by_variant": [point],
                "by_size": [point],
                "fits": {"over_megapixels": {"fp32": fit}, "over_gmacs": {"int8": {**fit, "points": 3}}},
            }
        ]
    )
    assert "| b6 | 38.40 | 500.00 | - | 1700 | - |" in scaling
    assert ["exponent 1.01 (0.99 to 1.03" in line for line in scaling].count(True) == 1  # three points are no fit


def test_the_figure_names_every_variant_and_is_the_same_twice(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    scaling, plot = script("scaling"), script("scaling_plot")
    gmacs = {"b0": 0.9, "b1": 2.5, "b2": 5.0}
    points = [
        {
            "variant": name,
            "size_px": 100 * (i + 1),
            "gmacs": cost,
            "median_ms": {"fp32": 9 * cost},
        }
        for i, (name, cost) in enumerate(gmacs.items())
    ]
    fit = asdict(scaling.fit(list(gmacs.values()), [9 * cost for cost in gmacs.values()]))
    fits = {"over_megapixels": {}, "over_gmacs": {"fp32": fit}}
    result = {"by_variant": points, "by_size": points, "fits": fits, "sizes_of": "b0", "size_px": 224}
    first, second = (plot.draw(result, tmp_path / f"{i}.svg").read_text() for i in range(2))
    assert first == second
    assert all(f">{name}</text>" in first for name in gmacs)
    assert "FP32: exponent 1.00 (1.00 to 1.00)" in first


@pytest.mark.alone
def test_the_gpus_script_goes_its_way_on_a_cpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flags = "--device cpu --variants b0 --size 32 --batches 1 2 --sizes 64 --rounds 10 --max-seconds 1 --results"
    monkeypatch.setattr(sys, "argv", [str(BENCHMARKS / "torch_gpu.py"), *flags.split(), str(tmp_path)])
    script("torch_gpu").main()
    [path] = tmp_path.iterdir()
    written = json.loads(path.read_text())
    found = [(row["batch"], row["how"]) for row in written["variants"]]
    assert found == [(batch, how) for batch in (1, 2) for how in ("fp32 eager", "bf16 eager")]
    assert [row["size_px"] for row in written["sizes"]] == [64, 64]
    assert all(row["median_ms"] > 0 and row["images_per_s"] > 0 for row in written["variants"])


def test_a_file_with_two_names_takes_its_space_once(tmp_path: Path) -> None:
    image_size = script("image_size")
    (tmp_path / "site" / "large").mkdir(parents=True)
    (tmp_path / "site" / "small").mkdir()
    (tmp_path / "site" / "large" / "a").write_bytes(b"x" * 1000)
    (tmp_path / "site" / "large" / "b").hardlink_to(tmp_path / "site" / "large" / "a")
    (tmp_path / "site" / "large" / "c").symlink_to(tmp_path / "site" / "small" / "d")
    (tmp_path / "site" / "small" / "d").write_bytes(b"y" * 10)
    assert [(p.name, p.bytes, p.files) for p in image_size.packages(tmp_path / "site")] == [
        ("large", 1000, 1),
        ("small", 10, 1),
    ]
    assert image_size.size_of(tmp_path, "everything").bytes == 1010
