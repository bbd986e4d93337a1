"""``edge_van.images.decode``: every kind of image file, the geometry, and the parallel stream against a serial loop."""

from __future__ import annotations

import io
import struct
import sys
import threading
import time
import warnings
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps, features
from PIL.PngImagePlugin import PngInfo

from edge_van.errors import DataError, UsageError
from edge_van.images import stream as stream_module
from edge_van.images.decode import BrokenImageError, decode
from edge_van.images.sets import ImageSet, open_images
from edge_van.images.stream import StreamStats, stream
from edge_van.input_spec import InputSpec

SMALL = InputSpec(size=(16, 16))


def pixels(height: int, width: int, seed: int = 0, channels: int = 3) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), np.uint8)


def as_stored(height: int, width: int) -> InputSpec:
    """A spec under which an image of that size is neither resized nor cropped."""
    return InputSpec(size=(height, width), crop=1.0)


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def photo(height: int = 24, width: int = 24, seed: int = 0) -> bytes:
    return encoded(Image.fromarray(pixels(height, width, seed)), "JPEG")


# ── what the pixels are ──────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "PPM"])
def test_lossless_formats_give_the_pixels(kind: str) -> None:
    source = pixels(13, 17)
    result = decode(encoded(Image.fromarray(source), kind), as_stored(13, 17))
    assert result.dtype == np.uint8
    assert result.flags.writeable
    np.testing.assert_array_equal(result, source)


@pytest.mark.parametrize("kind", ["JPEG", "WEBP", "GIF", "MPO"])
def test_lossy_formats_give_what_pillow_gives(kind: str) -> None:
    data = encoded(Image.fromarray(pixels(13, 17)), kind)
    np.testing.assert_array_equal(decode(data, as_stored(13, 17)), Image.open(io.BytesIO(data)).convert("RGB"))


@pytest.mark.skipif(not features.check("avif"), reason="this Pillow reads no AVIF")
def test_avif() -> None:
    for options in ({}, {"exif": oriented(6)}):
        data = encoded(Image.fromarray(pixels(13, 17)), "AVIF", **options)
        expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
        upright = np.rot90(expected, 3) if options else expected
        np.testing.assert_array_equal(decode(data, as_stored(*upright.shape[:2])), upright)


def heic(image: Image.Image, **options: object) -> bytes:
    pillow_heif = pytest.importorskip("pillow_heif")
    buffer = io.BytesIO()
    pillow_heif.from_pillow(image).save(buffer, quality=-1, chroma=444, **options)
    return buffer.getvalue()


def test_heic() -> None:
    image = pixels(14, 18)
    result = decode(heic(Image.fromarray(image)), as_stored(14, 18))
    assert np.abs(result.astype(int) - image).max() <= 3  # lossless but for the conversion to YCbCr
    turned = decode(heic(Image.fromarray(image), exif=oriented(6).tobytes()), as_stored(18, 14))
    assert np.abs(turned.astype(int) - np.rot90(image, 3)).max() <= 3


def test_heic_without_its_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    data = heic(Image.fromarray(pixels(14, 18)))
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(BrokenImageError, match=r"needs pillow-heif: pip install 'edge-van\[heif\]'"):
        decode(data, SMALL)
    assert "pillow_heif" not in Image.OPEN


def test_avif_without_its_plugin_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(Image.OPEN, "AVIF", raising=False)
    with pytest.raises(BrokenImageError, match=r"needs Pillow 11\.3 or newer"):
        decode(b"\0\0\0\x20ftypavif" + bytes(100), SMALL)


