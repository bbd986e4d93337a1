"""``edge-van report`` on a bundle of real models with real images, from the command line to the page."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from bundle_samples import ACCURACY
from cli_samples import run

from edge_van.bundle.bundle import Bundle, update_manifest, verify
from edge_van.reports.record import read_report


def test_a_real_bundle_with_images(
    real: tuple[Bundle, Path], tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    made, data = real
    shutil.copytree(made.path, tmp_path / "narrow")
    bundle = update_manifest(Bundle(tmp_path / "narrow", made.manifest), accuracy=ACCURACY)
    code, out, err = run(capfd, monkeypatch, "report", bundle.path, "--data", data, "--limit", 12)
    assert code == 0, err
    assert {path.name for path in bundle.path.iterdir()} >= {"report.html", "report.json", "report.md"}
    assert verify(bundle) == []
    found = read_report(bundle.path / "report.json")
    assert found.sides[0].explanation is not None
    assert found.sides[0].explanation.cams is not None
    page = (bundle.path / "report.html").read_text()
    assert page.count("data:image/jpeg;base64,") >= 18
    assert out.splitlines()[0].startswith("with reservations. INT8 can be shipped with reservations: it loses 1.00")
    assert f"Wrote:  {bundle.path / 'report.html'}" in out
    assert f"Next:   edge-van benchmark {bundle.path}" in out
    assert "Comparing Grad-CAM" in err
