"""Every ONNX file a device may choose from: the Q/DQ graphs of the recipe's schemes, plain fp16 and fp32.

In: an ``ExportJob``, quantised graphs. Out: the files, typed and checked, and what each computes against FP32.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from edge_van.bundle.layout import FP32_ONNX, graph_path
from edge_van.bundle.recipe import Recipe
from edge_van.errors import VerificationError
from edge_van.export.float16_range import LargestActivation, check_float16, largest_activation
from edge_van.export.job import Exported, ExportJob, joined
from edge_van.export.onnx import export_onnx
from edge_van.export.onnx_subset import export_subset
from edge_van.export.results import float_result, scheme_result
from edge_van.export.tensorrt_graphs import float16_floor_db, write_tensorrt_graph
from edge_van.model.fold import FoldedVAN
from edge_van.quantization.ptq import QuantizedVAN


def export_tensorrt(
    job: ExportJob,
    recipe: Recipe,
    graphs: Iterable[QuantizedVAN],
    equalized: FoldedVAN,
    float_network: FoldedVAN,
    largest: Mapping[FoldedVAN, LargestActivation] | None = None,
) -> Exported:
    """All of a recipe's graphs for TensorRT, which are of ``equalized``; the FP32 file, of ``float_network``, must be
    there. ``largest`` are activations on the job's images where they are known.

    A network that does not fit float16 gets its Q/DQ graphs in float32 and no fp16 graph, each with a warning.
    """
    export = _TensorRTExport(job, recipe, float_network, largest or {})
    return joined((*export.quantized(graphs, equalized), *export.floats()))


def export_plain(job: ExportJob, recipe: Recipe, float_network: FoldedVAN) -> Exported:
    """The graphs that quantise nothing; the FP32 file, of ``float_network``, must be there."""
    return joined(_TensorRTExport(job, recipe, float_network, {}).floats())


def _is_part(graph: QuantizedVAN, of: QuantizedVAN) -> bool:
    """Whether ``graph`` quantises some of the layers of the other, from the same weights: those of QAT are its own."""
    return of.model is graph.model and of.layers.keys() >= graph.layers.keys()


class _TensorRTExport:
    def __init__(
        self,
        job: ExportJob,
        recipe: Recipe,
        float_network: FoldedVAN,
        largest: Mapping[FoldedVAN, LargestActivation],
    ) -> None:
        self.float_network = float_network
        self._largest = dict(largest)
        # no resize goes into these files
        self.job, self.recipe = replace(job, spec=replace(job.spec, source_size=None)), recipe

    def quantized(self, graphs: Iterable[QuantizedVAN], equalized: FoldedVAN) -> list[Exported]:
        """One file a graph; one with fewer quantised layers than an earlier one is made from that one's file."""
        sources: list[tuple[QuantizedVAN, Path]] = []
        exported = []
        with tempfile.TemporaryDirectory(prefix="edge-van-") as scratch:
            for graph in graphs:
                name = graph.scheme.name
                with self.job.work.reporter.stage(f"Exporting {name}"):
                    source = Path(scratch) / f"{name}.onnx"
                    wider = next((p for g, p in sources if _is_part(graph, g)), None)
                    if wider is None:
                        export_onnx(graph, source, self.job.check_images, {"outputs": self.job.outputs})
                    else:
                        export_subset(wider, graph, source, self.job.check_images)
                    sources.append((graph, source))
                    float_type, warnings = self._typed(source, graph, equalized)
                    result = scheme_result(self.job, graph, graph_path(name), "tensorrt", float_type)
                exported.append(Exported((result,), warnings=warnings))
        return exported

    def floats(self) -> list[Exported]:
        return [self.plain("fp16", "float16"), self.plain("fp32", "float32")]

    def plain(self, name: str, float_type: str) -> Exported:
        """A graph that quantises nothing, from the float32 file that is there."""
        unchanged = (float_type, self.recipe.tensorrt_input) == ("float32", "float32")
        file = FP32_ONNX if unchanged else graph_path(name)
        job = self.job
        with self.job.work.reporter.stage(f"Exporting {name}"):
            try:
                if float_type == "float16":
                    self._require_float16(self.float_network)
                    check_float16(self.float_network, job.check_images, float16_floor_db(None))
                if not unchanged:
                    self._write(self.job.place(FP32_ONNX), file, float_type, None)
            except VerificationError as error:
                if float_type == "float32":
                    raise
                self.job.place(file).unlink(missing_ok=True)
                return Exported(warnings=self._warned(f"there is no {name} graph: {error}"))
            return Exported((float_result(self.job, name, float_type, file),))

    def _typed(self, source: Path, graph: QuantizedVAN, equalized: FoldedVAN) -> tuple[str, tuple[str, ...]]:
        """Write the scheme's file in the recipe's float type, or in float32 where that does not do.

        Which it became, and the warning.
        """
        file, float_type = graph_path(graph.scheme.name), self.recipe.tensorrt_float
        try:
            if float_type == "float16":
                self._require_float16(equalized)
                check_float16(graph.graph, self.job.check_images, float16_floor_db(graph.logit_sqnr_db))
            self._write(source, file, float_type, graph.logit_sqnr_db)
        except VerificationError as error:
            if float_type == "float32":
                raise
            warnings = self._warned(f"what {graph.scheme.name} does not quantise computes in float32: {error}")
            self._write(source, file, "float32", graph.logit_sqnr_db)
            return "float32", warnings
        return float_type, ()

    def _require_float16(self, network: FoldedVAN) -> None:
        if network not in self._largest:
            self._largest[network] = largest_activation(network, self.job.images)
        self._largest[network].require_float16()

    def _write(self, source: Path, file: str, float_type: str, quantized_db: float | None) -> None:
        write_tensorrt_graph(
            source,
            self.job.place(file),
            self.job.spec,
            self.job.check_pixels,
            float_type=float_type,
            input_type=self.recipe.tensorrt_input,
            quantized_db=quantized_db,
        )

    def _warned(self, text: str) -> tuple[str]:
        self.job.work.warn((text,))
        return (text,)
