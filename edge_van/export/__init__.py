"""From a graph to a file an engine reads: ONNX and OpenVINO IR.

In: a folded or quantised VAN. Out: files, each run once after writing and compared with its source.
"""
