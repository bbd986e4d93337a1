"""One candidate of the ladder: made, exported, measured.

In: a ``Recipe`` and what recipes are prepared from. Out: a ``Rung``, and the files of it in a folder of its own.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from edge_van.budget.activations import KIND, activation_bargains
from edge_van.budget.float_layers import bargains, layer_times
from edge_van.bundle.budget_record import Rung
from edge_van.bundle.layout import FP32_IR, INT8_IR
from edge_van.bundle.recipe import Recipe
from edge_van.bundle.records import Accuracy, Latency
from edge_van.errors import VerificationError
from edge_van.evaluation.accuracy import measure_accuracy
from edge_van.evaluation.remembered import Remembered
from edge_van.export.job import ExportJob
from edge_van.export.models import as_sent, export_fp32, export_int8
from edge_van.export.onnx import export_onnx
from edge_van.images.sets import ImageSet
from edge_van.quantization.run import Graphs, Prepared, openvino_scheme_of
from edge_van.runtimes.image_model import ImageModel, open_image_model
from edge_van.runtimes.model_file import ModelFile
from edge_van.timing.latency import RunLength, measure_latency

EQUALIZED = "equalized.onnx"
LENGTH = RunLength(300, 10.0, bound_seconds=120.0)
PrepareFor = Callable[[Recipe], Prepared]


@dataclass
class Trials:
    """Makes and measures candidates. ``place`` of the job lies in a folder that is not the bundle's."""

    job: ExportJob
    held_out: ImageSet
    prepare_for: PrepareFor
    stack: ExitStack
    is_ready: bool = False  # FP32 has been measured
    _graphs: dict[tuple[object, ...], Graphs] = field(default_factory=dict)
    _fp32: Remembered | None = None

    def fp32(self, recipe: Recipe) -> Accuracy:
        """FP32 against itself: the smallest interval that these images can show."""
        prepared = self.prepare_for(replace(recipe, method="ptq"))
        export_fp32(self.job, prepared.float_network, with_openvino=True)
        self._fp32 = Remembered(self.stack.enter_context(self._open("fp32", FP32_IR)))
        self.is_ready = True
        return self._accuracy(self._fp32, "Measuring FP32")

    def rung(self, name: str, recipe: Recipe) -> Rung:
        """Raises as the stages that it runs."""
        begin = time.perf_counter()
        self.make(recipe)
        with ExitStack() as stack:
            int8 = stack.enter_context(self._open("int8", INT8_IR))
            accuracy = self._accuracy(int8, f"Measuring {name}")
        latency = self._latency()
        [row] = [row for row in latency.rows if row.name == "int8"]
        worst = max(accuracy.gated, key=lambda metric: metric.drop_interval.high)
        return Rung(
            name=name,
            method=recipe.method,
            ranges=recipe.ranges,
            samples=recipe.samples,
            float_layers=recipe.float_layers,
            activation=recipe.activation,
            activation_places=recipe.activation_places,
            metric=worst.name,
            int8_percent=worst.int8_percent,
            drop_points=worst.drop_points,
            drop_interval=worst.drop_interval,
            largest_drop_points=accuracy.worst.drop_points,
            agreement_percent=accuracy.agreement_percent,
            logit_sqnr_db=accuracy.logit_sqnr_db,
            median_ms=row.median_ms,
            speedup=row.ratio,
            speedup_interval=row.ratio_interval,
            seconds=time.perf_counter() - begin,
        )

    def bargains(self, recipe: Recipe) -> tuple[str, ...]:
        """Layers of a recipe that trains nothing, the one first that is worth most to leave in float."""
        self.make(recipe)
        prepared = self.prepare_for(recipe)
        # the float weights of just this graph: another draw is equalised otherwise, another activation has others
        network = self.job.place(EQUALIZED)
        export_onnx(prepared.equalized, network, self.job.check_images)
        return bargains(replace(self.job, images=prepared.images), network)

    def activation_bargains(self, recipe: Recipe) -> tuple[str, ...]:
        """Places where hard-swish pays for a recipe that trains nothing, the best first."""
        made = self.job.place(INT8_IR)
        with TemporaryDirectory(prefix="edge-van-gelu-") as folder:
            self.make(recipe)
            gelu = Path(folder) / made.name
            for suffix in (".xml", ".bin"):
                shutil.copyfile(made.with_suffix(suffix), gelu.with_suffix(suffix))
            self.make(replace(recipe, activation=KIND))
            with self.job.work.reporter.stage("Timing each layer"):
                times = layer_times([gelu, made], as_sent(self.job.check_pixels[:1], self.job.spec))
        return activation_bargains(self.job, *times)

    def make(self, recipe: Recipe) -> None:
        """The files of OpenVINO's INT8 model."""
        how = (recipe.method, recipe.training, recipe.ranges, recipe.samples)
        key = (*how, recipe.activation, recipe.activation_places)
        # of the places that were tried none comes again
        self._graphs = {k: v for k, v in self._graphs.items() if k[-2:] in (key[-2:], ("gelu", ()))}
        if key not in self._graphs:
            self._graphs[key] = Graphs(self.prepare_for(recipe), self.job.work)
        export_int8(self.job, self._graphs[key].of(openvino_scheme_of(recipe)))

    def _open(self, name: str, file: str) -> ImageModel:
        model = ModelFile(name, "openvino", self.job.place(file))
        return open_image_model(model, self.job.spec, self.job.probe.logits.shape[1])

    def _accuracy(self, model: ImageModel, title: str) -> Accuracy:
        if self._fp32 is None:
            raise VerificationError("FP32 is measured before any rung")
        others = {"int8": model}
        return measure_accuracy(
            self._fp32, others, self.held_out, self.job.work, head=self.job.head, title=title
        ).accuracy["int8"]

    def _latency(self) -> Latency:
        models = [ModelFile(n, "openvino", self.job.place(f)) for n, f in (("fp32", FP32_IR), ("int8", INT8_IR))]
        with self.job.work.reporter.stage("Measuring latency, at most 120 s", LENGTH.rounds) as advance:
            return measure_latency(models, baseline="fp32", length=LENGTH, progress=advance)


def folder_of(root: Path) -> Callable[[str], Path]:
    """``ExportJob.place`` in a folder that is there."""

    def place(relative: str) -> Path:
        path = root / relative
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    return place
