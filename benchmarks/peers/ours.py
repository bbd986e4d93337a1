"""What this project makes of the checkpoint: the folded FP32 network and the INT8 model that ships, for OpenVINO; and
what ``--activation`` makes of it, calibrated alone.

In: the network, its InputSpec, calibration images. Out: IRs, run by OpenVINO.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from edge_van.export.onnx import export_onnx
from edge_van.export.openvino import export_openvino
from edge_van.input_spec import InputSpec
from edge_van.model.fold import fold
from edge_van.model.van import VAN
from edge_van.quantization.activations import with_activation
from edge_van.quantization.calibration import CalibrationImages
from edge_van.quantization.equalize import equalize
from edge_van.quantization.ptq import post_training_quantize
from edge_van.quantization.recipe import load_recipe
from edge_van.quantization.scheme import for_openvino

HOW = {
    "fp32": "FP32, folded; OpenVINO",
    "openvino": "ours; OpenVINO",
    "hardswish_early": "ours, hard-swish in the feed-forwards of stages 1 and 2; OpenVINO",
    "hardswish": "ours, hard-swish everywhere; OpenVINO",
    "relu": "ours, ReLU everywhere (to be trained); OpenVINO",
}
CLOCKED = ("fp32", "openvino")
"""Those that ``benchmark_app`` is run on."""
ACTIVATIONS: dict[str, tuple[str, tuple[str, ...]]] = {
    "openvino": ("gelu", ()),
    "hardswish_early": ("hardswish", ("block1.mlp", "block2.mlp")),
    "hardswish": ("hardswish", ()),
    "relu": ("relu", ()),
}


def build(
    van: VAN, spec: InputSpec, images: CalibrationImages, folder: Path, without: Collection[str] = ()
) -> dict[str, Path]:
    """The names of ``HOW``, in the default recipe's scheme: uint8 (1, H, W, 3) in, preprocessing in the graph.

    Of those ``without`` only the ones that ``benchmark_app`` is run on are made.
    """
    recipe = load_recipe()
    folded, _ = fold(van, spec.size)
    check = images.normalized(images.pixels[:2])
    fp32 = export_onnx(folded, folder / "fp32.onnx", check)
    irs = {"fp32": export_openvino(fp32, spec, folder / "fp32.xml")}
    for name, (activation, places) in ACTIVATIONS.items():
        if name in without and name not in CLOCKED:
            continue
        equalized = equalize(with_activation(folded, activation, places), images, strength=recipe.equalize_strength)
        quantized = post_training_quantize(equalized, images, for_openvino(recipe.openvino_scheme))
        onnx = export_onnx(quantized, folder / f"{name}.onnx", check)
        irs[name] = export_openvino(onnx, spec, folder / f"{name}.xml")
    return irs
