"""What the report's tests share: one report of a bundle, one of two, and their pages, drawn once."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hostile import hostile_run, hostile_side
from real_bundle import make_bundle
from samples import ASYMMETRIC, HOSTILE, SYMMETRIC, benchmark, bundle_folder, manifest

from edge_van.bundle.bundle import Bundle
from edge_van.progress import SILENT
from edge_van.reports.collect import ReportOptions, collect
from edge_van.reports.html import html
from edge_van.reports.page import page_of
from edge_van.reports.record import Report
from edge_van.reports.verdict import judge
from edge_van.reports.view import Page


@pytest.fixture(scope="session")
def single(tmp_path_factory: pytest.TempPathFactory) -> Report:
    """A report with every section under hostile names: engines, a doubt, flips and Grad-CAM (these two made up)."""
    content = manifest()
    folder = tmp_path_factory.mktemp("single") / "demo"
    result = hostile_run(benchmark({"demo": content}))
    found = collect([bundle_folder(folder, content, result)], ReportOptions(), SILENT).report
    side = hostile_side("demo", found.sides[0])
    return replace(found, command=HOSTILE, sides=(side,), verdicts=(judge(side, found.runs),))


@pytest.fixture(scope="session")
def single_page(single: Report) -> Page:
    return page_of(single)


@pytest.fixture(scope="session")
def single_html(single_page: Page, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_bytes(html(single_page))
    return path


@pytest.fixture(scope="session")
def two_pages(one_run: Report) -> Page:
    return page_of(one_run)


@pytest.fixture(scope="session")
def one_run(tmp_path_factory: pytest.TempPathFactory) -> Report:
    """Two bundles that were timed in one run, under names that are alike but in the middle."""
    root = tmp_path_factory.mktemp("one_run")
    first, second = manifest(), manifest(drop=0.9, half=0.6, created="2026-03-03T00:00:00Z")
    content = {SYMMETRIC: first, ASYMMETRIC: second}
    result = benchmark(content, rounds=60, most_models=5)
    folders = [bundle_folder(root / n, m, result) for n, m in content.items()]
    return collect(folders, ReportOptions(), SILENT).report


@pytest.fixture(scope="session")
def real(tmp_path_factory: pytest.TempPathFactory) -> tuple[Bundle, Path]:
    """A real bundle, and its images; read-only."""
    return make_bundle(tmp_path_factory.mktemp("real"))


@pytest.fixture
def no_plots(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is drawn: plots have tests of their own, and take seconds."""
    monkeypatch.setattr("edge_van.reports.figures.canvas._svg", lambda *arguments, **options: "<svg></svg>")
