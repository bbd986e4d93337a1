"""``edge_van.timing.gate``: ratios to each run's own baseline are compared, and noise is no slowdown."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from benchmark_samples import MEDIANS_MS, SETTINGS, query_rows, rate_rows, result
from bundle_samples import one_line

from edge_van.bundle.records import Interval
from edge_van.errors import LatencyGateError, MissingRuntimeError, UsageError
from edge_van.statistics import paired_ratio
from edge_van.timing.gate import Slowdown, require_same_conditions, require_same_models, slowdown_gate
from edge_van.timing.record import SCENARIOS, BenchmarkResult, Doubt, QueryLatency, Skipped, Throughput

NOISY_MS = {"openvino-fp32": 4.0, **{f"openvino-m{i}": 4.0 * 0.8**i for i in range(1, 8)}}
BATCHES = (8, 16, 32)
QUIET = result(NOISY_MS)
BOTH = replace(SETTINGS, batches=(8, 16))


def gate(before: BenchmarkResult, now: BenchmarkResult, limit: float) -> tuple[tuple[Slowdown, ...], list[str]]:
    notes: list[str] = []
    return slowdown_gate(before, now, limit, notes.append), notes


def slower_int8(factor: float, machine: float = 1.0) -> BenchmarkResult:
    """INT8 slower by ``factor``, everything by ``machine``."""
    fp32, int8 = MEDIANS_MS.values()
    return result({"openvino-fp32": machine * fp32, "openvino-int8": machine * factor * int8})


def gain(base: Any, times: Any) -> tuple[float, Interval]:
    """As a row of a result has it."""
    ratio, *ends = paired_ratio(np.array(base), np.array(times))
    return ratio, Interval(*ends)


def noisy(seed: int, swing: float, own: float, queries: float = 1.0, slices: float = 1.0) -> BenchmarkResult:
    """Seven models beside a baseline, in all scenarios; each round has a ``swing`` of the machine that falls on all
    models and noise of each its own. The last model is slower by ``queries`` and, offline, by ``slices``.
    """
    generator = np.random.default_rng(seed)
    medians = np.array(list(NOISY_MS.values()))

    def times(rounds: int, factor: float) -> Any:
        noise = swing * generator.standard_normal((rounds, 1)) + own * generator.standard_normal((rounds, len(medians)))
        return medians * np.append(np.ones(len(medians) - 1), factor) * np.exp(noise)

    def rows(images: int, rounds: int) -> Any:
        values = times(rounds, queries)
        return tuple(
            QueryLatency(
                name,
                images,
                tuple(values[:, i]),
                float(np.median(values[:, i])),
                9,
                9,
                0.1,
                *gain(values[:, 0], values[:, i]),
            )
            for i, name in enumerate(NOISY_MS)
        )

    offline = []
    for batch in BATCHES:
        rates = 1e3 * batch / times(10, slices) / batch**0.95  # larger batches gain a little
        offline += [
            Throughput(
                name,
                batch,
                1,
                tuple(rates[:, i]),
                float(np.median(rates[:, i])),
                0.1,
                *gain(rates[:, i], rates[:, 0]),
            )
            for i, name in enumerate(NOISY_MS)
        ]
    return replace(
        QUIET,
        settings=replace(SETTINGS, scenarios=SCENARIOS, batches=BATCHES),
        single_stream=rows(1, 300),
        multi_stream=rows(8, 100),
        offline=tuple(offline),
    )


@pytest.mark.parametrize("machine", [0.5, 1.0, 2.0])
def test_a_slower_or_faster_machine_is_no_regression(machine: float) -> None:
    found, _ = gate(result(), slower_int8(1.0, machine), 1.02)
    assert [f"{s.figure} of {s.figure.model}" for s in found] == [
        "SingleStream of openvino-int8",
        "Offline at batch 8 of openvino-int8",
    ]
    assert all(s.factor == pytest.approx(1.0, abs=0.01) for s in found)


@pytest.mark.parametrize("noise", [(0.0, 0.10), (0.10, 0.07), (0.0, 0.15)])
def test_noise_alone_is_hardly_ever_a_slowdown(noise: tuple[float, float]) -> None:
    """21 figures of ten slices or a few hundred queries, with the slices' coefficient of variation of real runs."""
    failed = noticed = 0
    for seed in range(100):
        try:
            _, notes = gate(noisy(2 * seed, *noise), noisy(2 * seed + 1, *noise), 1.10)
            noticed += bool(notes)
        except LatencyGateError:
            failed += 1
    assert failed <= 5
    assert noticed >= 10  # the limit alone would have failed these


def test_rounds_that_are_alike_for_a_while_are_no_slowdown() -> None:
    """Forty stretches of 50 rounds with one of two ratios each, as where a machine has two speeds: 1.06 apart, and with
    a limit of 1.0 nothing but the interval keeps the gate from failing."""

    def run() -> BenchmarkResult:
        ratios = np.repeat(generator.choice([1.42, 1.5], 40), 50) * generator.lognormal(0.0, 0.03, 2000)
        fp32, int8 = query_rows(MEDIANS_MS)
        times, (ratio, interval) = (4.0,) * 2000, gain(4.0 * ratios, np.full(2000, 4.0))
        slow = replace(int8, samples_ms=times, ratio=ratio, ratio_interval=interval)
        return result(single_stream=(replace(fp32, samples_ms=tuple(4.0 * ratios)), slow), offline=())

    generator, failed = np.random.default_rng(0), 0
    for _ in range(80):
        try:
            gate(run(), run(), 1.0)
        except LatencyGateError:
            failed += 1
    assert failed <= 7  # 2.5 % are 2


