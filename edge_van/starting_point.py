"""What the main job starts from: a checkpoint as its images are prepared, and the images.

In: what the caller gave. Out: a ``Source`` and its ``Data``, checked against each other before any work.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

from edge_van.assets import DEMO_CALIBRATION, DEMO_CHECKPOINT, DEMO_VALIDATION, asset
from edge_van.bundle.budget_record import Budget
from edge_van.bundle.recipe import TARGET_NAMES
from edge_van.checkpoint.load import LoadedCheckpoint, load_checkpoint
from edge_van.errors import UsageError
from edge_van.head import Head
from edge_van.images.labelled import Wanted, open_labelled
from edge_van.images.sets import ImageSet, open_images, splits
from edge_van.images.stream import require_source_size
from edge_van.input_spec import InputSpec
from edge_van.model.channels import with_swapped_colours
from edge_van.model.van import VAN
from edge_van.progress import Work


@dataclass(frozen=True)
class QuantizeOptions:
    """What of a quantisation is seldom asked for. ``spec_overrides`` are fields of the ``InputSpec``, ``head``
    and ``threshold`` make the ``Head``; ``labels`` is a file of what is true of the images to measure on."""

    variant: str | None = None  # None: what the checkpoint's tensors say
    targets: tuple[str, ...] = TARGET_NAMES
    spec_overrides: dict[str, object] = field(default_factory=dict)
    seed: int = 0
    use_ema: bool = True
    force: bool = False  # replace a bundle that is there
    head: str | None = None  # its activation; None: what the checkpoint says
    threshold: float | None = None
    labels: str | Path | None = None
    budget: Budget | None = None
    """None: the recipe is taken as it is. Else it is where the search for one begins."""

    def __post_init__(self) -> None:
        unknown = [t for t in self.targets if t not in TARGET_NAMES]
        if unknown or not self.targets:
            raise UsageError(
                f"--target is one or more of {', '.join(TARGET_NAMES)}; got {', '.join(unknown) or 'none'}"
            )
        if self.budget is not None and "openvino" not in self.targets:
            raise UsageError("a budget is of OpenVINO's model, and --target leaves it out: give --target openvino too")


@dataclass(frozen=True)
class Source:
    """A checkpoint as it was read, with the InputSpec and the Head that were asked for, and the network that takes what
    the former sends."""

    loaded: LoadedCheckpoint
    van: VAN
    spec: InputSpec
    head: Head
    is_demo: bool

    @property
    def variant(self) -> str:
        return self.loaded.variant or self.van.variant.name


@dataclass(frozen=True)
class Data:
    """Images to measure accuracy on, images to calibrate on, and the InputSpec with the classes' names."""

    held_out: ImageSet
    training: ImageSet
    spec: InputSpec
    warnings: tuple[str, ...] = ()


def load_source(checkpoint: str | None, options: QuantizeOptions, work: Work) -> Source:
    """None and "demo" are the embedded demo. Raises as ``load_checkpoint``; ``UsageError`` for what does not fit."""
    is_demo = checkpoint in (None, "demo")
    if is_demo:
        if options.variant not in (None, "b0"):
            raise UsageError(
                f"the embedded demo is a b0, not {options.variant}: give your own weights with --checkpoint FILE, or "
                f"the official ones with --checkpoint imagenet1k"
            )
        loaded = load_checkpoint(asset(DEMO_CHECKPOINT))
    else:
        by_hand = [name for name, value in options.spec_overrides.items() if value is not None]
        by_hand += ["head"] if options.head is not None else []
        loaded = load_checkpoint(str(checkpoint), variant=options.variant, use_ema=options.use_ema, by_hand=by_hand)
    van = loaded.van
    overrides = {"source_order": InputSpec.source_order, **_given(options.spec_overrides, van.in_channels)}
    spec = loaded.spec.with_overrides(**overrides)
    if spec.channels != van.in_channels:
        raise UsageError(
            f"mean and std of {spec.channels} channels for a network of {van.in_channels}: give as many numbers as the "
            f"network takes channels, or one for all"
        )
    if spec.swaps_channels:
        van = with_swapped_colours(van)
    head = loaded.head
    if options.head not in (None, head.activation):
        head = Head(str(options.head))
    head = head.with_threshold(options.threshold)
    head.task(van.num_classes)
    if spec.classes is not None and not head.names_fit(len(spec.classes), van.num_classes):
        raise UsageError(f"{len(spec.classes)} class names for a head of {van.num_classes} classes")
    if is_demo:
        why = "No --checkpoint: using" if checkpoint is None else "Using"
        work.reporter.note(f"{why} the embedded demo, VAN-B0 trained on CIFAR-10 at 64 px.")
    for note in loaded.notes:
        work.reporter.note(note)
    work.warn(loaded.warnings)
    return Source(loaded, van, spec, head, is_demo)


def _given(overrides: Mapping[str, object], channels: int) -> dict[str, object]:
    """Those that are not None; one number of mean or std stands for every channel."""
    return {
        name: value * channels if name in ("mean", "std") and isinstance(value, tuple) and len(value) == 1 else value
        for name, value in overrides.items()
        if value is not None
    }


def open_data(
    source: Source, data: Path | None, calibration: Path | None, labels: str | Path | None, stack: ExitStack
) -> Data:
    """``data`` may hold train/ and val/ (or test/) side by side; ``labels`` is a file of what is true of the latter."""
    if data is not None:
        data, train = splits(data)
        calibration = calibration or train
    if source.is_demo:
        data = data or asset(DEMO_VALIDATION)
        calibration = calibration or asset(DEMO_CALIBRATION)
    if data is None:
        raise UsageError("accuracy is measured on labelled images: give them with --data DIR|ZIP, one folder a class")
    if labels is not None and source.is_demo and data == asset(DEMO_VALIDATION):
        raise UsageError("--labels says what is true of the images of --data: give them, too")
    if calibration is None:
        raise UsageError(
            f"calibration takes other images than accuracy is measured on, and {data} has no train/ beside a val/: "
            f"give training images with --calibration DIR|ZIP"
        )
    spec, classes = source.spec, source.spec.classes
    held_out = stack.enter_context(open_labelled(data, Wanted(source.head, source.van.num_classes, classes, labels)))
    training = stack.enter_context(open_images(calibration, classes=classes, labelled=False))
    require_source_size(held_out, spec)
    warnings = (*held_out.warnings, *training.warnings)
    if classes is not None:
        return Data(held_out, training, replace(spec, classes=held_out.classes), warnings)
    names = ", ".join((held_out.classes or ())[:3])
    order = "the folders' names" if labels is None and held_out.targets is None else "the file of labels"
    warning = (
        f"the checkpoint names no classes: its logits were taken to be in the order of {order} ({names}, ...); give "
        f"--classes FILE if they are not"
    )
    return Data(held_out, training, replace(spec, classes=held_out.classes), (*warnings, warning))
