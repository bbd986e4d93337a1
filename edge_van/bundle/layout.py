"""Where the files of a bundle lie, relative to its folder.

In: the name of a target or scheme. Out: paths with forward slashes.
"""

import re

FP32_IR = "openvino_fp32/model.xml"
INT8_IR = "openvino/model.xml"
PRECISIONS = {
    "fp32": (FP32_IR, "f32"),
    "bf16": (FP32_IR, "bf16"),
    "int8": (INT8_IR, "f32"),
    "int8_bf16": (INT8_IR, "bf16"),
}
"""What OpenVINO's files run in on an x86 CPU: the file, and what it computes in that is not INT8. The one first that
changes the network least."""
FP32_ONNX = "onnx/model.onnx"
OPENVINO_ONNX = "onnx/model_openvino.onnx"
ARM_IR = "openvino_arm/model.xml"
ARM_ONNX = "onnx/model_openvino_arm.onnx"
GOLDEN = "golden/golden.npz"
PLAN_NAME, RECORD_NAME, LOG_NAME = "model.engine", "engine.json", "build.log"
"""What lies in the folder of an engine."""
BENCHMARK_NAME = "benchmark.json"
SENSITIVITY_NAME = "sensitivity.json"
RELEASE_NAME, SIGNATURE_NAME = "release.json", "release.json.sig"
"""Which release the bundle is, and who says so."""
SENSITIVITY_PARTIAL = re.compile(r"sensitivity\.[0-9a-f]{8}\.partial\.json")
REPORT_HTML, REPORT_MD, REPORT_JSON = "report.html", "report.md", "report.json"


def graph_path(scheme: str) -> str:
    """The ONNX file of a TensorRT scheme, or of "fp16" and "fp32" where they are not the FP32 file itself."""
    return f"onnx/model_{scheme}.onnx"


def engines_folder(target: str) -> str:
    """All engines of one target: a GPU and the version of what built them."""
    return f"tensorrt/{target}"


def plan_path(target: str, scheme: str) -> str:
    """The engine of one scheme for one target."""
    return f"{engines_folder(target)}/{scheme}/{PLAN_NAME}"


def with_weights(file: str) -> tuple[str, ...]:
    """``file`` and what an engine reads with it: an OpenVINO IR keeps its weights in a file of its own."""
    return (file, f"{file.removesuffix('.xml')}.bin") if file.endswith(".xml") else (file,)
