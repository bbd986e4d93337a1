"""A repository for OpenVINO Model Server.

In: a ``Served`` model and a new folder. Out: ``models/NAME/1/``, ``config.json``, ``compose.yaml``.
"""

from __future__ import annotations

import json
from pathlib import Path

from edge_van.serving.base import COMPOSE_NAME, LABELS_NAME, MODELS, VERSION, Served, labels_of, project_of, write
from edge_van.serving.openvino_ir import write_ir

CONFIG_NAME = "config.json"
IMAGE = "openvino/model_server:latest"
_COMPOSE = """\
# Starts OpenVINO Model Server with the model beside this file: docker compose up
# It asks nobody for a password, so only this machine reaches its ports. OVMS_IMAGE names another image.
name: {project}
services:
  ovms:
    image: ${{OVMS_IMAGE:-{image}}}
    command: ["--config_path", "/repository/{config}", "--port", "9000", "--rest_port", "8000"]
    volumes:
      - type: bind
        source: .
        target: /repository
        read_only: true
    ports:
      - "127.0.0.1:9000:9000"
      - "127.0.0.1:8000:8000"
    restart: unless-stopped
"""


def write_ovms(served: Served, folder: Path) -> tuple[float | None, tuple[str, ...]]:
    """Write all but the record; the SQNR as ``write_ir`` gives it, and what a user should know. Raises as that."""
    measured = write_ir(served, folder / served.place / VERSION)
    # the path is taken from where the file lies, so that the folder can be served from anywhere, without Docker too;
    # without the hint a CPU with bf16 computes in that what is not INT8
    config = {
        "name": served.name,
        "base_path": f"{MODELS}/{served.name}",
        "target_device": "CPU",
        "plugin_config": {"INFERENCE_PRECISION_HINT": served.hint},
    }
    write(folder, CONFIG_NAME, json.dumps({"model_config_list": [{"config": config}]}, indent=2) + "\n")
    write(folder, COMPOSE_NAME, _COMPOSE.format(image=IMAGE, config=CONFIG_NAME, project=project_of("ovms", served)))
    if (labels := labels_of(served)) is not None:
        write(folder, LABELS_NAME, labels)  # for clients: the server gives logits alone
    return measured, tuple(_notes(served))


def _notes(served: Served) -> list[str]:
    spec = served.spec
    height, width, channels = spec.source_shape
    notes = []
    if channels == 3:
        sent = "JPEG and PNG are decoded to BGR by the server, so arrays are BGR, too"
        if served.source_order == "rgb":
            sent = "arrays are RGB; JPEG and PNG, which the server decodes to BGR, would be seen with red as blue"
        notes.append(sent)
    elif channels == 4:
        notes.append("send arrays: a PNG of four channels would come with red and blue exchanged")
    if spec.source_size is None:
        notes.append(
            f"images are sent at {height}x{width} px, resized and cropped as edge-van does: the server squashes others"
        )
    return notes
