"""Quantisation-aware training by distillation: the quantised graph learns the float network's logits and features.

In: a calibrated graph, the float network, images without labels. Out: the graph with trained weights and ranges, which
``ptq.convert`` takes as it takes a calibrated one.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.fx import GraphModule
from torch.fx.graph import CodeGen

from edge_van.bundle.recipe import QATSettings
from edge_van.checkpoint.training_state import load_training_state, save_training_state
from edge_van.errors import UsageError, VerificationError
from edge_van.images.order import batch_indices
from edge_van.model.fold import FoldedVAN
from edge_van.quantization.calibration import CalibrationImages
from edge_van.quantization.fake_quantize import ActivationGrid, WeightGrid, put_grids_
from edge_van.quantization.histograms import Progress
from edge_van.quantization.ptq import Calibrated, capture, quiet_capture
from edge_van.schedule import warm_up_and_cosine

SAVE_EVERY_STEPS = 50
GROWN = 2.0
"""A loss that is over this many times what it was is an error; a few steps may leave it about where it was."""
_FEATURES = torch.ops.aten.layer_norm.default
"""The network's own outputs of each stage."""


@dataclass(frozen=True)
class Resume:
    """Where a training keeps its state, and a key of all that it depends on: one of another key is not gone on from."""

    path: Path
    key: str


def quantization_aware(
    calibrated: Calibrated,
    teacher: FoldedVAN,
    images: CalibrationImages,
    settings: QATSettings,
    *,
    seed: int = 0,
    resume: Resume | None = None,
    progress: Progress | None = None,
) -> Calibrated:
    """Train a copy of ``calibrated``'s graph towards ``teacher`` on ``images``; neither is changed. On a GPU if one is
    there.

    The loss is the squared error of the logits over their variance, that is noise over signal, and the same of each
    stage's features. With ``resume`` its state is kept there every ``SAVE_EVERY_STEPS`` and a run of the same key goes
    on from it; on a CPU it ends with the same weights as one that was never interrupted.

    Raises ``VerificationError`` where the loss is no number any more or has grown, ``UsageError`` where a GPU's memory
    is too small.
    """
    with quiet_capture():  # copies of graphs make torch talk of itself
        training = _Training(calibrated, teacher, settings, seed)
    try:
        return _run(training, images, resume, progress)
    except torch.cuda.OutOfMemoryError:
        raise UsageError(
            f"the GPU's memory is too small to train with {settings.batch} images a step: give the table of the "
            f"recipe's method, [qat] or [reconstruction], a smaller batch"
        ) from None


def _run(
    training: _Training, images: CalibrationImages, resume: Resume | None, progress: Progress | None
) -> Calibrated:
    settings = training.settings
    before = training.distance(images)
    if resume is not None and (state := load_training_state(resume.path, resume.key)) is not None:
        training.go_on_from_(state)
        if progress is not None:
            progress(training.step * settings.batch)
    while training.step < settings.steps:
        training.take_step_(images)
        if progress is not None:
            progress(settings.batch)
        if resume is not None and (training.step % SAVE_EVERY_STEPS == 0 or training.step == settings.steps):
            save_training_state(resume.path, resume.key, training.state())
    after = training.distance(images)
    if not after <= GROWN * before:
        raise VerificationError(
            f"training made the network worse: its loss went from {before:.3g} to {after:.3g} in {settings.steps} "
            f"steps; give the table of the recipe's method, [qat] or [reconstruction], a lower learning_rate than "
            f"{settings.learning_rate:g}, or more steps"
        )
    return training.result()


