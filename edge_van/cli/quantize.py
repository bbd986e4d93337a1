"""``edge-van quantize``: its flags; the main job.

In: arguments. Out: a bundle's folder, its summary or its manifest on standard output, the gates' exit codes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from edge_van.bundle.recipe import ACTIVATIONS, METHODS, TARGET_NAMES
from edge_van.cli.allocator import keep_freed_memory
from edge_van.cli.types import (
    LABELS_HELP,
    POINTS,
    Color,
    FilePath,
    Limit,
    PerChannel,
    Sizes,
    Word,
    class_names,
    print_json,
)
from edge_van.errors import UsageError
from edge_van.head import ACTIVATIONS as ACTIVATIONS_OF_HEAD
from edge_van.input_spec import INTERPOLATIONS, ORDERS, RESIZES
from edge_van.progress import Terminal, Work

if TYPE_CHECKING:
    from edge_van.bundle.budget_record import Budget

_SPEC = ("source_size", "crop", "interpolation", "resize", "pad_color", "mean", "std", "channel_order", "source_order")
_PATH = FilePath()


@click.command()
@click.option("--variant", metavar="b0..b6", help="The VAN that is expected; read from the checkpoint if left out.")
@click.option(
    "--checkpoint", type=Word(), metavar="FILE|imagenet1k|demo", help="The weights. Default: the embedded demo."
)
@click.option("--data", type=_PATH, help="Labelled images (folder or zip, one folder a class) to measure accuracy on.")
@click.option("--calibration", type=_PATH, help="Training images that set the ranges; labels are not needed.")
@click.option("--samples", type=int, help="How many calibration images to draw.  [default: the recipe's, 300]")
@click.option("--recipe", type=_PATH, help="A TOML file over the packaged defaults.")
@click.option(
    "--method",
    type=click.Choice(METHODS),
    help="qat: train the quantised network on the calibration images.  [default: the recipe's, ptq]",
)
@click.option(
    "--activation",
    type=click.Choice(ACTIVATIONS),
    help="hardswish: faster, a little less accurate. relu: faster still, with --method qat. auto: hardswish where it "
    "pays and --max-drop allows it.  [default: the recipe's, gelu]",
)
@click.option(
    "--float-layers",
    metavar="auto|LAYER,...",
    help="Layers that OpenVINO's model leaves in float. auto: the kinds that this CPU runs sooner so.  "
    "[default: the recipe's, none]",
)
@click.option("--target", default=",".join(TARGET_NAMES), show_default=True, help="What to write, with commas.")
@click.option(
    "--max-drop",
    type=POINTS,
    help="Points that INT8 may lose: better and better quantisation is tried until its interval is inside; exit code 3 "
    "where none is.  [default: the recipe's, 1.0, as a gate; nothing else is tried but with --activation auto]",
)
@click.option(
    "--max-latency",
    type=float,
    help="Milliseconds that INT8 may take for an image on this machine; exit code 4 where none of what is tried is so "
    "fast.",
)
@click.option("--min-speedup", type=Limit(0, 1000), help="Least FP32 / INT8 latency; under it the exit code is 4.")
@click.option("--input-size", type=Sizes(), help="What the network sees.")
@click.option("--source-size", type=Sizes(), help="Size of every image a camera sends: the resize goes into the graph.")
@click.option("--crop", type=float, help="Share of the resized image's side that the centre crop keeps.")
@click.option("--interpolation", type=click.Choice(INTERPOLATIONS))
@click.option(
    "--resize",
    type=click.Choice(RESIZES),
    help="crop keeps the aspect, squash does not, pad adds bars.  [default: the checkpoint's, or crop]",
)
@click.option("--pad-color", type=Color(), help="Of the bars of --resize pad.  [default: black]")
@click.option("--mean", type=PerChannel(), help="On a 0..1 scale, in the order of --channel-order.")
@click.option("--std", type=PerChannel(), help="On a 0..1 scale, in the order of --channel-order.")
@click.option(
    "--channel-order",
    type=click.Choice(ORDERS),
    help="Of the images the network was trained on; OpenCV reads bgr.  [default: the checkpoint's, or rgb]",
)
@click.option("--source-order", type=click.Choice(ORDERS), help="Of the pixels a device will send.  [default: rgb]")
@click.option(
    "--head",
    "head",
    type=click.Choice(ACTIVATIONS_OF_HEAD),
    help="What the outputs become: softmax, one class an image; sigmoid, labels that an image may have or not, or two "
    "classes of one output; none, one class without probabilities.  [default: the checkpoint's, or softmax]",
)
@click.option("--threshold", type=float, help="Of --head sigmoid: from this probability on.  [default: 0.5]")
@click.option("--labels", type=_PATH, help=LABELS_HELP)
@click.option("--classes", type=_PATH, help="Text file, one class name a line, in the order of the logits.")
@click.option("--seed", type=click.IntRange(0, 2**63 - 1), default=0, show_default=True)
@click.option(
    "--no-ema", "use_ema", flag_value=False, default=True, help="The plain weights where a file has averaged ones too."
)
@click.option("--strict", is_flag=True, help="A broken image is fatal instead of left out and counted.")
@click.option("--output", type=_PATH, help="The bundle's folder.  [default: van_VARIANT_int8]")
@click.option("--force", is_flag=True, help="Replace a bundle that is there.")
@click.option("--json", "as_json", is_flag=True, help="The bundle's manifest as JSON on standard output.")
def quantize(as_json: bool, **flags: Any) -> None:
    """Turn a VAN checkpoint into a measured INT8 bundle."""
    keep_freed_memory()
    from dataclasses import replace

    import edge_van
    from edge_van.evaluation.gates import LATENCY_ADVICE, bundle_gate
    from edge_van.quantization.recipe import load_recipe
    from edge_van.starting_point import QuantizeOptions

    recipe = load_recipe(flags["recipe"])
    changes = {k: flags[k] for k in ("samples", "method", "activation")} | {"max_drop_points": flags["max_drop"]}
    if changes["activation"] not in (None, recipe.activation):
        changes["activation_places"] = ()  # the file's are those of its own activation
    if flags["float_layers"] is not None:
        changes["float_layers"] = tuple(name.strip() for name in flags["float_layers"].split(",") if name.strip())
    recipe = replace(recipe, **{k: v for k, v in changes.items() if v is not None})
    overrides = {k: flags[k] for k in _SPEC}
    overrides |= {"size": flags["input_size"], "classes": class_names(flags["classes"])}
    options = QuantizeOptions(
        targets=targets_of(flags["target"]),
        spec_overrides=overrides,
        budget=_budget(flags, recipe.max_drop_points),
        **{k: flags[k] for k in ("variant", "seed", "use_ema", "force", "head", "threshold", "labels")},
    )
    if flags["min_speedup"] is not None and "openvino" not in options.targets:
        raise UsageError(
            f"--min-speedup is a limit on OpenVINO's latency, and --target leaves it out: {LATENCY_ADVICE}"
        )
    bundle = edge_van.quantize(
        flags["checkpoint"],
        recipe=recipe,
        options=options,
        work=Work(Terminal(), flags["strict"]),
        **{k: flags[k] for k in ("data", "calibration", "output")},
    )
    try:
        if as_json:
            print_json(bundle.manifest)
        else:
            from edge_van.cli.tables import show_bundle

            show_bundle(bundle)
    finally:  # a closed pipe must not hide a gate
        bundle_gate(bundle.manifest, recipe.max_drop_points, flags["min_speedup"])


def targets_of(text: str) -> tuple[str, ...]:
    """Names with commas between them."""
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _budget(flags: dict[str, Any], max_drop_points: float) -> Budget | None:
    """None where no limit was given; of TensorRT's graphs alone a drop is a gate, as a device chooses among them."""
    from edge_van.bundle.budget_record import Budget

    has_openvino = "openvino" in targets_of(flags["target"])
    if flags["max_latency"] is None and (flags["max_drop"] is None or not has_openvino):
        return None
    return Budget(max_drop_points, flags["max_latency"])
