"""Small VANs that run in milliseconds, with norms as far spread as a trained net's, and their files."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from edge_van.model.van import VAN, Block
from edge_van.model.variants import Variant

NARROW = Variant("narrow", (8, 12, 20, 24), (1, 2, 1, 1), 0.0, 0.0, None)
"""All four stages, one of them with two blocks; widths that are no multiple of each other."""


def make_graphs(folder: Path) -> None:
    """ONNX files of a narrow VAN: fp32, int8 and int8_pointwise, all in float32 with a float input of 64 px."""
    from edge_van.export.onnx import export_onnx
    from edge_van.model.fold import fold
    from edge_van.quantization.ptq import calibrate, convert
    from edge_van.quantization.scheme import SCHEMES

    torch.manual_seed(0)
    # as initialised: the VAN with widely spread norms leaves float16's range
    folded, _ = fold(VAN(NARROW, 7).eval(), (64, 64))
    batch = normal_images(4, 64, 64)
    calibrated = calibrate(folded, [batch], SCHEMES["int8"])
    export_onnx(folded, folder / "fp32.onnx", batch)
    for name in ("int8", "int8_pointwise"):
        export_onnx(convert(calibrated, SCHEMES[name]), folder / f"{name}.onnx", batch)


def normal_images(n: int, height: int, width: int, seed: int = 0, channels: int = 3) -> Tensor:
    return torch.randn(n, channels, height, width, generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def spread_norms_(model: nn.Module, seed: int) -> nn.Module:
    """var 0.1..10, mean +-2, weight 0.2..2 of either sign, bias +-1, LayerScale +-1."""
    generator = torch.Generator().manual_seed(seed)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_var.copy_(10 ** _uniform(module.running_var, -1, 1, generator))
            module.running_mean.copy_(_uniform(module.running_mean, -2, 2, generator))
            sign = torch.where(_uniform(module.weight, 0, 1, generator) < 0.3, -1.0, 1.0)
            module.weight.copy_(sign * _uniform(module.weight, 0.2, 2, generator))
            module.bias.copy_(_uniform(module.bias, -1, 1, generator))
        elif isinstance(module, Block):
            for scale in (module.layer_scale_1, module.layer_scale_2):
                scale.copy_(_uniform(scale, -1, 1, generator))
        elif isinstance(module, nn.Conv2d | nn.Linear) and module.bias is not None:
            module.bias.copy_(_uniform(module.bias, -0.5, 0.5, generator))
    return model


def _uniform(like: Tensor, low: float, high: float, generator: torch.Generator) -> Tensor:
    return torch.empty_like(like).uniform_(low, high, generator=generator)
