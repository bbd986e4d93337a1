"""``edge_van.quantization.calibration``: drawn once, kept as bytes, normalised as the network sees it."""

from __future__ import annotations

import hashlib
import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from watching import Watching

from edge_van.errors import DataError
from edge_van.images.decode import decode
from edge_van.images.sets import ImageSet, open_images
from edge_van.input_spec import InputSpec
from edge_van.progress import Work
from edge_van.quantization.calibration import CalibrationImages, load_calibration

SPEC = InputSpec(size=(12, 16), mean=(0.1, 0.4, 0.7), std=(0.2, 0.5, 1.0))


def painting(seed: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (20, 24, 3), np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def gallery(root: Path, per_class: int = 4) -> Path:
    for c, name in enumerate(("ash", "elm", "oak")):
        (root / name).mkdir(parents=True)
        for i in range(per_class):
            (root / name / f"{i}.png").write_bytes(painting(100 * c + i))
    return root


@pytest.fixture(scope="module")
def album(tmp_path_factory: pytest.TempPathFactory) -> ImageSet:
    return open_images(gallery(tmp_path_factory.mktemp("album") / "trees"))


def random_pixels(n: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (n, *SPEC.size, 3), np.uint8)


# ── the sequence ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_normalised_by_hand() -> None:
    pixels = random_pixels(3)
    (batch,) = CalibrationImages(pixels, SPEC, 8)
    assert batch.shape == (3, 3, *SPEC.size)
    assert batch.dtype == torch.float32
    for n, c, y, x in ((0, 0, 0, 0), (1, 1, 5, 15), (2, 2, 11, 3)):
        by_hand = (pixels[n, y, x, c] / 255 - SPEC.mean[c]) / SPEC.std[c]
        assert float(batch[n, c, y, x]) == pytest.approx(by_hand, abs=1e-6)
    whole = (pixels / 255 - np.array(SPEC.mean)) / np.array(SPEC.std)
    assert np.allclose(batch.numpy(), whole.transpose(0, 3, 1, 2), atol=1e-5)


@pytest.mark.parametrize(
    ("images", "batch", "sizes"), [(7, 3, [3, 3, 1]), (6, 3, [3, 3]), (2, 8, [2]), (3, 1, [1] * 3)]
)
def test_batches_cover_every_image_once(images: int, batch: int, sizes: list[int]) -> None:
    pixels = random_pixels(images)
    batches = CalibrationImages(pixels, SPEC, batch)
    assert len(batches) == len(sizes)
    assert [len(b) for b in batches] == sizes
    assert torch.equal(torch.cat(list(batches)), batches.normalized(pixels))
    assert all(torch.equal(a, b) for a, b in zip(batches, batches, strict=True))  # any number of passes


def test_indices_and_slices_are_a_lists() -> None:
    batches = CalibrationImages(random_pixels(7), SPEC, 2)
    plain = list(batches)
    assert len(plain) == 4
    for part in (slice(None), slice(1, 3), slice(None, None, -1), slice(-2, None), slice(3, 99), slice(2, 1)):
        found = batches[part]
        assert isinstance(found, list)
        assert len(found) == len(plain[part])
        assert all(torch.equal(a, b) for a, b in zip(found, plain[part], strict=True))
    assert torch.equal(batches[3], plain[3])
    for outside in (4, 99):
        with pytest.raises(IndexError):
            batches[outside]


def test_a_negative_index_counts_from_the_end() -> None:
    batches = CalibrationImages(random_pixels(7), SPEC, 2)
    assert torch.equal(batches[-1], batches[3])
    assert torch.equal(batches[-4], batches[0])
    with pytest.raises(IndexError):
        batches[-5]


# ── drawing and decoding ─────────────────────────────────────────────────────────────────────────────────────────────


def test_pixels_are_the_decoded_images_balanced_by_class(album: ImageSet) -> None:
    done: list[int] = []
    images, record, _ = load_calibration(album, SPEC, samples=6, seed=0, batch=4, work=Work(Watching(done)))
    assert images.pixels.shape == (6, *SPEC.size, 3)
    assert images.pixels.dtype == np.uint8
    assert done == [4, 2]
    assert (record.data, record.images, record.left_out, record.seed) == ("trees", 6, 0, 0)
    decoded = {decode(album.read(i), SPEC).tobytes(): album.items[i].label for i in range(len(album))}
    assert sorted(decoded[p.tobytes()] for p in images.pixels) == [0, 0, 1, 1, 2, 2]


def test_the_seed_decides_the_pixels(album: ImageSet) -> None:
    first, again, other = (
        load_calibration(album, SPEC, samples=5, seed=seed, batch=batch)[0].pixels
        for seed, batch in ((3, 2), (3, 8), (4, 2))
    )
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_images_accuracy_is_reported_on_are_left_out(album: ImageSet) -> None:
    excluded = frozenset(album.content_hash(i) for i in range(len(album)) if i % 4 in (0, 2))
    images, record, _ = load_calibration(album, SPEC, samples=99, seed=0, batch=4, exclude_hashes=excluded)
    assert (record.images, record.left_out) == (6, 6)
    kept = {decode(album.read(i), SPEC).tobytes() for i in range(len(album)) if i % 4 in (1, 3)}
    assert {p.tobytes() for p in images.pixels} == kept


def test_a_fixed_source_size_is_resized_here(album: ImageSet) -> None:
    fixed = replace(SPEC, source_size=(20, 24))
    images, _, _ = load_calibration(album, fixed, samples=4, seed=1, batch=4)
    plain, _, _ = load_calibration(album, SPEC, samples=4, seed=1, batch=4)
    assert np.array_equal(images.pixels, plain.pixels)


@pytest.fixture
def damaged(tmp_path: Path) -> Path:
    root = gallery(tmp_path / "damaged", 2)
    (root / "elm" / "0.png").write_bytes(painting(7)[:-300])
    return root


def test_broken_images_are_named_and_left_out(damaged: Path) -> None:
    with open_images(damaged) as images:
        pixels, record, broken = load_calibration(images, SPEC, samples=6, seed=0, batch=2)
    assert len(pixels.pixels) == record.images == 5
    assert [b.name for b in broken] == ["elm/0.png"]
    assert "damaged PNG" in broken[0].reason


def test_the_draw_goes_on_past_a_broken_image(damaged: Path) -> None:
    """Also past one that cannot even be read; both are named once."""
    (damaged / "oak" / "0.png").unlink()
    (damaged / "oak" / "0.png").symlink_to(damaged / "nowhere")
    with open_images(damaged) as images:
        pixels, record, broken = load_calibration(images, SPEC, samples=4, seed=0, batch=2)
        whole, _, _ = load_calibration(images, SPEC, samples=6, seed=0, batch=2)
    assert len(pixels.pixels) == record.images == 4
    assert len({b.name for b in broken}) == len(broken)
    assert {b.name for b in broken} <= {"elm/0.png", "oak/0.png"}
    assert len(whole.pixels) == 4


def test_strict_stops_at_an_image_that_cannot_be_read(damaged: Path) -> None:
    (damaged / "elm" / "0.png").unlink()
    (damaged / "elm" / "0.png").symlink_to(damaged / "nowhere")
    with open_images(damaged) as images, pytest.raises(DataError, match=r"elm/0\.png is broken: it cannot be read"):
        load_calibration(images, SPEC, samples=6, seed=0, batch=2, work=Work(strict=True))


def test_strict_stops_at_a_broken_image(damaged: Path) -> None:
    with open_images(damaged) as images, pytest.raises(DataError, match=r"elm/0\.png .* cannot be used"):
        load_calibration(images, SPEC, samples=6, seed=0, batch=2, work=Work(strict=True))


def test_nothing_left_is_a_data_error_that_says_why(tmp_path: Path, album: ImageSet) -> None:
    everything = frozenset(hashlib.sha256(album.read(i)).hexdigest() for i in range(len(album)))
    with pytest.raises(
        DataError, match=r"12 are also in the validation images, 0 repeat another, 0 are broken.*--calibration"
    ):
        load_calibration(album, SPEC, samples=4, seed=0, batch=2, exclude_hashes=everything)
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x.png").write_bytes(f"no image {name}".encode())
    with open_images(tmp_path) as images, pytest.raises(DataError, match="2 are broken"):
        load_calibration(images, SPEC, samples=4, seed=0, batch=2)
