"""What the report's tests share: one report of a bundle, one of two, and their pages, drawn once."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from bundle_samples import MANIFEST
from real_bundle import make_bundle
from samples import CLASSES, DOUBT, HOSTILE, benchmark, bundle_folder, manifest

from edge_van.bundle import Bundle
from edge_van.progress import SILENT
from edge_van.report.collect import ReportOptions, collect
from edge_van.report.html import html
from edge_van.report.page import page_of
from edge_van.report.pictures import jpeg
from edge_van.report.record import CAMPair, CAMs, Explanation, Flip, Report, Side, TopClass
from edge_van.report.view import Page


def explanation() -> Explanation:
    generator = np.random.default_rng(0)
    picture = jpeg(generator.integers(0, 256, (64, 64, 3), dtype=np.uint8))
    flips = tuple(
        Flip(f"val/{c}/{c}.png", picture, c, TopClass(c, 0.46), TopClass(CLASSES[0], 0.51), "lost")
        for c in CLASSES[1:6]
    )
    pairs = tuple(CAMPair(f"{c}.png", c, c, picture, picture, picture, 0.99) for c in CLASSES[:3])
    correlations = tuple(generator.uniform(0.9, 1.0, 60).tolist())
    cams = CAMs(
        3, (*pairs, CAMPair("k.png", "cat", "dog", picture, picture, picture, None)), 64, correlations, 4, 0.95, 0.95, 0.9
    )
    return Explanation("validation.zip", MANIFEST.machine, 2000, 1, 5, 3, 2, flips, cams)


def hostile_side(name: str, side: Side) -> Side:
    """The same evidence under names that are markup, terminal codes and formulas."""
    content = side.manifest
    assert content is not None
    assert content.accuracy is not None
    classes = tuple(replace(c, name=f"{HOSTILE}{i}") for i, c in enumerate(content.accuracy.classes))
    content = replace(
        content,
        accuracy=replace(content.accuracy, classes=classes, data=HOSTILE),
        checkpoint=HOSTILE,
        warnings=(HOSTILE,),
    )
    return replace(side, name=name + HOSTILE, manifest=content)


@pytest.fixture(scope="session")
def single(tmp_path_factory: pytest.TempPathFactory) -> Report:
    """A report with every section: engines, a doubt, flips and Grad-CAM (these two made up, under hostile names)."""
    content = manifest()
    folder = tmp_path_factory.mktemp("single") / "demo"
    result = replace(benchmark({"demo": content}), doubts=(DOUBT,))
    found = collect([bundle_folder(folder, content, result)], ReportOptions(), SILENT).report
    side = replace(hostile_side("demo", found.sides[0]), explanation=explanation())
    return replace(found, sides=(side,), verdicts=(replace(found.verdicts[0], side=side.name),))


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
    """Two bundles that were timed in one run."""
    root = tmp_path_factory.mktemp("one_run")
    first, second = manifest(), manifest(drop=0.9, half=0.6, created="2026-03-03T00:00:00Z")
    result = benchmark({"first": first, "second": second}, rounds=60, most_models=5)
    folders = [bundle_folder(root / n, m, result) for n, m in (("first", first), ("second", second))]
    return collect(folders, ReportOptions(), SILENT).report


@pytest.fixture(scope="session")
def real(tmp_path_factory: pytest.TempPathFactory) -> tuple[Bundle, Path]:
    """A real bundle, and its images; read-only."""
    return make_bundle(tmp_path_factory.mktemp("real"))


@pytest.fixture
def no_plots(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is drawn: plots have tests of their own, and take seconds."""
    monkeypatch.setattr("edge_van.report.figures.canvas._svg", lambda *arguments, **options: "<svg></svg>")