def oriented(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def with_alpha(mode: str) -> Image.Image:
    image = Image.fromarray(pixels(9, 11)).convert(mode)
    image.putalpha(Image.fromarray(pixels(9, 11, 1)[:, :, 0]))
    return image


def test_transparency_is_dropped_not_blended() -> None:
    for mode in ("RGB", "L"):
        image = with_alpha(mode)
        expected = Image.fromarray(pixels(9, 11)).convert(mode).convert("RGB")
        np.testing.assert_array_equal(decode(encoded(image), as_stored(9, 11)), expected)


@pytest.mark.parametrize("transparency", [None, 3, bytes(range(256))])
def test_palette_with_and_without_transparency(transparency: object) -> None:
    image = Image.fromarray(pixels(9, 11)).quantize(64)
    data = encoded(image, **({} if transparency is None else {"transparency": transparency}))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_array_equal(decode(data, as_stored(9, 11)), image.convert("RGB"))


def test_palette_with_alpha_band() -> None:
    image = Image.fromarray(pixels(9, 11)).quantize(64).convert("PA")
    data = encoded(image, "TIFF")
    assert Image.open(io.BytesIO(data)).mode == "PA"
    np.testing.assert_array_equal(decode(data, as_stored(9, 11)), image.convert("RGB"))


@pytest.mark.parametrize("transparency", [None, 7])
def test_grey(transparency: int | None) -> None:
    grey = pixels(9, 11)[:, :, 0]
    data = encoded(Image.fromarray(grey), **({} if transparency is None else {"transparency": transparency}))
    np.testing.assert_array_equal(decode(data, as_stored(9, 11)), np.stack([grey] * 3, axis=2))


def test_one_bit() -> None:
    bits = pixels(9, 11)[:, :, 0] > 127
    result = decode(encoded(Image.fromarray(bits)), as_stored(9, 11))
    np.testing.assert_array_equal(result, np.stack([bits * np.uint8(255)] * 3, axis=2))


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_cmyk(kind: str) -> None:
    """Pillow writes CMYK JPEGs as Adobe does, inverted: reading one back must not give the negative."""
    image = Image.new("CMYK", (8, 8), (0, 255, 255, 0))
    result = decode(encoded(image, kind), as_stored(8, 8))
    assert np.abs(result.astype(int) - (255, 0, 0)).max() < 8


@pytest.mark.parametrize(("kind", "dtype"), [("PNG", "<u2"), ("TIFF", "<u2"), ("TIFF", ">u2"), ("PPM", "<u2")])
def test_sixteen_bits_keep_the_upper_eight(kind: str, dtype: str) -> None:
    grey = np.random.default_rng(0).integers(0, 65536, (9, 11)).astype(dtype)
    by_hand = b"P5 11 9 65535\n" + grey.astype(">u2").tobytes()  # older releases of Pillow do not write it
    data = by_hand if kind == "PPM" else encoded(Image.fromarray(grey), kind)
    result = decode(data, as_stored(9, 11))
    np.testing.assert_array_equal(result, np.stack([grey >> 8] * 3, axis=2))


def test_thirty_two_bit_integers_are_taken_as_sixteen_or_refused() -> None:
    grey = np.arange(0, 65536, 1024, dtype=np.int32).reshape(8, 8)
    result = decode(encoded(Image.fromarray(grey), "TIFF"), as_stored(8, 8))
    np.testing.assert_array_equal(result[:, :, 0], grey >> 8)
    for outside in (grey - 1, grey * 2):
        with pytest.raises(BrokenImageError, match="integer pixels outside"):
            decode(encoded(Image.fromarray(outside), "TIFF"), as_stored(8, 8))


def test_floating_point_is_refused() -> None:
    with pytest.raises(BrokenImageError, match="floating-point"):
        decode(encoded(Image.fromarray(np.zeros((8, 8), np.float32)), "TIFF"), SMALL)


def test_of_an_animation_the_first_frame() -> None:
    frames = [Image.new("RGB", (8, 8), color) for color in ("red", "lime")]
    for kind in ("GIF", "PNG", "WEBP"):
        data = encoded(
            frames[0], kind, save_all=True, append_images=frames[1:], **({"lossless": True} if kind == "WEBP" else {})
        )
        np.testing.assert_array_equal(decode(data, as_stored(8, 8))[0, 0], (255, 0, 0))


UPRIGHT: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
    8: lambda a: np.rot90(a),
}


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "JPEG", "WEBP"])
@pytest.mark.parametrize("orientation", UPRIGHT)
def test_exif_orientation(orientation: int, kind: str) -> None:
    source, exif = pixels(9, 14), Image.Exif()
    exif[0x0112] = orientation
    data = encoded(Image.fromarray(source), kind, exif=exif, **({"lossless": True} if kind == "WEBP" else {}))
    if kind == "JPEG":
        source = np.asarray(Image.open(io.BytesIO(data)))
    expected = UPRIGHT[orientation](source)
    np.testing.assert_array_equal(ImageOps.exif_transpose(Image.open(io.BytesIO(data))), expected)
    np.testing.assert_array_equal(decode(data, as_stored(*expected.shape[:2])), expected)


def test_orientation_of_sixteen_bits_and_palettes() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    deep = (pixels(9, 14)[:, :, 0].astype(np.uint16) << 8) + 5
    np.testing.assert_array_equal(
        decode(encoded(Image.fromarray(deep), exif=exif), as_stored(14, 9))[:, :, 0], np.rot90(deep >> 8, -1)
    )
    palette = Image.fromarray(pixels(9, 14)).quantize(32)
    np.testing.assert_array_equal(
        decode(encoded(palette, exif=exif), as_stored(14, 9)), np.rot90(np.asarray(palette.convert("RGB")), -1)
    )


