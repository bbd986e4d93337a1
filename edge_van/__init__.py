"""edge-van: Visual Attention Networks on edge devices, in INT8, with the accuracy and latency proved."""

__version__ = "0.1.0"