def test_a_true_slowdown_is_found() -> None:
    """By 1.3: of everything with slices that vary wildly, and of nothing but throughput with those of a real run."""
    found = 0
    for seed in range(40):
        with pytest.raises(LatencyGateError, match="openvino-m7 lost a factor"):
            gate(noisy(2 * seed, 0.0, 0.15), noisy(2 * seed + 1, 0.0, 0.15, queries=1.3, slices=1.3), 1.10)
        try:
            gate(noisy(2 * seed, 0.10, 0.06), noisy(2 * seed + 1, 0.10, 0.06, slices=1.3), 1.10)
        except LatencyGateError as error:
            found += "Offline at batch" in str(error)
    assert found >= 36


def test_a_slowdown_over_the_limit_says_which_by_how_much_and_what_took_how_long() -> None:
    with pytest.raises(LatencyGateError) as caught:
        gate(result(), slower_int8(1.25), 1.10)
    one_line(
        caught,
        "SingleStream: openvino-int8 lost a factor of 1.25 against openvino-fp32 (interval 1.25 to 1.25): 2.00 times "
        "as fast then, 1.60 times now (openvino-int8: 2.02 ms then, 2.52 now; openvino-fp32: 4.04 ms then, 4.04 now)",
        "Offline at batch 8: openvino-int8 lost a factor of 1.25",
        "(openvino-int8: 4018.0 images/s then, 3214.4 now; openvino-fp32: 2009.0 images/s then, 2009.0 now)",
        "1.1 is allowed",
    )
    assert caught.value.exit_code == 4
    assert "doubt" not in str(caught.value)


def test_a_faster_baseline_model_is_told_from_a_slower_model() -> None:
    """The gate fires, for the ratio fell; the message shows that INT8 takes what it took."""
    faster = result({"openvino-fp32": 3.0, "openvino-int8": 2.0})
    notes: list[str] = []
    with pytest.raises(LatencyGateError, match=r"openvino-int8: 2\.02 ms then, 2\.02 now"):
        slowdown_gate(result(), faster, 1.10, notes.append)
    assert any("openvino-fp32 itself: 4.04 ms then, 3.03 now" in note for note in notes)


def test_what_slows_all_alike_passes_and_is_noted() -> None:
    found, notes = gate(result(), slower_int8(1.0, machine=1.5), 1.10)
    assert len(found) == 2
    assert [note.split(": ")[1] for note in notes] == ["SingleStream", "Offline at batch 8"]
    assert all("what slows all models alike is not seen" in note for note in notes)
    assert gate(result(), slower_int8(1.0, machine=1.05), 1.10)[1] == []


def test_a_slowdown_that_so_few_samples_do_not_show_is_a_warning() -> None:
    def few(factor: float) -> BenchmarkResult:
        medians = {"openvino-fp32": 4.0, "openvino-int8": 2.0 * factor}
        return result(single_stream=(), offline=rate_rows(medians, 8, slices=3))

    _, [note] = gate(few(1.0), few(1.5), 1.10)
    assert note.startswith("warning: Offline at batch 8: openvino-int8 lost a factor of 1.50")
    assert "too few samples for an interval" in note
    assert "with --min-duration" in note


def test_doubts_about_either_run_are_counted() -> None:
    doubt = Doubt("variation", "single_stream", (), "the times vary")
    before, now = replace(result(), doubts=(doubt, doubt)), replace(slower_int8(1.5), doubts=(doubt,))
    with pytest.raises(LatencyGateError, match=r"2 doubts about the baseline's figures and 1 doubt about this run's"):
        gate(before, now, 1.10)


def test_just_within_the_limit_and_faster_pass() -> None:
    assert gate(result(), slower_int8(1.09), 1.10)[1] == []
    assert all(s.factor < 1 for s in gate(result(), slower_int8(0.5), 1.0)[0])


def test_offline_is_compared_at_the_batch_size_that_was_best_then() -> None:
    """At 16 INT8 was best; now it is at 8, where its ratio is another."""
    at_8 = [rate_rows({"openvino-fp32": 9.0, "openvino-int8": ms}, 8) for ms in (3.0, 0.5)]
    then, now = (result(offline=(*rows, *rate_rows(MEDIANS_MS, 16)), settings=BOTH) for rows in at_8)
    found, _ = gate(then, now, 1.10)
    assert [(s.figure.images, s.factor) for s in found if s.figure.scenario == "offline"] == [(16, 1.0)]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"offline": (), "skipped": (Skipped("openvino-int8, Offline with 8 images", "out of memory"),)},
            "Offline at batch 8 of openvino-int8 is in --baseline and could not be measured now (out of memory)",
        ),
        (
            {"single_stream": query_rows({"openvino-fp32": 4.0}), "skipped": (Skipped("openvino-int8", "no kernel"),)},
            "SingleStream of openvino-int8 is in --baseline and could not be measured now (no kernel)",
        ),
    ],
)
def test_a_figure_that_could_not_be_measured_is_no_slowdown_and_no_pass(changes: Any, words: str) -> None:
    with pytest.raises(MissingRuntimeError) as caught:
        gate(result(), result(**changes), 1.10)
    one_line(caught, words)


