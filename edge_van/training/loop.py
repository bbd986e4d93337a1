"""The loop: AdamW with a cosine, averaged weights, a curve; goes on where it was stopped.

In: a ``VAN``, ``TrainingImages``, ``TrainSettings``. Out: the trained ``VAN`` and its curve. Under ``torchrun`` or
``accelerate launch`` every process takes its part of each batch, and they end with the same weights as one.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from edge_van.checkpoint.training_state import load_training_state, save_training_state
from edge_van.errors import DataError, UsageError, VerificationError
from edge_van.images.order import batch_indices
from edge_van.input_spec import InputSpec
from edge_van.model.van import VAN
from edge_van.progress import Advance
from edge_van.training.augment import augment, draw_plan
from edge_van.training.images import TrainingImages
from edge_van.training.network import make_trainable_, plan_drop_paths_
from edge_van.training.settings import TrainSettings

if TYPE_CHECKING:
    from accelerate import Accelerator

SAVE_EVERY_S = 60.0
WAIT = timedelta(hours=12)


@dataclass(frozen=True)
class CurvePoint:
    """One epoch: the mean loss of its updates, and top-1 in percent of the averaged weights where it was measured."""

    epoch: int
    step: int
    loss: float
    learning_rate: float
    top1_percent: float | None = None

    @property
    def in_words(self) -> str:
        measured = "" if self.top1_percent is None else f", top-1 {self.top1_percent:.2f} %"
        return f"loss {self.loss:.3f}{measured}"


@dataclass(frozen=True)
class Trained:
    """``van`` has the averaged weights, in eval mode, on the CPU."""

    van: VAN
    curve: tuple[CurvePoint, ...]


def start_accelerator(settings: TrainSettings, *, cpu: bool) -> Accelerator:
    """Joins the other processes, where there are any. ``UsageError`` where the batch cannot be shared among them."""
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState
    from accelerate.utils import InitProcessGroupKwargs

    on_gpu = torch.cuda.is_available() and not cpu
    if not torch.distributed.is_initialized():  # a training before this one may have been on another device
        AcceleratorState._reset_state(reset_partial_state=True)
    # the others wait while the main process hashes the images, which takes as long as their disk is slow; one that
    # dies is noticed by the launcher
    patience = InitProcessGroupKwargs(timeout=WAIT)
    precision = "bf16" if on_gpu else "no"
    accelerator = Accelerator(cpu=not on_gpu, mixed_precision=precision, kwargs_handlers=[patience])
    processes = accelerator.num_processes
    if settings.batch % (2 * processes):
        raise UsageError(
            f"a batch of {settings.batch} cannot be shared in pairs by {processes} processes: give a multiple of "
            f"{2 * processes}"
        )
    return accelerator


class Training:
    """A training, a step at a time; everything that moves is in ``state``."""

    def __init__(
        self, van: VAN, images: TrainingImages, spec: InputSpec, settings: TrainSettings, accelerator: Accelerator
    ) -> None:
        self.images, self.spec, self.settings, self.accelerator = images, spec, settings, accelerator
        processes = accelerator.num_processes
        device = self.accelerator.device
        self.source = van
        self.van = make_trainable_(copy.deepcopy(van))
        # what oneDNN is fastest in; depthwise kernels for GPUs are faster in the usual layout
        self.layout = torch.channels_last if device.type == "cpu" else torch.contiguous_format
        self.van.to(memory_format=self.layout)  # type: ignore[call-overload]  # in place; torch's stub lacks it
        self.average = copy.deepcopy(self.van).eval().requires_grad_(False).to(device)
        self.steps, self.step = settings.steps(len(images)), 0
        self.losses: list[float] = []
        self.curve: list[CurvePoint] = []
        self.mean, self.std = (torch.tensor(v, device=device).view(1, -1, 1, 1) for v in (spec.mean, spec.std))
        vectors = [p for p in self.van.parameters() if p.ndim < 2]
        others = [p for p in self.van.parameters() if p.ndim >= 2]
        groups = [{"params": others, "weight_decay": settings.weight_decay}, {"params": vectors, "weight_decay": 0.0}]
        self.network, self.optimizer = self.accelerator.prepare(
            self.van, torch.optim.AdamW(groups, lr=settings.learning_rate, fused=True)
        )
        size = settings.batch // processes
        self.part = slice(self.accelerator.process_index * size, (self.accelerator.process_index + 1) * size)

    def state(self) -> dict[str, Any]:
        return {
            "step": self.step,
            "losses": self.losses,
            "curve": [asdict(point) for point in self.curve],
            "network": self.van.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }

    def go_on_from_(self, state: dict[str, Any]) -> None:
        self.step, self.losses = state["step"], list(state["losses"])
        self.curve = [CurvePoint(**point) for point in state["curve"]]
        self.van.load_state_dict(state["network"])
        self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        for parameter, values in self.optimizer.state.items():  # a state of another device may be stored otherwise
            for name, value in values.items():
                if isinstance(value, Tensor) and value.shape == parameter.shape:
                    values[name] = torch.empty_like(parameter).copy_(value)

    @property
    def epoch(self) -> int:
        """Whole epochs that are done. The last batch may go on into one that is not asked for any more."""
        return min(self.step * self.settings.batch // len(self.images), self.settings.epochs)

    def take_step_(self) -> None:
        settings, device = self.settings, self.accelerator.device
        generator = np.random.default_rng((settings.seed, self.step, 1))
        plan = draw_plan(generator, settings).part(self.part.start, self.part.stop)
        plan_drop_paths_(self.van, generator, settings.batch, self.part)
        taken = self.images.take(self._places(self.step), then=self._places(self.step + 1))
        pixels, labels = (torch.from_numpy(values).to(device) for values in taken)
        rate = settings.rate(self.step, self.steps)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        inputs, share = augment(pixels, plan, settings.size_at(self.step, self.steps), self.mean, self.std)
        inputs = inputs.contiguous(memory_format=self.layout)
        with self.accelerator.autocast():
            logits = self.network(inputs)
        loss = _loss(logits.float(), labels, share, settings.label_smoothing)
        overall = float(self.accelerator.reduce(loss.detach(), "mean"))
        if not np.isfinite(overall):
            raise VerificationError(
                f"the loss is {overall} at step {self.step} of {self.steps}: give a lower learning rate than "
                f"{settings.learning_rate:g}"
            )
        self.optimizer.zero_grad()
        self.accelerator.backward(loss)
        self.optimizer.step()
        before, self.step = self.epoch, self.step + 1
        self._average_()
        self.losses.append(overall)
        if self.epoch > before or self.step == self.steps:
            self.curve.append(CurvePoint(self.epoch, self.step, float(np.mean(self.losses)), rate))
            self.losses = []

    def measure_(self, measure: Callable[[nn.Module], tuple[int, int]]) -> None:
        """Top-1 of the averaged weights, by all processes together, into the curve's last point."""
        counts = torch.tensor(measure(self.average), device=self.accelerator.device)
        right, seen = self.accelerator.reduce(counts, "sum").tolist()
        if not seen:
            raise DataError("none of the validation images could be read: give others")
        self.curve[-1] = replace(self.curve[-1], top1_percent=100.0 * right / seen)

    def _places(self, step: int) -> NDArray[np.int64]:
        """Which images this process takes."""
        return batch_indices(len(self.images), self.settings.batch, step, self.settings.seed)[self.part]

    @torch.no_grad()
    def _average_(self) -> None:
        """The average forgets a random start sooner than its decay says."""
        decay = min(self.settings.ema, (1.0 + self.step) / (10.0 + self.step)) if self.settings.ema else 0.0
        for mine, theirs in zip(self.average.state_dict().values(), self.van.state_dict().values(), strict=True):
            if mine.is_floating_point():
                mine.lerp_(theirs, 1.0 - decay)
            else:
                mine.copy_(theirs)

    def result(self) -> Trained:
        van = copy.deepcopy(self.source)
        van.load_state_dict({name: value.cpu() for name, value in self.average.state_dict().items()})
        return Trained(van.eval().requires_grad_(True), tuple(self.curve))


