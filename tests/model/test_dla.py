"""``edge_van.model.dla``: the documented rules, on the kernels that an input size leaves."""

from __future__ import annotations

import pytest
from cli_samples import error_line, run
from torch import nn

from edge_van.errors import UsageError
from edge_van.model.dla import _broken_rule, dla_report


def test_b0_at_224() -> None:
    report = dla_report("b0", (224, 224))
    rows = {(layer.name, layer.operator): layer for layer in report.layers}
    assert len(rows) >= 150
    dilated = [layer for layer in report.layers if layer.name.endswith("conv_spatial")]
    assert len(dilated) == 13
    assert not any(layer.allowed for layer in dilated)
    assert "padding 9 is not under the kernel's 7" in dilated[0].reason
    assert "padding 6 is not under the kernel's 5" in dilated[-1].reason  # cropped: stage 4 is 7x7
    gelu = [layer for layer in report.layers if layer.operator == "Gelu"]
    assert len(gelu) == 26
    assert not any(layer.allowed for layer in gelu)
    assert rows["block1.0.attn.proj_1", "Conv 1x1"].allowed
    assert rows["block1.0.mlp.dwconv.dwconv", "depthwise Conv 3x3"].allowed
    assert not rows["norm1", "LayerNorm"].allowed
    assert not rows["head", "Gemm"].allowed
    assert report.allowed == sum(layer.allowed for layer in report.layers)
    assert all(bool(layer.reason) is not layer.allowed for layer in report.layers)
    assert report.transitions > 2 * 13


def test_a_small_input_leaves_kernels_that_fit() -> None:
    """At 64 px stage 4 is 2x2: the dilated kernel is 1x1 without padding."""
    last = [x for x in dla_report("b0", (64, 64)).layers if x.name.endswith("conv_spatial")][-1]
    assert (last.operator, last.allowed) == ("depthwise Conv 1x1", True)


@pytest.mark.parametrize(
    ("conv", "reason"),
    [
        (nn.Conv2d(3, 8, 7, stride=4, padding=3), ""),
        (nn.Conv2d(8, 8, 33, padding=16), "kernel 33 is over 32"),
        (nn.Conv2d(8, 8, 3, padding=3), "padding 3 is not under the kernel's 3"),
        (nn.Conv2d(8, 8, 3, stride=9, padding=1), "stride 9"),
        (nn.Conv2d(8, 8, 3, dilation=33), "dilation 33"),
        (nn.Conv2d(8193, 1, 1), "8193 channels"),
        (nn.Conv2d(8, 8, 2, padding="same"), "not symmetric"),
    ],
)
def test_each_rule(conv: nn.Conv2d, reason: str) -> None:
    found = _broken_rule(conv)
    assert reason in found
    assert bool(found) is bool(reason)


def test_an_unknown_variant() -> None:
    with pytest.raises(UsageError, match="b9"):
        dla_report("b9", (224, 224))


def test_the_command(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    code, out, err = run(capfd, monkeypatch, "info", "--dla", "--input-size", "64")
    assert (code, err) == (0, "")
    assert "VAN-b0 at 64x64 px on a DLA" in out
    assert "a poor target for a VAN" in out
    assert "takes no explicit quantisation" in out
    code, out, err = run(capfd, monkeypatch, "info", "--dla", "--variant", "b9")
    assert (code, out) == (2, "")
    assert "b9" in error_line(err)
