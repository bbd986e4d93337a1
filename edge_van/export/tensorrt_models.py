"""Every ONNX file a device may choose from: the Q/DQ graphs of the recipe's schemes, plain fp16 and fp32.

In: quantised graphs and the folded network. Out: the files, typed and checked, and what each computes against FP32.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from edge_van.bundle.layout import FP32_ONNX
from edge_van.bundle.records import SchemeResult
from edge_van.errors import VerificationError
from edge_van.export.float16_range import LargestActivation, check_float16, largest_activation
from edge_van.export.onnx import export_onnx
from edge_van.export.onnx_subset import export_subset
from edge_van.export.results import float_result, scheme_result
from edge_van.export.tensorrt_graphs import float16_floor_db, write_tensorrt_graph
from edge_van.input_spec import InputSpec
from edge_van.model.fold import FoldedVAN
from edge_van.progress import Reporter
from edge_van.quantization.calibration import CalibrationImages
from edge_van.quantization.ptq import QuantizedVAN
from edge_van.quantization.recipe import Recipe

CHECK_IMAGES = 8


@dataclass(frozen=True)
class TensorRTExport:
    """Where the files go and what they are checked with. A network that does not fit float16 gets its Q/DQ graphs in
    float32 and no fp16 graph, each with a line in ``warnings``."""

    place: Callable[[str], Path]
    spec: InputSpec  # at the network's size: no resize goes into these files
    recipe: Recipe
    images: CalibrationImages
    folded: FoldedVAN
    equalized: FoldedVAN  # what was quantised
    probe: list[NDArray[np.uint8]]
    reporter: Reporter
    warnings: list[str]

    def quantized(self, graphs: Iterable[QuantizedVAN]) -> Iterator[SchemeResult]:
        """One file a graph; one with fewer quantised layers than an earlier one is made from that one's file."""
        exported: list[tuple[QuantizedVAN, Path]] = []
        with tempfile.TemporaryDirectory(prefix="edge-van-") as scratch:
            for graph in graphs:
                name = graph.scheme.name
                with self.reporter.stage(f"Exporting {name}"):
                    source = Path(scratch) / f"{name}.onnx"
                    wider = next((p for g, p in exported if g.layers.keys() >= graph.layers.keys()), None)
                    if wider is None:
                        export_onnx(graph, source, self._check_images)
                    else:
                        export_subset(wider, self.equalized, graph, source, self._check_images)
                    exported.append((graph, source))
                    file = f"onnx/model_{name}.onnx"
                    float_type = self._typed(source, file, graph)
                result = scheme_result(graph, self.folded, self.probe, self.images, file)
                yield replace(result, target="tensorrt", float_type=float_type)

    @cached_property
    def _check_images(self) -> Tensor:
        return self.images.normalized(self.images.pixels[:CHECK_IMAGES])

    @cached_property
    def _largest_equalized(self) -> LargestActivation:
        return largest_activation(self.equalized, self.images)

    def _typed(self, source: Path, file: str, graph: QuantizedVAN) -> str:
        """Write ``file`` in the recipe's float type, or in float32 where that does not do; which it became."""
        float_type = self.recipe.tensorrt_float
        try:
            if float_type == "float16":
                self._largest_equalized.require_float16()
                check_float16(graph.graph, self._check_images, float16_floor_db(graph.logit_sqnr_db))
            self._write(source, file, float_type, graph.logit_sqnr_db)
        except VerificationError as error:
            if float_type == "float32":
                raise
            self._warn(f"what {graph.scheme.name} does not quantise computes in float32: {error}")
            float_type = "float32"
            self._write(source, file, float_type, graph.logit_sqnr_db)
        return float_type

    def plain(self) -> Iterator[SchemeResult]:
        """fp16 and fp32, from the float32 file that is there."""
        for name, float_type in (("fp16", "float16"), ("fp32", "float32")):
            as_it_is = (float_type, self.recipe.tensorrt_input) == ("float32", "float32")
            file = FP32_ONNX if as_it_is else f"onnx/model_{name}.onnx"
            with self.reporter.stage(f"Exporting {name}"):
                try:
                    if float_type == "float16":
                        largest_activation(self.folded, self.images).require_float16()
                        check_float16(self.folded, self._check_images, float16_floor_db(None))
                    if not as_it_is:
                        self._write(self.place(FP32_ONNX), file, float_type, None)
                except VerificationError as error:
                    if float_type == "float32":
                        raise
                    self.place(file).unlink(missing_ok=True)
                    self._warn(f"there is no fp16 graph: {error}")
                    continue
                path = self.place(file)
                yield float_result(name, float_type, file, path, self.folded, self.probe, self.spec, self.images)

    def _write(self, source: Path, file: str, float_type: str, quantized_db: float | None) -> None:
        write_tensorrt_graph(
            source,
            self.place(file),
            self.spec,
            self.images.pixels[:CHECK_IMAGES],
            float_type=float_type,
            input_type=self.recipe.tensorrt_input,
            quantized_db=quantized_db,
        )

    def _warn(self, text: str) -> None:
        self.warnings.append(text)
        self.reporter.note(f"warning: {text}")