def test_orientation_in_xmp() -> None:
    text = PngInfo()
    text.add_itxt("XML:com.adobe.xmp", '<x:xmpmeta><rdf:Description tiff:Orientation="6"/></x:xmpmeta>')
    data = encoded(Image.fromarray(pixels(9, 14)), pnginfo=text)
    np.testing.assert_array_equal(decode(data, as_stored(14, 9)), np.rot90(pixels(9, 14), -1))


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_a_damaged_exif_block_counts_as_none() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    data = photo(9, 14)
    whole = encoded(Image.open(io.BytesIO(data)), "JPEG", exif=exif, quality="keep")
    at = whole.index(b"Exif\0\0") + 6
    for damage in (b"XX", b"MM\0*\xff\xff\xff\xff", b"MM\0*\0\0\0\x08\xff\xff"):
        damaged = whole[:at] + damage + whole[at + len(damage) :]
        assert decode(damaged, as_stored(9, 14)).shape == (9, 14, 3)


def test_an_orientation_beside_a_damaged_tag_counts() -> None:
    """``ImageOps.exif_transpose`` would fail to write the other one again, and leave the image lying."""
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "a camera"
    whole = encoded(Image.fromarray(pixels(9, 14)), "JPEG", exif=exif)
    damaged = whole.replace(b"\x01\x0f\0\x02", b"\x01\0\0\x02")  # the maker's name as the image's width
    assert damaged != whole
    with pytest.raises(struct.error):
        ImageOps.exif_transpose(Image.open(io.BytesIO(damaged)))
    assert decode(damaged, as_stored(14, 9)).shape == (14, 9, 3)


# ── where the pixels go ──────────────────────────────────────────────────────────────────────────────────────────────


def test_geometry_of_published_accuracies() -> None:
    """A 500 x 375 photograph at 224 px and crop 0.9, as torchvision does it: 330 x 248, cut from (53, 12)."""
    image = Image.fromarray(pixels(375, 500))
    expected = image.resize((330, 248), Image.Resampling.BICUBIC).crop((53, 12, 53 + 224, 12 + 224))
    np.testing.assert_array_equal(decode(encoded(image), InputSpec()), expected)


@pytest.mark.parametrize(
    ("height", "width", "size", "crop", "resized", "corner"),
    [
        (500, 375, (224, 224), 0.9, (330, 248), (12, 53)),  # corner: (left, top)
        (32, 32, (64, 64), 1.0, (64, 64), (0, 0)),
        (32, 32, (64, 64), 0.9, (71, 71), (4, 4)),  # 3.5 rounds to even
        (10, 301, (32, 32), 1.0, (32, 963), (466, 0)),  # 465.5 rounds to even
        (100, 60, (32, 48), 0.875, (90, 54), (3, 29)),
    ],
)
def test_geometry(
    height: int, width: int, size: tuple[int, int], crop: float, resized: tuple[int, int], corner: tuple[int, int]
) -> None:
    image = Image.fromarray(pixels(height, width))
    left, top = corner
    for name in ("bicubic", "bilinear", "nearest", "lanczos"):
        expected = image.resize(resized[::-1], Image.Resampling[name.upper()])
        expected = expected.crop((left, top, left + size[1], top + size[0]))
        result = decode(encoded(image), InputSpec(size=size, crop=crop, interpolation=name))
        np.testing.assert_array_equal(result, expected)


@settings(max_examples=60)
@given(
    height=st.integers(1, 90),
    width=st.integers(1, 90),
    size=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    crop=st.floats(0.2, 1.0),
)
def test_any_size_gives_the_network_s(height: int, width: int, size: tuple[int, int], crop: float) -> None:
    data = encoded(Image.new("RGB", (width, height), (10, 200, 30)), "BMP")
    result = decode(data, InputSpec(size=size, crop=crop))
    assert result.shape == (*size, 3)
    # of a plain image every pixel is the colour, unless the crop reached over the edge and brought in black
    assert (result == (10, 200, 30)).all()


def test_a_source_size_is_returned_as_it_is_or_refused() -> None:
    spec = InputSpec(size=(8, 8), source_size=(9, 14))
    np.testing.assert_array_equal(decode(encoded(Image.fromarray(pixels(9, 14))), spec), pixels(9, 14))
    with pytest.raises(DataError, match=r"14 x 9 \(height x width\), the model takes 9 x 14"):
        decode(encoded(Image.fromarray(pixels(14, 9))), spec)


