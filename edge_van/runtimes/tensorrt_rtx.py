"""TensorRT for RTX: engines built ahead of time for desktop cards, compiled for the card when first run.

In: an engine's plan, its record beside it. Out: a ``Session``. Not yet run on hardware.
"""

from __future__ import annotations

from edge_van.runtimes.tensorrt import TensorRTSession


class TensorRTRTXSession(TensorRTSession):
    """The same calls as TensorRT's, in the library ``tensorrt_rtx``."""

    runtime = "tensorrt_rtx"
