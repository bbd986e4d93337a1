"""The dense heads: their sizes as published, their maps at any image size, the hamburger that is no longer random.

Beside OpenMMLab's own code they are compared by ``benchmarks/parity_heads.py``, in an environment that has it.
"""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_van.errors import UsageError
from edge_van.model.dense.network import KINDS, DenseVAN
from edge_van.model.dense.segmentation import NMF, WindowMeans
from edge_van.model.van import stage_sizes

MILLIONS = {
    "semantic_fpn": (7.98, 17.62, 30.33, 48.52),
    "light_ham": (4.87, 14.71, 27.42, 45.61),
    "retinanet": (13.39, 23.60, 36.32, 54.50),
}
"""Published, b0 to b3; UPerNet's are with the auxiliary head of its training."""
UPERNET_MILLIONS = (32.13, 43.84, 56.55, 74.74)
OUTPUTS = {"semantic_fpn": 150, "upernet": 150, "light_ham": 150, "retinanet": 80, "simple_baseline": 17}


def millions(kind: str, variant: str) -> tuple[float, int]:
    """(parameters in millions, channels of the third map)."""
    with torch.device("meta"):
        network = DenseVAN(kind, variant, OUTPUTS[kind])
    return sum(p.numel() for p in network.parameters()) / 1e6, network.backbone.variant.embed_dims[2]


@pytest.mark.parametrize("kind", MILLIONS)
def test_parameters_are_the_published_ones(kind: str) -> None:
    for variant, published in zip(("b0", "b1", "b2", "b3"), MILLIONS[kind], strict=True):
        assert millions(kind, variant)[0] == pytest.approx(published, abs=0.005), variant


def test_parameters_of_upernet() -> None:
    for variant, published in zip(("b0", "b1", "b2", "b3"), UPERNET_MILLIONS, strict=True):
        own, third = millions("upernet", variant)
        auxiliary = 256 * third * 9 + 2 * 256 + 150 * 256 + 150
        assert own + auxiliary / 1e6 == pytest.approx(published, abs=0.005), variant


def test_parameters_of_the_pose_network() -> None:
    assert millions("simple_baseline", "b2")[0] == pytest.approx(30.27, abs=0.005)


@pytest.mark.parametrize("size", [(64, 64), (72, 100), (33, 47)])
def test_outputs_at_sizes_that_32_does_not_divide(size: tuple[int, int]) -> None:
    (height, width), half, _, last = maps = stage_sizes(*size)
    below = [((last[0] + s - 1) // s, (last[1] + s - 1) // s) for s in (2, 4)]
    levels = [*maps[1:], *below]
    shapes = {
        "semantic_fpn": (5, height, width),
        "upernet": (5, height, width),
        "light_ham": (5, *half),
        "retinanet": (9 * sum(h * w for h, w in levels), 5 + 4),
        "simple_baseline": (5, 8 * last[0], 8 * last[1]),
    }
    for kind, shape in shapes.items():
        with torch.no_grad():
            output = DenseVAN(kind, "b0", 5).eval()(torch.randn(2, 3, *size))
        assert output.shape == (2, *shape), kind
        assert output.isfinite().all()


def test_the_same_image_gives_the_same_logits() -> None:
    """Of the official hamburger it gives others each time: its bases are drawn anew."""
    network = DenseVAN("light_ham", "b0", 5).eval()
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        first = network(images)
        assert torch.equal(network(images), first)
    assert not [name for name in network.state_dict() if "bases" in name], "published checkpoints have none"
    other = DenseVAN("light_ham", "b0", 5).eval()
    other.load_state_dict(network.state_dict())
    with torch.no_grad():
        assert torch.equal(other(images), first)


def test_the_factorisation_comes_near_its_input() -> None:
    torch.manual_seed(0)
    low_rank = torch.rand(2, 32, 4) @ torch.rand(2, 4, 64)
    with torch.no_grad():
        product = NMF(32, 16)(low_rank.reshape(2, 32, 8, 8)).reshape(2, 32, 64)
    assert float((product - low_rank).norm() / low_rank.norm()) < 0.2


@given(side=st.integers(1, 6), height=st.integers(1, 20), width=st.integers(1, 20))
@settings(deadline=None)
def test_window_means_are_adaptive_pooling(side: int, height: int, width: int) -> None:
    images = torch.randn(1, 2, height, width, generator=torch.Generator().manual_seed(0))
    expected = torch.nn.functional.adaptive_avg_pool2d(images, side)
    torch.testing.assert_close(WindowMeans(side)(images), expected)


def test_what_is_no_head() -> None:
    with pytest.raises(UsageError, match="'fcn' is no head that is known; there are semantic_fpn, upernet"):
        DenseVAN("fcn", "b0", 5)
    with pytest.raises(UsageError, match="1 or more points; got 0"):
        DenseVAN("simple_baseline", "b0", 0)
    assert set(OUTPUTS) == set(KINDS)
