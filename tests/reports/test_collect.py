"""``edge_van.reports.collect``: which bundles, runs and images a report is of, and what it refuses."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from bundle_samples import one_line
from samples import benchmark, bundle_folder, manifest

from edge_van.errors import BundleError, UsageError
from edge_van.progress import Silent
from edge_van.reports import collect as module
from edge_van.reports.collect import ReportOptions, collect
from edge_van.reports.record import Report, encode_report
from edge_van.timing.record import encode_benchmark

FIRST, SECOND = manifest(), manifest(created="2026-05-05T00:00:00Z")
RUN = benchmark({"first": FIRST}, rounds=20)
BOTH = benchmark({"first": FIRST, "other": SECOND}, rounds=20)


class Noting(Silent):
    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)


def report_of(*paths: Path) -> Report:
    return collect(paths, ReportOptions(), Noting()).report


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
    found = collect([bundle_folder(tmp_path / "b", FIRST)], ReportOptions(), noting).report
    assert found.sides[0].run is None
    collect([bundle_folder(tmp_path / "c", manifest(latency=None))], ReportOptions(), noting)
    for name, shown, said in (("b", "only the latency in its manifest", 0), ("c", "no latency", 1)):
        assert noting.notes[said] == (
            f"{name} has no benchmark.json: {shown} is shown. For more, run: edge-van benchmark {tmp_path / name}"
        )


def test_no_folder_of_the_user_stands_in_a_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is read by others: names only, as the benchmark's command has them."""
    bundle, images = bundle_folder(tmp_path / "home" / "b", FIRST), tmp_path / "home" / "images"
    monkeypatch.setattr(module, "_demo_images", lambda manifest: images)
    found = report_of(bundle)
    assert (found.command, found.sides[0].no_explanation[:40]) == (
        "edge-van report b",
        "the images were not run (b has no OpenVI",
    )
    monkeypatch.setattr(module, "explain", lambda *arguments, **options: None)
    given = collect([bundle], ReportOptions(images, 7), Noting()).report
    assert given.command == "edge-van report b --data images --limit 7"
    assert str(tmp_path) not in encode_report(found).decode() + encode_report(given).decode()


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


def test_a_bundle_that_takes_a_run_is_not_said_to_have_none(tmp_path: Path) -> None:
    """In either order; the result itself is no side then."""
    bundle, result = bundle_folder(tmp_path / "a", FIRST), result_file(tmp_path / "r.json", RUN)
    for paths in ((bundle, result), (result, bundle)):
        noting = Noting()
        found = collect(paths, ReportOptions(), noting)
        assert noting.notes == []
        assert [(s.name, s.run) for s in found.report.sides] == [("a", 0)]
        assert found.paths == (bundle,)


def test_another_run_of_a_bundle_is_judged_by_that_bundle(tmp_path: Path) -> None:
    """Under the name that its folder has now."""
    bundle = bundle_folder(tmp_path / "renamed", FIRST, RUN)
    other = result_file(tmp_path / "later.json", replace(RUN, created="2026-09-09T00:00:00+00:00"))
    found = collect([bundle, other], ReportOptions(), Noting())
    assert [s.name for s in found.report.sides] == ["renamed", "renamed (later.json)"]
    assert [s.manifest for s in found.report.sides] == [FIRST, FIRST]
    assert [v.status for v in found.report.verdicts] == ["good", "good"]
    assert found.paths == (bundle, other)
    [comparison] = found.report.comparisons
    assert not comparison.same_run
    assert "one bundle, which has one accuracy" in comparison.sentences[-1]
    assert "of the bundle itself" in found.report.sides[1].no_explanation


def test_the_rest_of_a_run_is_compared_with_a_bundle_that_has_it_too(tmp_path: Path) -> None:
    bundle, both = bundle_folder(tmp_path / "a", FIRST, BOTH), result_file(tmp_path / "r.json", BOTH)
    found = collect([both, bundle], ReportOptions(), Noting())
    assert [(s.name, s.run_bundle, s.manifest is None) for s in found.report.sides] == [
        ("other", "other", True),
        ("a", "first", False),
    ]
    assert found.paths == (both, bundle)
    assert [v.status for v in found.report.verdicts] == ["not_judged", "good"]


def test_one_run_of_one_bundle_is_not_compared_with_itself(tmp_path: Path) -> None:
    bundle = bundle_folder(tmp_path / "a", FIRST, RUN)
    again = bundle_folder(tmp_path / "copy", FIRST, RUN)
    result, same = result_file(tmp_path / "r.json", RUN), result_file(tmp_path / "s.json", RUN)
    for paths in ((bundle, bundle / "benchmark.json"), (result, bundle), (result, same), (bundle, again)):
        with pytest.raises(UsageError) as caught:
            report_of(*paths)
        one_line(caught, "same run of the same bundle", "leave it out")


def test_two_of_one_name_are_told_apart(tmp_path: Path) -> None:
    found = report_of(bundle_folder(tmp_path / "x" / "b", FIRST, RUN), bundle_folder(tmp_path / "y" / "b", SECOND))
    assert [s.name for s in found.sides] == ["b", "b (2)"]
    assert found.comparisons[0].second == "b (2)"


def test_a_benchmark_of_another_bundle_is_refused(tmp_path: Path) -> None:
    folder = bundle_folder(tmp_path / "b", SECOND, RUN)
    with pytest.raises(UsageError) as caught:
        report_of(folder)
    one_line(caught, "was measured on first", "edge-van benchmark", "remove that file")


def test_a_link_to_a_benchmark_that_is_gone_is_told(tmp_path: Path) -> None:
    folder = bundle_folder(tmp_path / "b", FIRST)
    (folder / "benchmark.json").symlink_to(tmp_path / "gone.json")
    with pytest.raises(UsageError) as caught:
        report_of(folder)
    one_line(caught, "benchmark.json cannot be read (No such file or directory)")


def test_flags_that_nothing_would_heed_are_refused(tmp_path: Path) -> None:
    bundle, result = bundle_folder(tmp_path / "b", FIRST), result_file(tmp_path / "r.json", RUN)
    for path, options, words in (
        (result, ReportOptions(data=tmp_path / "absent"), "without a bundle"),
        (result, ReportOptions(image_limit=5), "none were given"),
        (bundle, ReportOptions(image_limit=5), "none were given"),
    ):
        with pytest.raises(UsageError) as caught:
            collect([path], options, Noting())
        one_line(caught, words, "give")


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
