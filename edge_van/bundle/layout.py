"""Where the files of a bundle lie, relative to its folder. In and out: nothing, only names."""

FP32_IR = "openvino_fp32/model.xml"
INT8_IR = "openvino/model.xml"
FP32_ONNX = "onnx/model.onnx"
OPENVINO_ONNX = "onnx/model_openvino.onnx"
