"""``timing.latency``: interleaved timing of real files; the ratio, its interval, the raw samples, the rules."""

from __future__ import annotations

import math
import os
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import openvino as ov
import pytest
from bundle_samples import MANIFEST
from hypothesis import given
from hypothesis import strategies as st
from openvino import opset13 as ops
from scipy.stats import binom

from edge_van.bundle.manifest import check_consistent
from edge_van.bundle.records import Interval, Latency, LatencyRow
from edge_van.errors import BundleError, UsageError
from edge_van.runtimes import Session, model_file
from edge_van.runtimes.model_file import ModelFile
from edge_van.statistics import paired_ratio
from edge_van.timing import interleave
from edge_van.timing import latency as benchmark
from edge_van.timing.interference import Interference
from edge_van.timing.interleave import Rounds
from edge_van.timing.latency import MIN_ROUNDS, WARMUP_ROUNDS, RunLength, cut_short, measure_latency

pytestmark = pytest.mark.alone


def save_chain(path: Path, matmuls: int, width: int, element: ov.Type = ov.Type.f32) -> Path:
    """An IR of matrix multiplications one after the other: work in proportion to their number."""
    parameter = ops.parameter(ov.PartialShape([-1, width]), element, name="images")
    parameter.output(0).set_names({"images"})
    node = ops.convert(parameter, "f32") if element != ov.Type.f32 else parameter
    weight = (np.random.default_rng(0).standard_normal((width, width)) / width**0.5).astype(np.float32)
    for _ in range(matmuls):
        node = ops.relu(ops.matmul(node, ops.constant(weight), False, False))
    result = ops.result(node)
    result.output(0).set_names({"logits"})
    ov.save_model(ov.Model([result], [parameter]), path, compress_to_fp16=False)
    return path


