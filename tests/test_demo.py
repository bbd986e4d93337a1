"""The embedded demo is what its provenance says: hashes, counts, no image on both sides, a checkpoint that loads."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from typing import Any

import pytest

from edge_van.assets import DEMO_CALIBRATION, DEMO_CHECKPOINT, DEMO_VALIDATION, asset
from edge_van.checkpoint.load import load_checkpoint
from edge_van.images.decode import decode
from edge_van.images.draw import hashes
from edge_van.images.sets import open_images
from edge_van.input_spec import InputSpec

FOLDER = asset(DEMO_CHECKPOINT).parent
MAX_TOTAL_BYTES = 20_000_000


@pytest.fixture(scope="module")
def provenance() -> dict[str, Any]:
    values: dict[str, Any] = json.loads((FOLDER / "provenance.json").read_text(encoding="utf-8"))
    return values


def test_every_file_has_the_hash_its_provenance_gives(provenance: dict[str, Any]) -> None:
    assert set(provenance["files"]) == {asset(p).name for p in (DEMO_CHECKPOINT, DEMO_CALIBRATION, DEMO_VALIDATION)}
    for name, record in provenance["files"].items():
        assert hashlib.sha256((FOLDER / name).read_bytes()).hexdigest() == record["sha256"], name


@pytest.mark.parametrize(("relative", "count"), [(DEMO_CALIBRATION, 512), (DEMO_VALIDATION, 2000)])
def test_images_are_balanced_and_listed_one_by_one(provenance: dict[str, Any], relative: str, count: int) -> None:
    path = asset(relative)
    record = provenance["files"][path.name]
    with open_images(path) as images:
        assert images.classes is not None
        assert len(images) == record["images"] == count
        per_class = Counter(images.classes[item.label] for item in images.items if item.label is not None)
        assert per_class == record["images_per_class"]
        assert len(per_class) == 10
        assert max(per_class.values()) - min(per_class.values()) <= 1
        folder = record["source"].removesuffix(".zip")
        found = {f"{folder}/{item.name}": images.content_hash(i) for i, item in enumerate(images.items)}
        assert found == record["original_sha256"]
        assert len(set(found.values())) == count
        assert decode(images.read(0), InputSpec(size=(32, 32), crop=1.0)).shape == (32, 32, 3)


def test_no_image_is_in_both() -> None:
    with open_images(asset(DEMO_CALIBRATION)) as calibration, open_images(asset(DEMO_VALIDATION)) as validation:
        assert not hashes(calibration) & hashes(validation)


def test_size() -> None:
    assert sum(path.stat().st_size for path in FOLDER.iterdir() if path.is_file()) < MAX_TOTAL_BYTES


def test_checkpoint_loads_with_its_classes_and_preprocessing(provenance: dict[str, Any]) -> None:
    loaded = load_checkpoint(asset(DEMO_CHECKPOINT), variant="b0")
    record = provenance["files"][asset(DEMO_CHECKPOINT).name]
    assert (loaded.variant, loaded.layout, loaded.sha256) == (record["variant"], "edge-van", record["sha256"])
    assert not loaded.spec_is_default
    assert not loaded.warnings
    assert loaded.van.num_classes == 10
    assert loaded.spec.size == (64, 64)
    with open_images(asset(DEMO_VALIDATION)) as images:
        assert loaded.spec.classes == images.classes
