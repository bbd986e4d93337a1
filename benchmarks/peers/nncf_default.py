"""NNCF's post-training quantisation with its defaults, on the network as it was trained, for OpenVINO.

In: the loaded checkpoint, its InputSpec, calibration images. Out: an IR with a float input, run by OpenVINO.
"""

from __future__ import annotations

from pathlib import Path

from common import nncf_defaults

from edge_van.checkpoint.load import LoadedCheckpoint
from edge_van.input_spec import InputSpec
from edge_van.quantization.calibration import CalibrationImages
from peers.peer import Peer, openvino_peer

NAMES = ("nncf_defaults",)


def build(loaded: LoadedCheckpoint, spec: InputSpec, images: CalibrationImages, folder: Path) -> list[Peer]:
    """``nncf.quantize(model, dataset)`` of ``ov.convert_model``'s model."""
    path = nncf_defaults(loaded, spec, images, folder)
    return [openvino_peer(NAMES[0], "nncf.quantize, its defaults, unfolded; OpenVINO", path)]
