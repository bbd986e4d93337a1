"""One narrow VAN's graphs, as ONNX files of every scheme, made once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from edge_van.export.onnx import export_onnx
from edge_van.fold import fold
from edge_van.quantize.ptq import calibrate, convert
from edge_van.quantize.scheme import SCHEMES
from edge_van.van import VAN
from edge_van.variants import Variant

SIZE = (64, 64)


@pytest.fixture(scope="session")
def graphs(
    narrow_variant: Variant, images: Callable[..., Tensor], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    """fp32, int8 and int8_pointwise, all in float32 with a float input."""
    folder = tmp_path_factory.mktemp("graphs")
    torch.manual_seed(0)
    # as initialised: the other tests' VAN with its widely spread norms leaves float16's range
    folded, _ = fold(VAN(narrow_variant, 7).eval(), SIZE)
    batch = images(4, *SIZE)
    calibrated = calibrate(folded, [batch], SCHEMES["int8"])
    made = {"fp32": export_onnx(folded, folder / "fp32.onnx", batch)}
    for name in ("int8", "int8_pointwise"):
        made[name] = export_onnx(convert(calibrated, SCHEMES[name]), folder / f"{name}.onnx", batch)
    return made