def run_training(
    training: Training,
    *,
    state: Path,
    key: str,
    advance: Advance,
    measure: Callable[[nn.Module], tuple[int, int]] | None = None,
    tell: Callable[[CurvePoint], None] | None = None,
) -> Trained:
    """Take all steps. The state is kept in ``state`` every minute and at the end; one of the same ``key`` is gone on
    from. ``measure`` says how many images of how many get their own class, of this process's part of the validation
    images, after each tenth of the epochs. ``tell`` hears of every epoch, in the main process.

    Raises ``VerificationError`` where the loss is no number any more, ``UsageError`` where a GPU's memory is too small.
    """
    if (kept := _from_main(training.accelerator, state, key)) is not None:
        training.go_on_from_(kept)
        advance(training.step * training.settings.batch)
    saved, each = time.monotonic(), max(training.settings.epochs // 10, 1)
    main = training.accelerator.is_main_process
    try:
        while training.step < training.steps:
            epochs = len(training.curve)
            training.take_step_()
            advance(training.settings.batch)
            last = training.step == training.steps
            if len(training.curve) > epochs:
                if measure is not None and (last or not training.epoch % each):
                    training.measure_(measure)
                if main and tell is not None:
                    tell(training.curve[-1])
            if main and (last or time.monotonic() - saved >= SAVE_EVERY_S):
                save_training_state(state, key, training.state())
                saved = time.monotonic()
    except torch.cuda.OutOfMemoryError:
        raise UsageError(
            f"the GPU's memory is too small for {training.settings.batch} images at {training.settings.size} px: give "
            f"a smaller batch, or more processes"
        ) from None
    return training.result()


def _from_main(accelerator: Accelerator, state: Path, key: str) -> dict[str, Any] | None:
    """The state that the main process reads: the others may not see its disk."""
    from accelerate.utils import broadcast_object_list

    states = [load_training_state(state, key) if accelerator.is_main_process else None]
    if accelerator.num_processes > 1:
        broadcast_object_list(states)
    return states[0]


def _loss(logits: Tensor, labels: Tensor, share: float, smoothing: float) -> Tensor:
    own = nn.functional.cross_entropy(logits, labels, label_smoothing=smoothing)
    if share == 1.0:
        return own
    others = labels.view(-1, 2).flip(1).flatten()
    return share * own + (1.0 - share) * nn.functional.cross_entropy(logits, others, label_smoothing=smoothing)
