"""``edge_van.training.images``: from the disk comes what lies in memory; broken files, and those in both sets."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cli_samples import image_folders
from watching import Watching

from edge_van.errors import DataError
from edge_van.images.sets import ImageSet, open_images
from edge_van.images.stream import Batch, stream
from edge_van.input_spec import InputSpec
from edge_van.progress import Work
from edge_van.training import images as module
from edge_van.training.images import OnDisk, apart_from, content_hashes, fits_in_memory, read_images, whole_images

SPEC = InputSpec(size=(32, 32), crop=1.0)


@pytest.fixture
def images(tmp_path: Path) -> ImageSet:
    return open_images(image_folders(tmp_path, {"train": 20}) / "train")


def make_broken(images: ImageSet, *indices: int) -> None:
    for index in indices:
        (images.source / images.items[index].name).write_bytes(b"\x89PNG\r\n\x1a\n")


def test_from_the_disk_comes_what_lies_in_memory(images: ImageSet, monkeypatch: pytest.MonkeyPatch) -> None:
    """And what was said to come next is not decoded twice."""
    decoded: list[int] = []

    def noted(images: ImageSet, spec: InputSpec, *, indices: list[int], **how: Any) -> Iterator[Batch]:
        decoded.extend(indices)
        return stream(images, spec, indices=indices, **how)

    indices = [index for index in range(len(images)) if index % 7]
    memory = read_images(images, SPEC, "training", Work(), indices)
    monkeypatch.setattr(module, "stream", noted)
    generator = np.random.default_rng(0)
    steps = [generator.permutation(len(indices))[:40] for _ in range(3)]
    with OnDisk(images, SPEC, indices) as disk:
        assert len(disk) == len(memory) == len(indices)
        for places, then in zip(steps, [steps[1], steps[0], None], strict=True):  # the third is not what was announced
            for expected, actual in zip(memory.take(places), disk.take(places, then=then), strict=True):
                np.testing.assert_array_equal(actual, expected)
    assert sorted(decoded) == sorted(indices[place] for step in (*steps, steps[0]) for place in step)


def test_each_once(images: ImageSet) -> None:
    indices = range(1, len(images), 2)
    with OnDisk(images, SPEC, indices) as disk:
        for source in (disk, read_images(images, SPEC, "training", Work(), indices)):
            labels = np.concatenate([labels for _, labels in source.batches()])
            assert labels.tolist() == [images.items[index].label for index in indices]


def test_broken_images_are_found_before_the_first_step(images: ImageSet) -> None:
    """The same ones, however the images are kept."""
    make_broken(images, 4, len(images) - 1)
    expected = [index for index in range(3, len(images) - 1) if index != 4]
    watching = Watching()
    indices = range(3, len(images))
    assert whole_images(images, SPEC, "training", Work(watching), indices) == expected
    assert read_images(images, SPEC, "training", Work(watching), indices).indices == expected
    assert sum(watching.done) == 2 * len(expected)
    assert [note.split(" is broken and left out of ")[0] for note in watching.notes] == 2 * [
        f"warning: {images.items[index].name}" for index in (4, len(images) - 1)
    ]
    for read in (whole_images, read_images):
        with pytest.raises(DataError, match=r"cannot be used: .*; replace or remove it"):
            read(images, SPEC, "training", Work(strict=True), indices)
        with pytest.raises(DataError, match=r"none of 1 images could be read"):
            read(images, SPEC, "training", Work(), [4])


def test_an_image_that_breaks_later_is_an_error(images: ImageSet) -> None:
    with OnDisk(images, SPEC, range(len(images))) as disk:
        make_broken(images, 2)
        with pytest.raises(DataError, match=r"10.png in .* cannot be used"):
            disk.take(np.array([2]))


def test_what_fits_is_what_a_container_may_have(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    limit = tmp_path / "memory.max"
    monkeypatch.setattr(module, "CGROUP_LIMIT", limit)
    image = SPEC.size[0] * SPEC.size[1] * 3
    assert fits_in_memory(10, SPEC)  # no such file
    for text, fits in (("max", True), (str(20 * image), True), (str(15 * image), False)):
        limit.write_text(text + "\n", encoding="ascii")
        assert fits_in_memory(10, SPEC) == fits, text
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    limit.write_text(str(20 * image), encoding="ascii")
    assert not fits_in_memory(10, SPEC)  # each of two has them


def test_what_others_have_is_left_out(images: ImageSet) -> None:
    make_broken(images, 8)
    watching = Watching()
    own = content_hashes(images, "training", Work(watching))
    assert len(set(own)) == len(images)
    assert sum(watching.done) == len(images)
    others = frozenset([own[3], own[5], "of no image"])
    assert apart_from(images, own, others, Work(watching)) == [i for i in range(60) if i not in (3, 5)]
    assert watching.notes == ["warning: 2 of 60 training images are validation images too: not trained on"]
    first = frozenset(own[index] for index, item in enumerate(images.items) if item.label == 0)
    with pytest.raises(DataError, match=r"every image of 'ant' in .* is a validation image too: give others"):
        apart_from(images, own, first, Work())
