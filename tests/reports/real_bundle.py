"""A small real bundle whose two OpenVINO models often disagree: a narrow VAN, and the same with coarse weights."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import torch
from bundle_samples import MANIFEST
from checkpoint_samples import lively
from cli_samples import CLASSES, NARROW, image_folders

from edge_van.bundle.bundle import Bundle
from edge_van.bundle.layout import FP32_IR, FP32_ONNX, INT8_IR, OPENVINO_ONNX
from edge_van.bundle.writer import BundleWriter
from edge_van.export.onnx import export_onnx
from edge_van.export.openvino import export_openvino
from edge_van.images.sets import open_images
from edge_van.images.stream import stream
from edge_van.input_spec import InputSpec
from edge_van.model.fold import fold
from edge_van.model.van import VAN

SPEC = InputSpec(size=(32, 32), crop=1.0, classes=CLASSES)
LEVELS = 6
"""The coarse model's weights take so many values on either side of zero: some predictions flip, not all."""


@torch.no_grad()
def make_bundle(root: Path, images: int = 20) -> tuple[Bundle, Path]:
    """The bundle, and the folder of its images, ``images`` of each class and one that cannot be read."""
    data = image_folders(root / "data", {"val": images}) / "val"
    (data / CLASSES[0] / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    torch.manual_seed(0)
    van = lively(VAN(NARROW, len(CLASSES))).eval()
    folded, _ = fold(van, SPEC.size)
    mean, std = torch.tensor(SPEC.mean), torch.tensor(SPEC.std)
    with open_images(data, classes=CLASSES) as opened:
        [batch] = stream(opened, SPEC, batch_size=len(opened))
    pixels = ((torch.from_numpy(batch.images) / 255 - mean) / std).permute(0, 3, 1, 2).contiguous()
    folded.head.bias -= folded(pixels).mean(0)  # every class is predicted for some of the images
    coarse = deepcopy(folded)
    for weight in coarse.parameters():
        if weight.dim() > 1:
            step = weight.abs().max() / LEVELS
            weight.copy_((weight / step).round() * step)
    with BundleWriter(root / "narrow") as writer:
        for model, onnx, ir in ((folded, FP32_ONNX, FP32_IR), (coarse, OPENVINO_ONNX, INT8_IR)):
            exported = export_onnx(model, writer.path(onnx), torch.zeros(1, 3, *SPEC.size))
            export_openvino(exported, SPEC, writer.path(ir))
        return writer.finish(replace(MANIFEST, num_classes=len(CLASSES), input_spec=SPEC)), data