def test_a_new_figure_is_none() -> None:
    settings = replace(SETTINGS, scenarios=SCENARIOS)
    more = result(multi_stream=query_rows(MEDIANS_MS, images=8), settings=settings)
    assert len(gate(result(), more, 1.10)[0]) == 2


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"machine": replace(result().machine, cpu="another cpu")}, "the CPU differs (a cpu then, another cpu now)"),
        ({"settings": replace(SETTINGS, threads=4)}, "the number of threads differs (2 then, 4 now)"),
        ({"bundles": (replace(result().bundles[0], input_size=(64, 64)),)}, "the input size differs"),
        ({"bundles": (replace(result().bundles[0], variant="b2"),)}, "the variant differs"),
        ({"bundles": result().bundles * 2}, "the number of bundles differs (1 then, 2 now)"),
        ({"settings": replace(SETTINGS, streams=4)}, "the number of streams differs"),
        ({"machine": replace(result().machine, logical_cores=16)}, "the number of cores differs (4 then, 16 now)"),
        ({"settings": replace(result().settings, device="cuda")}, "the device differs (cpu then, cuda now)"),
        ({"baseline": "openvino-int8"}, "the model that ratios are taken to differs"),
        ({"settings": replace(SETTINGS, scenarios=("offline",))}, "figures of SingleStream, which --scenario leaves"),
        ({"settings": replace(SETTINGS, batches=(1, 4))}, "its best Offline figures at batch 8, which --batch leaves"),
    ],
)
def test_runs_that_cannot_be_compared_are_refused(changes: Any, words: str) -> None:
    """Without a figure of the second run: nothing needs to be measured for it."""
    now = result(single_stream=(), offline=(), **changes)
    with pytest.raises(UsageError) as caught:
        require_same_conditions(result(), now.bundles, now.settings, now.machine, now.baseline)
    one_line(caught, words)
    with pytest.raises(UsageError):
        gate(result(), now, 1.10)


def test_other_batch_sizes_than_the_best_may_be_left_out() -> None:
    gate(
        result(offline=(*rate_rows({"openvino-fp32": 9.0, "openvino-int8": 9.0}, 1), *rate_rows(MEDIANS_MS, 8))),
        result(settings=replace(SETTINGS, batches=(8,))),
        1.10,
    )


def test_queries_of_another_size_are_refused() -> None:
    settings = replace(SETTINGS, scenarios=SCENARIOS)
    before = result(multi_stream=query_rows(MEDIANS_MS, images=8), settings=settings)
    now = replace(before, settings=replace(settings, multi_stream_samples=4))
    with pytest.raises(UsageError, match=r"the size of a MultiStream query differs \(\[8\] then, \[4\] now\)"):
        gate(before, now, 1.10)


def test_threads_are_those_of_each_model_in_whatever_order() -> None:
    before = result(models=tuple(replace(m, threads=2 + i) for i, m in enumerate(result().models)))
    gate(before, replace(before, models=before.models[::-1]), 1.10)
    other = result(models=tuple(replace(m, threads=3) for m in result().models))
    with pytest.raises(UsageError, match=r"the number of openvino-fp32's threads differs \(2 then, 3 now\)"):
        gate(before, other, 1.10)


def test_models_that_are_not_there_are_said_before_anything_is_measured() -> None:
    require_same_models(result(), ["openvino-fp32", "openvino-int8", "torch-fp32"], ())
    with pytest.raises(UsageError, match="figures of openvino-int8, which the choice of bundles and runtimes leaves"):
        require_same_models(result(), ["openvino-fp32"], (Skipped("tensorrt", "no engines"),))
    for skipped in (Skipped("openvino-int8", "no openvino/model.xml"), Skipped("openvino", "not installed")):
        with pytest.raises(MissingRuntimeError, match=rf"openvino-int8 is in --baseline .*\({skipped.reason}\)"):
            require_same_models(result(), ["openvino-fp32"], (skipped,))


def test_a_baseline_of_one_model_says_nothing() -> None:
    alone = result({"openvino-fp32": 4.0})
    with pytest.raises(UsageError, match="at least two models"):
        require_same_conditions(alone, alone.bundles, alone.settings, alone.machine, None)


def test_a_baseline_whose_rounds_cannot_be_paired_is_refused() -> None:
    fp32, int8 = result().single_stream
    with pytest.raises(UsageError, match="no rounds of SingleStream that timed both openvino-int8 and openvino-fp32"):
        gate(result(single_stream=(fp32, replace(int8, samples_ms=int8.samples_ms[1:]))), result(), 1.10)