class _Training:
    """A student in training; everything that moves is in ``state``."""

    def __init__(self, calibrated: Calibrated, teacher: FoldedVAN, settings: QATSettings, seed: int) -> None:
        self.calibrated, self.teacher, self.settings, self.seed = calibrated, teacher, settings, seed
        self.step = 0
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.trained = copy.deepcopy(calibrated.observed)
        put_grids_(self.trained)
        self.trained.to(self.device)
        self.student = _with_features(self.trained)
        self.float_graph = _with_features(capture(copy.deepcopy(teacher))).to(self.device)
        weights = [p for n, p in self.trained.named_parameters() if not n.endswith("log_scale")]
        scales = [p for n, p in self.trained.named_parameters() if n.endswith("log_scale")]
        for parameter in weights:
            parameter.requires_grad_(True)
        self.rates = (settings.learning_rate, settings.range_rate)
        groups = [{"params": weights, "lr": self.rates[0]}, {"params": scales, "lr": self.rates[1]}]
        self.optimizer = torch.optim.AdamW(groups, weight_decay=0.0)

    def state(self) -> dict[str, Any]:
        return {
            "step": self.step,
            "network": self.trained.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }

    def go_on_from_(self, state: dict[str, Any]) -> None:
        self.step = state["step"]
        self.trained.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        self._freeze_if_due_()

    def _freeze_if_due_(self) -> None:
        if self.step >= self.settings.steps * (1.0 - self.settings.frozen_share):
            _freeze_(self.trained)

    def take_step_(self, images: CalibrationImages) -> None:
        settings = self.settings
        self._freeze_if_due_()
        for group, rate in zip(self.optimizer.param_groups, self.rates, strict=True):
            group["lr"] = rate * warm_up_and_cosine(self.step, settings.steps, settings.steps // 20)
        batch = self.images_of(self.step, images)
        with torch.no_grad():
            expected = self.float_graph(batch)
        loss = _distance(self.student(batch), expected, settings.feature_weight)
        if not torch.isfinite(loss):
            raise VerificationError(
                f"the training's loss is {loss.item()} at step {self.step} of {settings.steps}: give the table of the "
                f"recipe's method, [qat] or [reconstruction], a lower learning_rate than {settings.learning_rate:g}"
            )
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        self.step += 1

    def images_of(self, step: int, images: CalibrationImages) -> Tensor:
        batch = _draw(images, self.settings.batch, step, self.seed).to(self.device)
        # the whole graph runs in its input's layout, and oneDNN's kernels for channels last are the faster ones
        return batch.contiguous(memory_format=torch.channels_last) if self.device.type == "cpu" else batch

    @torch.no_grad()
    def distance(self, images: CalibrationImages) -> float:
        """The loss as it stands, on the images of the first step."""
        batch = self.images_of(0, images)
        return float(_distance(self.student(batch), self.float_graph(batch), self.settings.feature_weight))

    def result(self) -> Calibrated:
        trained = self.trained.cpu().requires_grad_(False)
        model = _with_weights(self.calibrated.model, trained)
        return replace(self.calibrated, model=model, observed=trained, reference=self.teacher)


def _draw(images: CalibrationImages, batch: int, step: int, seed: int) -> Tensor:
    """The images of a step, each mirrored or not; of the step and the seed alone."""
    chosen = batch_indices(len(images.pixels), batch, step, seed)
    mirrored = np.random.default_rng((seed, step, 1)).random(batch) < 0.5
    drawn = images.normalized(images.pixels[chosen])
    return torch.where(torch.from_numpy(mirrored).view(-1, 1, 1, 1), drawn.flip(3), drawn)


def _distance(student: Sequence[Tensor], expected: Sequence[Tensor], feature_weight: float) -> Tensor:
    logits, *features = (_noise_over_signal(a, b) for a, b in zip(student, expected, strict=True))
    return logits + feature_weight * torch.stack(features).mean()


def _noise_over_signal(student: Tensor, expected: Tensor) -> Tensor:
    return nn.functional.mse_loss(student, expected) / expected.var().clamp_min(1e-12)


def _with_features(graph: GraphModule) -> GraphModule:
    """The same modules and parameters; the results are the logits, then the LayerNorms' outputs."""
    result = GraphModule(graph, copy.deepcopy(graph.graph))
    result.graph.set_codegen(CodeGen())  # torch.export's own packs the one result it knows of
    output = next(node for node in result.graph.nodes if node.op == "output")
    [logits] = cast(Any, output.args[0])
    output.args = ((logits, *(n for n in result.graph.nodes if n.target is _FEATURES)),)
    result.recompile()
    return result


def _freeze_(trained: GraphModule) -> None:
    for module in trained.modules():
        if isinstance(module, WeightGrid):
            module.frozen = True
        elif isinstance(module, ActivationGrid):
            module.log_scale.requires_grad_(False)


def _with_weights(model: FoldedVAN, trained: GraphModule) -> FoldedVAN:
    result = copy.deepcopy(model)
    values = dict(trained.named_parameters())
    with torch.no_grad():
        for name, parameter in result.named_parameters():
            parameter.copy_(values[name])
    return result