# ── what is no image ─────────────────────────────────────────────────────────────────────────────────────────────────


def png_header(width: int, height: int) -> bytes:
    chunk = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    head = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk))
    return head + struct.pack(">I", 1000) + b"IDAT"  # where the pixels should begin


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "0 bytes"),
        (b"not an image\n", "no known image format"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n", "no known image format"),
        (np.random.default_rng(0).bytes(2000), "no known image format"),
        (b"\xff\xd8\xff" + np.random.default_rng(0).bytes(2000), "damaged JPEG"),
        (photo()[:-200], "damaged JPEG"),
        (encoded(Image.fromarray(pixels(24, 24)))[:-200], "damaged PNG"),
        (encoded(Image.fromarray(pixels(24, 24)), "WEBP")[:-200], "damaged WebP"),
        (encoded(Image.fromarray(pixels(24, 24)), "BMP")[:-200], "damaged BMP"),
        (encoded(Image.fromarray(pixels(24, 24)), "TIFF")[:60], "damaged TIFF"),
        (encoded(Image.fromarray(pixels(24, 24)), "PPM")[:-200], "damaged PPM"),
        (encoded(Image.fromarray(pixels(24, 24)), "GIF")[:30], "damaged GIF"),
        (png_header(10, 10), "damaged PNG"),
        (png_header(0, 10), "damaged PNG"),
        (png_header(50_000, 50_000), "50000 x 50000 pixels, over the limit"),
        (png_header(2**31 - 1, 2**31 - 1), "over the limit"),
        (png_header(12_000, 12_000), "damaged PNG"),  # Pillow would warn here, and go on
        (encoded(Image.new("L", (1, 20_000)), "PNG"), "too elongated"),
    ],
    ids=lambda value: value.replace(" ", "-") if isinstance(value, str) else f"{len(value)}B",
)
def test_broken_images_say_why(data: bytes, reason: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(BrokenImageError, match=reason) as raised:
            decode(data, InputSpec())
    assert isinstance(raised.value, DataError)
    assert len(raised.value.reason) < 140
    assert "\n" not in str(raised.value)


@settings(max_examples=150)
@given(
    kind=st.sampled_from(["JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF", "PPM"]),
    changes=st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), max_size=6),
    cut=st.integers(0, 300),
)
@pytest.mark.filterwarnings("ignore")
def test_damage_gives_an_image_or_a_broken_image(kind: str, changes: list[tuple[int, int]], cut: int) -> None:
    data = bytearray(encoded(Image.fromarray(pixels(12, 12)).convert("P"), kind) if kind == "GIF" else photo_of(kind))
    for at, value in changes:
        data[at % len(data)] = value
    try:
        result = decode(bytes(data[: len(data) - cut]), SMALL)
    except BrokenImageError:
        return
    assert result.shape == (16, 16, 3)


def photo_of(kind: str) -> bytes:
    return encoded(Image.fromarray(pixels(12, 12)), kind)


# ── the stream ───────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def images(tmp_path: Path) -> Iterator[ImageSet]:
    """Three classes of 20; b/07 is truncated, c/00 empty, c/01 a text file."""
    for label in "abc":
        (tmp_path / label).mkdir()
        for i in range(20):
            (tmp_path / label / f"{i:02}.jpg").write_bytes(photo(20 + i, 30 - i, seed=i))
    (tmp_path / "b" / "07.jpg").write_bytes(photo()[:-100])
    (tmp_path / "c" / "00.jpg").write_bytes(b"")
    (tmp_path / "c" / "01.jpg").write_text("nothing to see")
    with open_images(tmp_path) as found:
        yield found


BROKEN = [27, 40, 41]


