"""What this project makes of the checkpoint: the folded FP32 network and the INT8 model that ships, for OpenVINO.

In: the network, its InputSpec, calibration images. Out: two IRs, run by OpenVINO.
"""

from __future__ import annotations

from pathlib import Path

from edge_van.export.onnx import export_onnx
from edge_van.export.openvino import export_openvino
from edge_van.input_spec import InputSpec
from edge_van.model.fold import fold
from edge_van.model.van import VAN
from edge_van.quantization.calibration import CalibrationImages
from edge_van.quantization.equalize import equalize
from edge_van.quantization.ptq import post_training_quantize
from edge_van.quantization.recipe import load_recipe
from edge_van.quantization.scheme import get_scheme


def build(van: VAN, spec: InputSpec, images: CalibrationImages, folder: Path) -> dict[str, Path]:
    """``fp32`` and ``openvino`` (the default recipe's scheme): uint8 (1, H, W, 3) in, preprocessing in the graph."""
    recipe = load_recipe()
    folded, _ = fold(van, spec.size)
    check = images.normalized(images.pixels[:2])
    fp32 = export_onnx(folded, folder / "fp32.onnx", check)
    equalized = equalize(folded, images, strength=recipe.equalize_strength)
    quantized = post_training_quantize(equalized, images, get_scheme(recipe.openvino_scheme))
    int8 = export_onnx(quantized, folder / "openvino.onnx", check)
    return {
        "fp32": export_openvino(fp32, spec, folder / "fp32.xml"),
        "openvino": export_openvino(int8, spec, folder / "openvino.xml"),
    }
