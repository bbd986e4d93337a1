"""Makes the embedded demo again: a checkpoint in half precision, its calibration and validation images, provenance.

In: CIFAR-10 as two archives of ``<class>/<image>.jpg`` and a VAN checkpoint. Out: four files beside this script.
The same input gives the same bytes.

    python calibration/demo/make_demo.py --train-zip cifar10-train.zip --test-zip cifar10-test.zip \
        --checkpoint van_b0_cifar10_64.pth.tar
"""

from __future__ import annotations

import argparse
import hashlib
import json
import zipfile
from pathlib import Path
from typing import Any

from edge_van.checkpoint.load import load_checkpoint, save_safetensors
from edge_van.images.draw import draw_balanced, hashes
from edge_van.images.sets import ImageSet, open_images

SEED = 0
CALIBRATION_IMAGES = 512
VALIDATION_IMAGES = 2000
DATASET = {
    "name": "CIFAR-10",
    "author": "Alex Krizhevsky",
    "reference": "Learning Multiple Layers of Features from Tiny Images, 2009",
    "url": "https://www.cs.toronto.edu/~kriz/cifar.html",
}


def sha256(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def pack(images: ImageSet, indices: tuple[int, ...], target: Path) -> dict[str, Any]:
    """Write the images as they are into ``target``, by name; returns what the provenance says of the archive."""
    originals: dict[str, str] = {}
    counts: dict[str, int] = {}
    with zipfile.ZipFile(target, "w") as archive:
        for index in sorted(indices):
            original = images.items[index].name
            class_name, file_name = original.split("/")[-2:]
            # JPEG does not deflate; a fixed time, mode and system leave nothing of the machine in the bytes
            info = zipfile.ZipInfo(f"{class_name}/{file_name}", date_time=(1980, 1, 1, 0, 0, 0))
            info.compress_type, info.create_system, info.external_attr = zipfile.ZIP_STORED, 3, 0o100644 << 16
            archive.writestr(info, images.read(index))
            originals[original] = images.content_hash(index)
            counts[class_name] = counts.get(class_name, 0) + 1
    return {
        "sha256": sha256(target),
        "source": images.source.name,
        "source_sha256": sha256(images.source),
        "seed": SEED,
        "images": len(originals),
        "images_per_class": counts,
        "original_sha256": originals,
    }


def make_checkpoint(source: Path, target: Path) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Write ``source`` in half precision; returns what the provenance says of it, and its class names."""
    loaded = load_checkpoint(source)
    if loaded.spec.classes is None or loaded.spec_is_default:
        raise SystemExit(f"{source} does not say its classes and its preprocessing; put its JSON beside it")
    # load_checkpoint has checked that the JSON is there and belongs to these weights
    notes = json.loads(source.with_name(source.name.removesuffix(".pth.tar") + ".json").read_text(encoding="utf-8"))
    digest = save_safetensors(
        target,
        loaded.van.state_dict(),
        loaded.spec,
        loaded.variant,
        half=True,
        extra={"source_sha256": loaded.sha256, "trained_on": notes["trained_on"]},
    )
    record = {
        "sha256": digest,
        "source": source.name,
        "source_sha256": loaded.sha256,
        "variant": loaded.variant,
        "trained_on": notes["trained_on"],
        "top1_cifar10_test_percent": notes["top1_cifar10_test_percent"],
        "measured_with": f"the source, before it was stored in half precision: {notes['measured_with']}",
    }
    return record, loaded.spec.classes


def main() -> None:
    parser = argparse.ArgumentParser(description="Make the embedded demo again.")
    parser.add_argument("--train-zip", type=Path, required=True, help="CIFAR-10's training images")
    parser.add_argument("--test-zip", type=Path, required=True, help="CIFAR-10's test images")
    parser.add_argument("--checkpoint", type=Path, required=True, help="a .pth.tar with its .json beside it")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent, help="folder for the four files")
    args = parser.parse_args()
    args.output.mkdir(parents=True, exist_ok=True)

    checkpoint, classes = make_checkpoint(args.checkpoint, args.output / "van_b0_cifar10.safetensors")
    with open_images(args.train_zip, classes) as train, open_images(args.test_zip, classes) as test:
        # no image that is validated on may set a range, whichever part of the test set a later demo draws
        calibrated = draw_balanced(train, CALIBRATION_IMAGES, seed=SEED, exclude_hashes=hashes(test))
        validated = draw_balanced(test, VALIDATION_IMAGES, seed=SEED)
        archives = {
            "calibration.zip": pack(train, calibrated.indices, args.output / "calibration.zip"),
            "validation.zip": pack(test, validated.indices, args.output / "validation.zip"),
        }
    for (name, record), wanted in zip(archives.items(), (CALIBRATION_IMAGES, VALIDATION_IMAGES), strict=True):
        if record["images"] != wanted:
            raise SystemExit(f"{record['source']} gave {record['images']} of the {wanted} images of {name}")
    sets = [set(record["original_sha256"].values()) for record in archives.values()]
    if shared := set.intersection(*sets):
        raise SystemExit(f"{len(shared)} images are in both archives; nothing made here may be used")

    files = {"van_b0_cifar10.safetensors": checkpoint, **archives}
    text = json.dumps({"dataset": DATASET, "files": files}, indent=1, ensure_ascii=False)
    (args.output / "provenance.json").write_text(text + "\n", encoding="utf-8")
    for path in sorted(args.output.glob("*.*")):
        print(f"{path.stat().st_size:>10,} B  {path.name}")


if __name__ == "__main__":
    main()
