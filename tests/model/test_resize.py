"""``edge_van.model.resize``: a folded network at another size is the fold for that size, or there is a clear no."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from edge_van.errors import UsageError, VerificationError
from edge_van.model.fold import FoldedVAN, fold
from edge_van.model.resize import largest_size, resized
from edge_van.model.van import VAN
from edge_van.model.variants import Variant

Images = Callable[..., Tensor]
TOLERANCE = 1e-4
SIZES = ((48, 48), (32, 64), (64, 17), (33, 50), (16, 16), (5, 3))


@pytest.fixture(scope="module")
def folded(narrow_van: VAN) -> FoldedVAN:
    return fold(narrow_van, (64, 64))[0]


def error(actual: FoldedVAN, expected: nn.Module, images: Images) -> float:
    """Largest difference of logits, over the largest logit."""
    batch = images(2, *actual.input_size)
    with torch.no_grad():
        wanted = expected(batch)
        return float((actual(batch) - wanted).abs().max() / wanted.abs().max())


@pytest.mark.parametrize("size", SIZES)
def test_a_smaller_size_is_the_fold_for_it(
    folded: FoldedVAN, narrow_van: VAN, images: Images, size: tuple[int, int]
) -> None:
    made, anew = resized(folded, size, published=True), fold(narrow_van, size)[0]
    assert made.input_size == size
    assert made.kernels_cropped == anew.kernels_cropped
    shapes = [{name: tuple(p.shape) for name, p in net.named_parameters()} for net in (made, anew)]
    assert shapes[0] == shapes[1]
    assert error(made, anew, images) == 0.0
    assert error(made, narrow_van, images) <= TOLERANCE


def test_the_network_it_came_from_stays_as_it_was(folded: FoldedVAN, narrow_van: VAN, images: Images) -> None:
    resized(folded, (16, 16), published=True)
    assert folded.input_size == (64, 64)
    assert error(folded, narrow_van, images) <= TOLERANCE


@pytest.mark.parametrize(
    ("size", "largest"),
    [((64, 64), (64, 64)), ((224, 224), (288, 288)), ((224, 64), (288, 64)), ((320, 320), (None, None))],
)
def test_how_large_it_can_be(
    narrow_van: VAN, images: Images, size: tuple[int, int], largest: tuple[int | None, int | None]
) -> None:
    """At 224 px only the dilated kernels of the last stage are cropped: their 5 taps serve maps of 9, that is 288 px.
    At 320 px they are whole."""
    folded = fold(narrow_van, size)[0]
    assert largest_size(folded, published=True) == largest
    most = tuple(side or 352 for side in largest)
    assert error(resized(folded, (most[0], most[1]), published=True), narrow_van, images) <= TOLERANCE


def test_one_pixel_more_is_a_clear_no(narrow_van: VAN) -> None:
    folded = fold(narrow_van, (224, 320))[0]
    with pytest.raises(UsageError) as caught:
        resized(folded, (289, 400), published=True)
    message = str(caught.value)
    for part in ("289x400", "224x320", "heights up to 288 and any width", "quantize --input-size 289x400"):
        assert part in message
    assert resized(folded, (288, 400), published=True).input_size == (288, 400)


def test_a_size_that_was_left_is_not_had_again(folded: FoldedVAN) -> None:
    small = resized(folded, (32, 64), published=True)
    with pytest.raises(UsageError, match="cropped to what 32x64 px can reach, and serve heights up to 32 and widths"):
        resized(small, (64, 64), published=True)


@pytest.mark.parametrize("dilation", [2, 3, 4])
@pytest.mark.parametrize("kernel_size", [9, 27])
def test_kernels_of_other_sides_are_never_taken_for_whole(
    narrow_variant: Variant, images: Images, kernel_size: int, dilation: int
) -> None:
    """Whatever size is granted is right; those the network was folded for and smaller ones always are."""
    if (-(-kernel_size // dilation) - 1) * dilation % 2:
        pytest.skip("an even kernel is not cropped")
    torch.manual_seed(0)
    van = VAN(narrow_variant, 3, kernel_size=kernel_size, dilation=dilation).eval()
    for side in (20, 64, 128):
        folded = fold(van, (side, side))[0]
        most, _ = largest_size(folded, published=False)
        assert most is None or most >= side
        for other in {max(side // 2, 1), side, min(most or 2 * side, 2 * side)}:
            assert error(resized(folded, (other, other), published=False), van, images) <= TOLERANCE


@pytest.mark.parametrize("variant", ["b0", "b5"])
def test_the_published_variants(variant: str) -> None:
    """Without a weight being there."""
    with torch.device("meta"):
        folded = FoldedVAN(VAN(variant, 10), (224, 224))
    assert largest_size(folded, published=True) == (288, 288)


def test_a_network_that_is_no_number_is_refused(folded: FoldedVAN) -> None:
    broken = copy.deepcopy(folded)
    with torch.no_grad():
        broken.get_parameter("head.weight")[0, 0] = float("nan")
    with pytest.raises(VerificationError, match="cropped for 32x32 px the network differs by nan"):
        resized(broken, (32, 32), published=True)
