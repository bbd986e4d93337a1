"""The golden images of a bundle and what each of its files answers to them.

In: a ``Bundle``. Out: a ``Golden``, or a ``BundleError``. ``export.golden`` writes it.
"""

from __future__ import annotations

import zipfile
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_van.bundle.bundle import Bundle
from edge_van.bundle.layout import GOLDEN
from edge_van.errors import BundleError

PIXELS, CAMERA = "pixels", "camera"
MAX_BYTES = 256 * 2**20


@dataclass(frozen=True)
class Golden:
    """``pixels`` uint8 (N, H, W, C) of the network's size; ``camera`` the same images as a fixed camera sends them,
    where the bundle is for one; ``logits`` (N, classes) by the file that gives them, computed as it is written."""

    pixels: NDArray[np.uint8]
    camera: NDArray[np.uint8] | None
    logits: dict[str, NDArray[np.float32]]


def read_golden(bundle: Bundle) -> Golden:
    """``BundleError`` for a bundle that has none, which an older version made, and for a damaged one."""
    record, manifest = bundle.manifest.golden, bundle.manifest
    if record is None:
        raise BundleError(
            f"{bundle.path} has no golden images, by which a device is checked: make it again with edge-van quantize"
        )
    bundle.check(GOLDEN)
    try:
        with zipfile.ZipFile(bundle.file(GOLDEN)) as archive:
            if sum(info.file_size for info in archive.infolist()) > MAX_BYTES:
                raise ValueError(f"it holds over {MAX_BYTES} bytes")
        with np.load(bundle.file(GOLDEN), allow_pickle=False) as arrays:
            pixels = arrays[PIXELS]
            camera = arrays[CAMERA] if manifest.input_spec.source_size is not None else None
            logits = {file: arrays[file] for file in record.floors_db}
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise BundleError(f"{bundle.path}/{GOLDEN} cannot be read ({error}): make the bundle again") from error
    sizes = {manifest.input_spec.size: pixels}
    if camera is not None and manifest.input_spec.source_size is not None:
        sizes[manifest.input_spec.source_size] = camera
    channels = manifest.input_spec.channels
    fits = all(a.dtype == np.uint8 and a.shape == (record.images, *size, channels) for size, a in sizes.items())
    shape = (record.images, manifest.num_classes)
    if not fits or not all(a.dtype == np.float32 and a.shape == shape for a in logits.values()):
        raise BundleError(f"{bundle.path}/{GOLDEN} does not fit the manifest: make the bundle again")
    return Golden(pixels, camera, logits)