@pytest.mark.parametrize("workers", [1, 2, 5])
@pytest.mark.parametrize("batch_size", [1, 7, 40, 1000])
def test_a_parallel_stream_equals_a_serial_loop(images: ImageSet, workers: int, batch_size: int) -> None:
    stats = StreamStats()
    batches = list(stream(images, SMALL, batch_size=batch_size, workers=workers, stats=stats))
    sound = [i for i in range(60) if i not in BROKEN]
    assert np.concatenate([b.indices for b in batches]).tolist() == sound
    assert np.concatenate([b.labels for b in batches]).tolist() == [i // 20 for i in sound]
    expected = np.stack([decode(images.read(i), SMALL) for i in sound])
    np.testing.assert_array_equal(np.concatenate([b.images for b in batches]), expected)
    assert all(0 < len(b.indices) == len(b.images) == len(b.labels) <= batch_size for b in batches)
    assert all(b.indices.dtype == b.labels.dtype == np.int64 and b.images.dtype == np.uint8 for b in batches)
    assert [broken.name for broken in stats.broken] == ["b/07.jpg", "c/00.jpg", "c/01.jpg"]
    assert stats.broken[1].reason == "0 bytes"
    assert stats.images == 57
    assert stats.decode_s > 0
    assert stats.wait_s > 0


def test_any_order_and_repeats(images: ImageSet) -> None:
    order = [59, 3, 3, 27, 0]
    (batch,) = stream(images, SMALL, batch_size=8, indices=order)
    assert batch.indices.tolist() == [59, 3, 3, 0]
    np.testing.assert_array_equal(batch.images[1], batch.images[2])
    assert list(stream(images, SMALL, batch_size=8, indices=[])) == []
    assert list(stream(images, SMALL, batch_size=1, indices=BROKEN)) == []


def test_unlabelled_images_have_label_minus_one(tmp_path: Path) -> None:
    (tmp_path / "x.jpg").write_bytes(photo())
    (batch,) = stream(open_images(tmp_path, labelled=False), SMALL, batch_size=4)
    assert batch.labels.tolist() == [-1]


def test_strict_names_the_first_broken_image(images: ImageSet) -> None:
    delivered: list[int] = []
    running = (delivered.extend(batch.indices) for batch in stream(images, SMALL, batch_size=8, strict=True))
    with pytest.raises(DataError, match=r"b/07\.jpg in .* cannot be used: damaged JPEG"):
        list(running)
    assert delivered == list(range(24))
    assert_no_workers()


def test_a_wrong_source_size_names_the_image(images: ImageSet) -> None:
    with pytest.raises(DataError, match=r"a/01\.jpg in .*21 x 29"):
        list(stream(images, InputSpec(source_size=(20, 30)), batch_size=8))
    (batch,) = stream(images, InputSpec(source_size=(20, 30)), batch_size=8, indices=[0, 20])
    assert batch.images.shape == (2, 20, 30, 3)


def test_bad_arguments_are_refused_at_the_call(images: ImageSet) -> None:
    for arguments in ({"batch_size": 0}, {"batch_size": 1, "workers": 0}, {"batch_size": 1, "indices": [0, 60]}):
        with pytest.raises(UsageError):
            stream(images, SMALL, **arguments)  # type: ignore[arg-type]


def assert_no_workers() -> None:
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("edge-van-decode")]


@pytest.mark.parametrize("interrupted", [False, True])
def test_closing_ends_the_threads(images: ImageSet, monkeypatch: pytest.MonkeyPatch, interrupted: bool) -> None:
    begun: list[bytes] = []

    def slow(data: bytes, spec: InputSpec) -> np.ndarray:
        begun.append(data)
        time.sleep(0.02)
        return decode(data, spec)

    monkeypatch.setattr(stream_module, "decode", slow)
    running = stream(images, SMALL, batch_size=20, workers=2)
    next(running)
    before = len(begun)
    if interrupted:
        with pytest.raises(KeyboardInterrupt):
            running.throw(KeyboardInterrupt())
    else:
        running.close()
    assert_no_workers()
    assert len(begun) - before <= 4  # the image each was at, not the ten of its task


@pytest.mark.parametrize(("batch_size", "workers", "most"), [(4, 2, 8), (1, 2, 4), (8, 1, 16), (40, 2, 80)])
def test_memory_does_not_grow_with_the_set(
    images: ImageSet, monkeypatch: pytest.MonkeyPatch, batch_size: int, workers: int, most: int
) -> None:
    """``most``: images under way, those in the batch that the consumer holds among them."""
    begun = 0
    lock = threading.Lock()

    def counting(data: bytes, spec: InputSpec) -> np.ndarray:
        nonlocal begun
        with lock:
            begun += 1
        return decode(data, spec)

    monkeypatch.setattr(stream_module, "decode", counting)
    delivered, peak = 0, 0
    for batch in stream(images, SMALL, batch_size=batch_size, workers=workers, indices=list(range(20)) * 5):
        time.sleep(0.002)  # a slow consumer, so that the workers run ahead as far as they may
        peak = max(peak, begun - delivered)
        delivered += len(batch.indices)
    assert delivered == begun == 100
    assert batch_size < peak <= most
