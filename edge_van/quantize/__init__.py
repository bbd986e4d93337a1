"""Post-training quantisation: which tensors, on which grid, with which ranges.

In: a folded VAN and calibration images. Out: a graph with explicit quantise and dequantise nodes.
"""
