"""``edge_van.training.images``: from the disk comes what lies in memory; broken files, and those in both sets."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from cli_samples import image_folders
from watching import Watching

from edge_van.errors import DataError
from edge_van.images.sets import ImageSet, open_images
from edge_van.input_spec import InputSpec
from edge_van.progress import Work
from edge_van.training.images import OnDisk, apart_from, content_hashes, read_images

SPEC = InputSpec(size=(32, 32), crop=1.0)


@pytest.fixture
def images(tmp_path: Path) -> ImageSet:
    return open_images(image_folders(tmp_path, {"train": 20}) / "train")


def make_broken(images: ImageSet, *indices: int) -> None:
    for index in indices:
        (images.source / images.items[index].name).write_bytes(b"\x89PNG\r\n\x1a\n")


def test_from_the_disk_comes_what_lies_in_memory(images: ImageSet) -> None:
    indices = [index for index in range(len(images)) if index % 7]
    memory = read_images(images, SPEC, "training", Work(), indices)
    generator = np.random.default_rng(0)
    steps = [generator.permutation(len(indices))[:40] for _ in range(3)]
    with OnDisk(images, SPEC, "training", Work(), indices) as disk:
        assert len(disk) == len(memory) == len(indices)
        for places, then in zip(steps, [steps[1], steps[0], None], strict=True):  # the second is not what comes next
            for expected, actual in zip(memory.take(places), disk.take(places, then=then), strict=True):
                np.testing.assert_array_equal(actual, expected)
        for name in (0, 1):
            parts = [np.concatenate([batch[name] for batch in source.batches()]) for source in (memory, disk)]
            np.testing.assert_array_equal(*parts)


def test_the_next_whole_image_stands_in_for_a_broken_one(images: ImageSet) -> None:
    make_broken(images, 4, 5, len(images) - 1)
    watching = Watching()
    with OnDisk(images, SPEC, "training", Work(watching), range(len(images))) as disk:
        pixels, labels = disk.take(np.array([3, 4, len(images) - 1]))
        for row, place in enumerate([3, 6, 0]):
            expected, label = disk.take(np.array([place]))
            np.testing.assert_array_equal(pixels[row], expected[0])
            assert labels[row] == label[0]
        assert sum(len(labels) for _, labels in disk.batches()) == len(images) - 3  # none is validated on twice
    assert [note.split(" is broken")[0] for note in watching.notes] == [
        f"warning: {images.items[index].name}" for index in (4, 5, len(images) - 1)
    ]


def test_with_strict_a_broken_image_is_fatal(images: ImageSet) -> None:
    make_broken(images, 2)
    disk = OnDisk(images, SPEC, "training", Work(strict=True), range(len(images)))
    with disk, pytest.raises(DataError, match=r"cannot be used: .*; replace or remove it, or leave --strict out"):
        disk.take(np.array([2]))


def test_nothing_but_broken_images(images: ImageSet) -> None:
    make_broken(images, *range(len(images)))
    with (
        OnDisk(images, SPEC, "training", Work(), range(len(images))) as disk,
        pytest.raises(DataError, match="none of"),
    ):
        disk.take(np.array([2]))
    with pytest.raises(DataError, match="none of 60 images could be read"):
        read_images(images, SPEC, "training", Work(), range(len(images)))


def test_what_others_have_is_left_out(images: ImageSet) -> None:
    make_broken(images, 8)
    watching = Watching()
    own = content_hashes(images, "training", Work(watching))
    assert len(set(own)) == len(images)
    assert sum(watching.done) == len(images)
    others = frozenset([own[3], own[5], "of no image"])
    assert apart_from(images, own, others, Work(watching)) == tuple(i for i in range(60) if i not in (3, 5))
    assert watching.notes == ["warning: 2 of 60 training images are validation images too: not trained on"]
    with pytest.raises(DataError, match="all 60 images of"):
        apart_from(images, own, frozenset(own), Work())
