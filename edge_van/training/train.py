"""From a folder of labelled images to a checkpoint: the whole of ``edge-van train``.

In: images, a variant or a checkpoint to start from, ``TrainSettings``. Out: a safetensors file that the command
``edge-van quantize`` takes, and the training's curve beside it.
"""

from __future__ import annotations

import copy
import csv
import hashlib
import io
import json
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import nn

from edge_van.checkpoint.load import load_checkpoint, save_safetensors
from edge_van.checkpoint.training_state import SUFFIX, training_states
from edge_van.errors import DataError, UsageError
from edge_van.images.sets import ImageSet, open_images, splits
from edge_van.input_spec import InputSpec
from edge_van.model.van import VAN, DropPath
from edge_van.progress import UNWATCHED, Work
from edge_van.storage.files import replace_file
from edge_van.training.images import (
    OnDisk,
    TrainingImages,
    apart_from,
    bytes_in_memory,
    content_hashes,
    fits_in_memory,
    read_images,
    whole_images,
)
from edge_van.training.loop import CurvePoint, Training, run_training, start_accelerator
from edge_van.training.settings import TrainSettings

if TYPE_CHECKING:
    from accelerate import Accelerator


@dataclass(frozen=True)
class TrainOptions:
    """What of a training is seldom asked for."""

    variant: str | None = None  # None: that of the checkpoint
    checkpoint: str | Path | None = None  # None: from scratch
    validation: str | Path | None = None  # None: the val/ or test/ beside the train/ of ``data``
    cpu: bool = False  # although there is a GPU
    force: bool = False  # replace a file that is there


@dataclass(frozen=True)
class TrainResult:
    """The file, and its curve."""

    path: Path
    curve: tuple[CurvePoint, ...]


def train(
    data: str | Path,
    output: str | Path,
    settings: TrainSettings,
    *,
    options: TrainOptions | None = None,
    work: Work = UNWATCHED,
) -> TrainResult:
    """Train a VAN on ``data``, labelled images in a folder or zip, one folder a class, or train/ beside val/.

    What it goes on from lies in a hidden folder beside ``output`` until it is done: the same call goes on there.
    ``output`` with the suffix ``.csv`` has the curve.

    Raises ``UsageError``, ``DataError``, ``CheckpointError``, and ``VerificationError`` where the loss is no number.
    """
    options, path = options or TrainOptions(), Path(output)
    if path.suffix != ".safetensors":
        raise UsageError(f"a trained network is written as safetensors: call it NAME.safetensors, not {path.name}")
    curve = path.with_suffix(".csv")
    for there in (path, curve):
        if there.exists() and not options.force:
            raise UsageError(f"{there} is there already: give another --output, or --force to replace it")
    accelerator = start_accelerator(settings, cpu=options.cpu)
    torch.manual_seed(settings.seed)
    with ExitStack() as stack:
        beside, training_part = splits(Path(data))
        held_out = None if training_part is None else beside
        if options.validation is not None:
            held_out = Path(options.validation)
        images = stack.enter_context(open_images(training_part or Path(data)))
        if len(images.classes or ()) < 2:
            raise DataError(f"{data} has one class; a training needs a folder for each of two classes or more")
        spec = InputSpec(size=(settings.size,) * 2, crop=1.0, classes=images.classes)
        van, spec, key, variant = _start(options, settings, spec)
        others = None
        if held_out is not None:
            others = stack.enter_context(open_images(held_out, classes=spec.classes))
            work.warn(others.warnings)
        folder = stack.enter_context(training_states(path)) if accelerator.is_main_process else path.parent
        apart, hashes = _apart(images, others, accelerator, work)
        in_memory = _fits(len(apart), others, spec, work)

        def read(source: ImageSet, indices: Sequence[int], use: str) -> TrainingImages:
            if in_memory:
                return read_images(source, spec, use, work, indices)
            whole = whole_images(source, spec, use, work, indices)
            return stack.enter_context(OnDisk(source, spec, whole))

        pixels = read(images, apart, "training")
        validation = None
        if others is not None:  # each process measures its own part
            part = range(accelerator.process_index, len(others), accelerator.num_processes)
            validation = read(others, part, "validation")
        contents = _digest(hashes.get(i, "") + f" {images.items[i].label}" for i in pixels.indices)
        run = Training(van, pixels, spec, settings, accelerator)
        with work.reporter.stage(f"Training {van.variant.name}", run.steps * settings.batch) as advance:
            trained = run_training(
                run,
                state=folder / f"state{SUFFIX}",
                key=f"{key} {contents} {spec} {settings} torch {torch.__version__}",
                advance=advance,
                measure=None if validation is None else lambda network: _right(network, validation, spec),
                tell=lambda point: work.reporter.note(f"epoch {point.epoch} of {settings.epochs}: {point.in_words}"),
            )
        if accelerator.is_main_process:
            extra = {"trained_on": Path(data).name, "settings": json.dumps(asdict(settings))}
            weights, (_, _, norm) = trained.van.state_dict(), trained.van.stages()[0]
            spec = replace(spec, source_order=InputSpec.source_order)
            save_safetensors(path, weights, spec, variant, half=False, layer_norm_eps=norm.eps, extra=extra)
            replace_file(curve, _csv(trained.curve))
    accelerator.wait_for_everyone()
    return TrainResult(path, trained.curve)


