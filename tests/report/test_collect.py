"""``edge_van.report.collect``: which bundles, runs and images a report is of, and what it refuses."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from bundle_samples import one_line
from samples import benchmark, bundle_folder, manifest

from edge_van.benchmark_record import encode_benchmark
from edge_van.errors import BundleError, UsageError
from edge_van.progress import Silent
from edge_van.report.collect import ReportOptions, collect
from edge_van.report.record import Report

FIRST, SECOND = manifest(), manifest(created="2026-05-05T00:00:00Z")
RUN = benchmark({"first": FIRST}, rounds=20)
BOTH = benchmark({"first": FIRST, "other": SECOND}, rounds=20)


class Noting(Silent):
    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


def report_of(*paths: Path) -> Report:
    return collect(paths, ReportOptions(), Noting())


def result_file(path: Path, content: object) -> Path:
    path.write_bytes(encode_benchmark(content))  # type: ignore[arg-type]
    return path


def test_a_bundle_takes_its_benchmark(tmp_path: Path) -> None:
    found = report_of(bundle_folder(tmp_path / "renamed", FIRST, RUN))
    [side] = found.sides
    assert (side.name, side.run, side.run_bundle) == ("renamed", 0, "first")
    assert found.runs == (RUN,)
    assert found.verdicts[0].speed is not None
    assert "--data" in side.no_explanation


def test_without_a_benchmark_the_reader_is_told(tmp_path: Path) -> None:
    noting = Noting()
    found = collect([bundle_folder(tmp_path / "b", FIRST)], ReportOptions(), noting)
    assert found.sides[0].run is None
    [note] = noting.notes
    assert "only the latency in its manifest" in note
    assert f"edge-van benchmark {tmp_path / 'b'}" in note


def test_a_result_gives_a_side_for_each_of_its_bundles(tmp_path: Path) -> None:
    found = report_of(result_file(tmp_path / "r.json", BOTH))
    assert [(s.name, s.manifest, s.run) for s in found.sides] == [("first", None, 0), ("other", None, 0)]
    assert len(found.comparisons) == 1
    assert found.comparisons[0].same_run


def test_the_same_run_beside_both_bundles_is_one(tmp_path: Path) -> None:
    found = report_of(bundle_folder(tmp_path / "a", FIRST, BOTH), bundle_folder(tmp_path / "b", SECOND, BOTH))
    assert len(found.runs) == 1
    assert [s.run_bundle for s in found.sides] == ["first", "other"]
    assert found.comparisons[0].speed_ratio is not None


def test_a_bundle_takes_the_run_of_a_result_beside_it(tmp_path: Path) -> None:
    found = report_of(bundle_folder(tmp_path / "a", FIRST), result_file(tmp_path / "r.json", BOTH))
    assert [(s.name, s.run, s.manifest is None) for s in found.sides] == [("a", 0, False), ("other", 0, True)]


def test_two_of_one_name_are_told_apart(tmp_path: Path) -> None:
    found = report_of(bundle_folder(tmp_path / "x" / "b", FIRST, RUN), bundle_folder(tmp_path / "y" / "b", SECOND))
    assert [s.name for s in found.sides] == ["b", "b (2)"]
    assert found.comparisons[0].second == "b (2)"


def test_a_benchmark_of_another_bundle_is_refused(tmp_path: Path) -> None:
    folder = bundle_folder(tmp_path / "b", SECOND, RUN)
    with pytest.raises(UsageError) as caught:
        report_of(folder)
    one_line(caught, "was measured on first", "edge-van benchmark", "remove that file")


def test_what_is_no_subject_is_refused(tmp_path: Path) -> None:
    folder = bundle_folder(tmp_path / "b", FIRST)
    (tmp_path / "empty").mkdir()
    (tmp_path / "x.json").write_text("{}")
    result_file(tmp_path / "none.json", replace(RUN, bundles=()))
    for path, kind, words in (
        (tmp_path / "absent", UsageError, "does not exist"),
        (folder / "manifest.json", UsageError, "give the bundle's folder"),
        (tmp_path / "empty", BundleError, "is no bundle"),
        (tmp_path / "x.json", UsageError, "no benchmark result"),
        (tmp_path / "none.json", UsageError, "has 0 bundles"),
    ):
        with pytest.raises(kind) as caught:
            report_of(path)
        one_line(caught, words)
