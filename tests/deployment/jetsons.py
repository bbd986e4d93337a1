"""A Jetson's stand-in as a target, and what its bundle holds."""

from __future__ import annotations

import os
import sys
from dataclasses import replace

from jetson_stand_in import JetsonStandIn

from edge_van.bundle.layout import FP32_ONNX, graph_path
from edge_van.deployment.targets import Target, load_target

DROPS = {"int8": 0.9, "int8_pointwise": 0.3, "fp32": 0.0}
TIMES = {"int8": 0.5, "int8_pointwise": 0.75, "fp32": 2.0}
FILES = {"int8": graph_path("int8"), "int8_pointwise": graph_path("int8_pointwise"), "fp32": FP32_ONNX}


def target_of(stand_in: JetsonStandIn, name: str = "jetson-orin-nano") -> Target:
    return replace(
        load_target(name),
        architecture=os.uname().machine,  # the stand-in's
        python=(sys.executable,),
        candidates=tuple(FILES),
        paths=stand_in.paths,
        seconds=1.0,
        warm_up_s=0.2,
    )