def _start(options: TrainOptions, settings: TrainSettings, spec: InputSpec) -> tuple[VAN, InputSpec, str, str | None]:
    """The network before its first step, how its images are prepared, what of it a resumed run must share, and the
    published variant it is, None for widths or kernels of one's own."""
    classes = spec.classes or ()
    if options.checkpoint is None:
        if options.variant is None:
            raise UsageError("a training from scratch needs --variant b0..b6; one that goes on needs --checkpoint FILE")
        van = VAN(options.variant, len(classes), drop_path_rate=settings.drop_path)
        return van, spec, f"scratch {options.variant}", options.variant
    # a training chooses one class an image, whatever the outputs were before
    loaded = load_checkpoint(str(options.checkpoint), variant=options.variant, by_hand=("head",))
    van = copy.deepcopy(loaded.van)
    for module, rate in zip(
        (m for m in van.modules() if isinstance(m, DropPath)),
        torch.linspace(0, settings.drop_path, sum(van.variant.depths)).tolist(),
        strict=True,
    ):
        module.rate = rate
    # another task, or the logits in another order: its head starts anew
    if loaded.spec.classes != classes or van.num_classes != len(classes):
        head = nn.Linear(cast(nn.Linear, van.head).in_features, len(classes))
        nn.init.trunc_normal_(head.weight, std=0.02)
        nn.init.zeros_(head.bias)
        van.head, van.num_classes = head, len(classes)
    order = loaded.spec.channel_order
    spec = replace(spec, mean=loaded.spec.mean, std=loaded.spec.std, channel_order=order, source_order=order)
    return van, spec, f"{loaded.sha256} {loaded.entry}", loaded.variant


def _apart(
    images: ImageSet, others: ImageSet | None, accelerator: Accelerator, work: Work
) -> tuple[list[int], dict[int, str]]:
    """Positions of the images to train on, as the main process finds them; there, the hashes of their files too."""
    from accelerate.utils import broadcast_object_list

    names = _digest(item.name for item in images.items)
    apart = list(range(len(images)))
    hashes: list[str] = []
    shared: list[Any] = [None]
    if accelerator.is_main_process:
        hashes = content_hashes(images, "training", work)
        if others is not None:
            apart = apart_from(images, hashes, frozenset(content_hashes(others, "validation", work)), work)
        shared = [(apart, names)]
    if accelerator.num_processes > 1:
        broadcast_object_list(shared)
        apart, of_main = shared[0]
        if of_main != names:
            raise DataError(f"the processes see different images under {images.source}: give each machine the same")
    return apart, dict(enumerate(hashes))


def _fits(images: int, others: ImageSet | None, spec: InputSpec, work: Work) -> bool:
    images += 0 if others is None else len(others)
    if fits := fits_in_memory(images, spec):
        return fits
    needed = bytes_in_memory(images, spec) / 2**30
    work.reporter.note(
        f"{images:,} images at {spec.size[0]} px would take {needed:.1f} GiB of memory: decoded as they are needed"
    )
    return False


def _digest(lines: Iterable[str]) -> str:
    digest = hashlib.sha256()
    for line in lines:
        digest.update(line.encode("utf-8", "surrogateescape") + b"\n")
    return digest.hexdigest()


@torch.no_grad()
def _right(network: nn.Module, images: TrainingImages, spec: InputSpec) -> tuple[int, int]:
    """How many of how many get their own class."""
    device = next(network.parameters()).device
    mean, std = (torch.tensor(v, device=device).view(1, -1, 1, 1) for v in (spec.mean, spec.std))
    right = seen = 0
    for pixels, labels in images.batches():
        on_device = torch.from_numpy(pixels).to(device)
        logits = network((on_device.permute(0, 3, 1, 2).float() / 255.0 - mean) / std)
        right += int((logits.argmax(1).cpu().numpy() == labels).sum())
        seen += len(labels)
    return right, seen


def _csv(curve: tuple[CurvePoint, ...]) -> bytes:
    text = io.StringIO()
    writer = csv.DictWriter(text, [field.name for field in fields(CurvePoint)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(point) for point in curve)
    return text.getvalue().encode()
