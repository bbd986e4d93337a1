"""``edge_van.assets``: the wheel's copy first, the checkout's otherwise, and a message where neither is there."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_van import assets
from edge_van.assets import DEFAULT_RECIPE, DEMO_CALIBRATION, DEMO_CHECKPOINT, DEMO_VALIDATION, asset
from edge_van.errors import EdgeVanError


@pytest.mark.parametrize("relative", [DEFAULT_RECIPE, DEMO_CALIBRATION, DEMO_CHECKPOINT, DEMO_VALIDATION])
def test_every_packaged_file_is_there(relative: str) -> None:
    path = asset(relative)
    assert path.is_absolute()
    assert path.as_posix().endswith(relative)
    assert path.stat().st_size > 0


def test_wheel_before_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "edge_van"
    monkeypatch.setattr(assets, "_PACKAGE", package)
    with pytest.raises(EdgeVanError, match=r"git checkout -- calibration/x\.txt") as caught:
        asset("calibration/x.txt")
    assert str(package / "_assets") in str(caught.value)
    assert "\n" not in str(caught.value)

    checkout, wheel = tmp_path / "calibration/x.txt", package / "_assets/calibration/x.txt"
    for path in (checkout, wheel):
        path.parent.mkdir(parents=True)
        path.touch()
        assert asset("calibration/x.txt") == path


def test_a_folder_is_no_asset() -> None:
    with pytest.raises(EdgeVanError):
        asset("calibration")
