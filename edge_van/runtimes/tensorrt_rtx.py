"""TensorRT for RTX: engines built ahead of time for desktop cards, compiled for the card when first run.

In: an engine's plan, its record beside it. Out: a ``Session``. Not yet run on hardware.
"""

from __future__ import annotations

from typing import Any

from edge_van.runtimes.tensorrt import TensorRTSession


class TensorRTRTXSession(TensorRTSession):
    """The same calls as TensorRT's, in the library ``tensorrt_rtx``."""

    runtime = "tensorrt_rtx"

    def _make_context(self, trt: Any) -> Any:
        """Kernels for a shape are made before it is run: by default stand-ins run meanwhile, and would be timed."""
        config = self._engine.create_runtime_config()
        config.dynamic_shapes_kernel_specialization_strategy = trt.DynamicShapesKernelSpecializationStrategy.EAGER
        return self._engine.create_execution_context(config)