@pytest.fixture(scope="module")
def chains(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("chains")
    return save_chain(folder / "small.xml", 1, 32), save_chain(folder / "large.xml", 24, 512)


@pytest.fixture(scope="module")
def measured(chains: tuple[Path, Path]) -> tuple[Latency, list[int]]:
    """One run of three candidates that the tests look at from different sides."""
    small, large = chains
    done: list[int] = []
    candidates = [
        ModelFile("small", "openvino", small),
        ModelFile("large", "openvino", large),
        ModelFile("twin", "openvino", small),
    ]
    return measure_latency(candidates, baseline="small", length=RunLength(120), threads=1, progress=done.append), done


def row_of(latency: Latency, name: str) -> LatencyRow:
    return next(row for row in latency.rows if row.name == name)


def test_a_larger_model_is_slower(measured: tuple[Latency, list[int]]) -> None:
    latency, _ = measured
    large = row_of(latency, "large")
    assert large.ratio < 0.5
    assert large.ratio_interval.high < 1
    assert large.median_ms > 2 * row_of(latency, "small").median_ms


def test_the_baseline_is_one_and_its_twin_near_it(measured: tuple[Latency, list[int]]) -> None:
    latency, _ = measured
    baseline = row_of(latency, "small")
    assert (baseline.ratio, baseline.ratio_interval.low, baseline.ratio_interval.high) == (1.0, 1.0, 1.0)
    assert 0.5 < row_of(latency, "twin").ratio < 2


def test_every_interval_holds_its_ratio(measured: tuple[Latency, list[int]]) -> None:
    for row in measured[0].rows:
        assert 0 < row.ratio_interval.low <= row.ratio <= row.ratio_interval.high


def test_every_sample_is_kept_and_the_figures_are_theirs(measured: tuple[Latency, list[int]]) -> None:
    latency, done = measured
    assert latency.rounds >= 120
    assert sum(done) == 120
    assert (latency.batch, latency.threads, latency.warmup_rounds, latency.baseline) == (1, 1, WARMUP_ROUNDS, "small")
    assert latency.load_average_1min >= 0
    base = np.array(row_of(latency, "small").samples_ms)
    for row in latency.rows:
        samples = np.array(row.samples_ms)
        assert len(samples) == latency.rounds
        assert (samples > 0).all()
        percentiles = np.percentile(samples, [50, 90, 99])
        assert np.allclose([row.median_ms, row.p90_ms, row.p99_ms], percentiles, atol=1e-4)
        assert row.ratio == pytest.approx(float(np.median(base / samples)), rel=0.02)


def test_latency_record_round_trips_through_json(measured: tuple[Latency, list[int]]) -> None:
    latency, _ = measured
    assert msgspec.json.decode(msgspec.json.encode(latency), type=Latency) == latency


def watched(monkeypatch: pytest.MonkeyPatch) -> tuple[list[str], list[dict[str, np.ndarray]]]:
    """The files run, in order, and what they were fed; the engines run as always."""
    order: list[str] = []
    feeds: list[dict[str, np.ndarray]] = []
    open_model: Callable[..., Session] = model_file.open_model

    def spy(runtime: str, path: Path, **options: Any) -> Session:
        session = open_model(runtime, path, **options)
        run = session.run

        def noted(feed: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
            order.append(path.stem)
            feeds.append(feed)
            return run(feed)

        session.run = noted  # type: ignore[method-assign]
        return session

    monkeypatch.setattr(model_file, "open_model", spy)
    return order, feeds


def test_the_order_is_another_each_round(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    order, _ = watched(monkeypatch)
    candidates = [ModelFile(n, "openvino", save_chain(tmp_path / f"{n}.xml", 1, 4)) for n in "abc"]
    measure_latency(candidates, baseline="b", length=RunLength(MIN_ROUNDS), threads=1)
    # each turn runs twice: what is timed comes after a run of the same model
    assert order[::2] == order[1::2]
    turns = order[::2]
    warmup, timed = turns[: 3 * WARMUP_ROUNDS], turns[3 * WARMUP_ROUNDS :]
    assert sorted(warmup) == sorted("abc" * WARMUP_ROUNDS)
    rounds = ["".join(timed[i : i + 3]) for i in range(0, len(timed), 3)]
    assert {"".join(sorted(names)) for names in rounds} == {"abc"}
    assert set(rounds) == {"abc", "acb", "bac", "bca", "cab", "cba"}
    # each comes after each of the others about as often: none always finds the caches of the same one
    after = Counter(pair for names in rounds for pair in pairwise(names))
    assert min(after[a, b] for a in "abc" for b in "abc" if a != b) > MIN_ROUNDS / 6


def test_the_number_of_threads_is_the_engines_own(chains: tuple[Path, Path]) -> None:
    candidates = [ModelFile("small", "openvino", chains[0])]
    latency = measure_latency(candidates, baseline="small", length=RunLength(MIN_ROUNDS))
    assert 1 <= latency.threads <= (os.cpu_count() or 1)


def test_time_stops_the_run_but_not_before_the_least_rounds(chains: tuple[Path, Path]) -> None:
    candidates = [ModelFile("small", "openvino", chains[0])]
    latency = measure_latency(candidates, baseline="small", length=RunLength(10**6, max_seconds=0.0), threads=1)
    assert MIN_ROUNDS <= latency.rounds == len(latency.rows[0].samples_ms) < 10**6


class Clock:
    """Stands in for ``time.perf_counter``: opening a model and running it take so long, and nothing else any time."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, open_s: float, run_s: float) -> None:
        self.now = 0.0
        open_model: Callable[..., Session] = model_file.open_model

        def slow(runtime: str, path: Path, **options: Any) -> Session:
            session = open_model(runtime, path, **options)
            run = session.run
            self.now += open_s

            def run_slowly(feed: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
                self.now += run_s
                return run(feed)

            session.run = run_slowly  # type: ignore[method-assign]
            return session

        monkeypatch.setattr(model_file, "open_model", slow)
        monkeypatch.setattr(time, "perf_counter", lambda: self.now)


def bounded(chains: tuple[Path, Path], bound_s: float) -> tuple[Latency, RunLength]:
    """A real run of two models by ``Clock``; its record is one that a manifest takes."""
    models = [ModelFile(name, "openvino", chains[0]) for name in ("fp32", "int8")]
    length = RunLength(300, 10.0, bound_seconds=bound_s)
    latency = measure_latency(models, baseline="fp32", length=length, threads=1)
    check_consistent(replace(MANIFEST, latency=latency), "manifest.json")
    assert msgspec.json.decode(msgspec.json.encode(latency), type=Latency) == latency
    assert {len(row.samples_ms) for row in latency.rows} == {latency.rounds}
    return latency, length


@pytest.mark.parametrize(
    ("open_s", "run_s", "rounds", "warmups", "end_s"),
    [
        # a turn is two runs and a round two turns; after 2 s of opening seven turns begin within 30 s
        (1.0, 2.0, 11, 3, 122.0),
        (1.0, 6.0, 3, 1, 122.0),
        # 60 s of opening leave no warm-up
        (30.0, 1.0, 15, 0, 120.0),
        # what is begun is not broken off, and one round is always made: one turn of warm-up, and two
        (1.0, 100.0, 1, 0, 602.0),
        (70.0, 1.0, 1, 0, 144.0),
    ],
)
def test_a_bound_holds_for_the_whole_run(
    monkeypatch: pytest.MonkeyPatch,
    chains: tuple[Path, Path],
    open_s: float,
    run_s: float,
    rounds: int,
    warmups: int,
    end_s: float,
) -> None:
    clock = Clock(monkeypatch, open_s, run_s)
    latency, length = bounded(chains, 120.0)
    assert (latency.rounds, latency.warmup_rounds, clock.now) == (rounds, warmups, end_s)
    assert clock.now <= max(120.0 + 2 * run_s, 2 * open_s + 6 * run_s)
    assert latency.notes[:1] == cut_short(rounds, length)
    assert latency.notes[0].startswith(f"latency is of {rounds} of 300 rounds")
    assert ("too few for an interval of 95 % (6 have one)" in latency.notes[0]) == (rounds < 6)
    assert "the 120 s that it may take" in latency.notes[0]
    assert latency.notes[0].endswith("edge-van benchmark measures it properly")
    assert [row.ratio for row in latency.rows] == [1.0, 1.0]
    assert {row.median_ms for row in latency.rows} == {1e3 * run_s}


@pytest.mark.parametrize(("run_s", "least"), [(0.001, 300), (0.3, MIN_ROUNDS)])
def test_a_run_within_its_bound_is_as_without(
    monkeypatch: pytest.MonkeyPatch, chains: tuple[Path, Path], run_s: float, least: int
) -> None:
    """The second takes over ``max_seconds`` for the least rounds, which the bound leaves time for."""
    clock = Clock(monkeypatch, 1.0, run_s)
    monkeypatch.setattr(interleave, "between", lambda *_: Interference(1.0, 2, 0.0, 0.0, None))
    latency, length = bounded(chains, 200.0)
    assert latency.rounds >= least
    assert (latency.warmup_rounds, cut_short(latency.rounds, length)) == (WARMUP_ROUNDS, ())
    assert latency.notes == ()
    assert clock.now < 200


def test_feeds_fit_the_models_dtype_and_a_free_batch_is_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    _, feeds = watched(monkeypatch)
    pixels = save_chain(tmp_path / "pixels.xml", 1, 16, ov.Type.u8)
    floats = save_chain(tmp_path / "floats.xml", 1, 16)
    candidates = [ModelFile("pixels", "openvino", pixels), ModelFile("floats", "openvino", floats)]
    measure_latency(candidates, baseline="floats", length=RunLength(MIN_ROUNDS), threads=1, seed=3)
    seen = {feed["images"].dtype.name: feed["images"] for feed in feeds}
    assert set(seen) == {"uint8", "float32"}
    assert all(images.shape == (1, 16) for images in seen.values())
    assert seen["uint8"].std() > 0
    assert np.abs(seen["float32"]).max() <= 1.01


def test_a_candidates_options_reach_its_runtime(chains: tuple[Path, Path]) -> None:
    bad = ModelFile("small", "openvino", chains[0], {"precision": "f64"})
    with pytest.raises(UsageError, match="f64"):
        measure_latency([bad], baseline="small", length=RunLength(MIN_ROUNDS))
    batched = ModelFile("small", "openvino", chains[0], {"batch": 2})
    assert measure_latency([batched], baseline="small", length=RunLength(MIN_ROUNDS), threads=1).rounds >= MIN_ROUNDS


@pytest.mark.parametrize(
    ("names", "baseline", "rounds"),
    [
        (["fp32", "int8"], "bf16", MIN_ROUNDS),
        (["fp32", "fp32"], "fp32", MIN_ROUNDS),
        (["fp32", "int8"], "fp32", MIN_ROUNDS - 1),
        (["fp32"], "fp32", 0),
        ([], "fp32", MIN_ROUNDS),
    ],
    ids=["no-baseline", "repeated", "too-few", "none", "empty"],
)
def test_what_cannot_be_timed_is_refused(names: list[str], baseline: str, rounds: int) -> None:
    # refused before any file is opened: these are not there
    candidates = [ModelFile(name, "openvino", Path("absent.xml")) for name in names]
    with pytest.raises(UsageError, match=r"differing names .* at least 100 rounds"):
        measure_latency(candidates, baseline=baseline, length=RunLength(rounds))


def test_a_candidate_that_is_no_model_is_named(tmp_path: Path) -> None:
    (tmp_path / "junk.xml").write_text("<net/>")
    with pytest.raises(BundleError, match=r"junk\.xml"):
        measure_latency(
            [ModelFile("int8", "openvino", tmp_path / "junk.xml")], baseline="int8", length=RunLength(MIN_ROUNDS)
        )


def test_a_disturbed_run_says_so() -> None:
    steady = benchmark._row(ModelFile("steady", "openvino", Path("a")), np.full(100, 4.0), np.full(100, 4.0))
    times = np.where(np.arange(100) % 5 == 0, 9.0, 2.0)
    rough = benchmark._row(ModelFile("rough", "openvino", Path("b")), times, np.full(100, 4.0))
    assert (steady.ratio, steady.ratio_interval.low, steady.ratio_interval.high) == (1.0, 1.0, 1.0)
    notes = benchmark._notes((steady, rough), "steady", rounds_of(100, 0))
    assert [note.split(":")[0] for note in notes] == ["rough"]
    assert not any("trust the ratio" in n for n in benchmark._notes((steady, rough), "steady", rounds_of(100, 7)))
    [note] = benchmark._notes((steady,), "steady", rounds_of(100, 7))
    assert note.startswith("7 of 100 rounds were disturbed")


def rounds_of(count: int, kept_disturbed: int) -> Rounds:
    return Rounds(np.ones((count, 1)), np.arange(count), 0, kept_disturbed, Interference(1.0, 2, 0.0, 0.0, None))


def test_a_clock_that_changed_is_noticed() -> None:
    """Half of the rounds run twice as fast; the baseline is fast in one round more than the other model."""
    base = np.array([10.0] * 49 + [20.0] * 51)
    times = np.array([5.0] * 51 + [10.0] * 49)
    rows = tuple(
        benchmark._row(ModelFile(name, "openvino", Path(name)), values, base)
        for name, values in (("fp32", base), ("int8", times))
    )
    assert rows[1].ratio == 2.0
    [note] = [note for note in benchmark._notes(rows, "fp32", rounds_of(100, 0)) if "medians" in note]
    assert "its paired ratio is 2.00, that of the medians 4.00" in note


@given(st.lists(st.floats(0.1, 10.0), min_size=6, max_size=60))
def test_the_interval_is_that_of_the_binomial(ratios: list[float]) -> None:
    """As many ratios lie outside each end as a fair coin shows in at most one of forty times."""
    values = np.array(ratios)
    middle, *ends = paired_ratio(values, np.ones(len(values)))
    interval = Interval(*ends)
    assert middle == pytest.approx(np.median(values))
    k = int(binom.ppf(0.025, len(values), 0.5))  # the least k with P(X <= k) >= 0.025, so P(X < k) <= 0.025
    assert (interval.low, interval.high) == (np.sort(values)[k - 1], np.sort(values)[len(values) - k])


def test_the_interval_holds_the_median_as_often_as_it_says() -> None:
    generator = np.random.default_rng(0)
    for n in (20, 150, 1500):
        inside = 0
        for _ in range(400):
            interval = Interval(*paired_ratio(generator.lognormal(0.0, 0.3, n), np.ones(n))[1:])
            inside += interval.low <= 1.0 <= interval.high
        assert 0.92 < inside / 400 <= 1.0


def test_the_interval_knows_that_a_machine_has_faster_and_slower_times() -> None:
    """Forty stretches of 50 rounds, each of one of two ratios: the same rounds in any order would look like 2,000."""
    generator = np.random.default_rng(0)
    held = {"in order": 0, "shuffled": 0}
    for _ in range(300):
        ratios = np.repeat(generator.choice([1.42, 1.5], 40), 50) * generator.lognormal(0.0, 0.05, 2000)
        for order, values in (("in order", ratios), ("shuffled", generator.permutation(ratios))):
            interval = Interval(*paired_ratio(values, np.ones(2000))[1:])
            held[order] += interval.low <= math.sqrt(1.42 * 1.5) <= interval.high
    assert held["in order"] / 300 > 0.92
    few = 0  # eight stretches of 250: longer than a tenth of the run, they are counted in part
    for _ in range(300):
        ratios = np.repeat(generator.choice([1.42, 1.5], 8), 250) * generator.lognormal(0.0, 0.05, 2000)
        interval = Interval(*paired_ratio(ratios, np.ones(2000))[1:])
        few += interval.low <= math.sqrt(1.42 * 1.5) <= interval.high
    assert few / 300 > 0.8
    assert held["shuffled"] / 300 < 0.75


def test_few_rounds_have_the_widest_interval() -> None:
    assert paired_ratio(np.array([3.0, 1.0, 2.0]), np.ones(3)) == (2.0, 1.0, 3.0)
