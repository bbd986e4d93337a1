"""A bundle and a report of each version before are read, run and drawn as those of this one."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import edge_van
from edge_van.bundle.bundle import Bundle
from edge_van.bundle.manifest import MANIFEST_FORMAT, read_manifest
from edge_van.progress import SILENT
from edge_van.reports.collect import ReportOptions, collect
from edge_van.reports.record import encode_report, read_report

CLASSES = tuple("abcdefg")


def as_version_2(manifest: dict[str, Any]) -> dict[str, Any]:
    """What version 2 wrote: top-1 and nothing else, of a softmax."""
    manifest.pop("head")
    records = [manifest["accuracy"], manifest["rounded"], *(s["accuracy"] for s in manifest["schemes"])]
    for record in (record for record in records if record is not None):
        assert (record.pop("metric"), list(record.pop("others"))) == ("top-1", [])
        for name in ("fp32_percent", "int8_percent", "drop_points", "drop_interval"):
            record[f"top1_{name}"] = record.pop(name)
    for row in (row for engines in manifest["engines"].values() for row in engines["choice"]["table"]):
        row["top1_drop_points"] = row.pop("drop_points")
    return manifest | {"schema_version": 2}


def as_version_1(manifest: dict[str, Any]) -> dict[str, Any]:
    """What version 1 wrote: the recipe flat, its schemes joined by commas, the figures of the fold among it."""
    manifest = as_version_2(manifest)
    recipe, folded = dict(manifest.pop("recipe")), manifest.pop("fold")
    # there was one method, and one kind of ranges; a report of before has none of these
    for name in ("method", "qat", "reconstruction", "ranges", "float_layers", "activation_places"):
        recipe.pop(name, None)
    recipe["tensorrt_schemes"] = ",".join(recipe["tensorrt_schemes"])
    recipe["fold_max_relative_error"] = folded.pop("max_relative_error")
    return manifest | {"schema_version": 1, "recipe": recipe | folded}


OLDER = {1: as_version_1, 2: as_version_2}


@pytest.fixture(params=OLDER)
def version(request: pytest.FixtureRequest) -> int:
    return int(request.param)


@pytest.fixture
def old(timed_bundle: Bundle, tmp_path: Path, version: int) -> Path:
    folder = tmp_path / "old_int8"
    shutil.copytree(timed_bundle.path, folder)
    content = OLDER[version](json.loads((folder / "manifest.json").read_bytes()))
    content["input_spec"]["classes"] = CLASSES
    (folder / "manifest.json").write_text(json.dumps(content))
    return folder


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    generator = np.random.default_rng(3)
    for name in CLASSES:
        (tmp_path / "data" / name).mkdir(parents=True)
        pixels = generator.integers(0, 256, (64, 64, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / "data" / name / "0.png")
    return tmp_path / "data"


def test_the_sample_is_what_version_1_wrote() -> None:
    path = Path(__file__).parent / "bundle" / "manifest_version_1.json"
    again = as_version_1(json.loads(json.dumps(asdict(MANIFEST_FORMAT.read(path)))))
    assert again["recipe"] == json.loads(path.read_bytes())["recipe"]


def test_it_is_opened_run_and_validated(old: Path, timed_bundle: Bundle, pictures: Path) -> None:
    bundle = edge_van.open_bundle(old)
    assert bundle.manifest.recipe == timed_bundle.manifest.recipe
    assert bundle.manifest.fold == timed_bundle.manifest.fold
    assert edge_van.validate(old, pictures).images == len(CLASSES)
    assert len(edge_van.predict(old, pictures)) == len(CLASSES)
    with edge_van.open_classifier(old) as classify:
        assert classify(pictures / "a" / "0.png").top1.name in CLASSES


def test_it_is_timed_and_its_report_is_drawn_again(old: Path, version: int, tmp_path: Path) -> None:
    settings = edge_van.BenchmarkSettings(
        scenarios=("single_stream",), threads=1, samples=20, min_duration_s=0.0, max_duration_s=1.0
    )
    options = edge_van.BenchmarkOptions(settings, runtimes=("openvino",), startup=False, layers=False)
    edge_van.benchmark(old, options=options)
    report = collect([old], ReportOptions(), SILENT).report
    content = json.loads(encode_report(report))
    for side in content["sides"]:
        side["manifest"] = OLDER[version](side["manifest"])
    (tmp_path / "report.json").write_text(json.dumps(content | {"schema_version": version}))
    read = read_report(tmp_path / "report.json")
    assert read.sides == report.sides
    assert read.runs == report.runs
    assert read.sides[0].manifest == read_manifest(old)
