"""``edge-van train``: its flags.

In: arguments. Out: a checkpoint and its curve, a summary or a JSON document on standard output.
"""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import Any

import click

from edge_van.cli.allocator import keep_freed_memory
from edge_van.cli.types import FilePath, print_json
from edge_van.progress import SILENT, Terminal, Work

_PATH = FilePath()


@click.command()
@click.option("--variant", metavar="b0..b6", help="The VAN to train; with --checkpoint, the one that is expected.")
@click.option("--checkpoint", metavar="FILE|imagenet1k", help="Weights to start from; another task gets a new head.")
@click.option(
    "--data", type=_PATH, required=True, help="Labelled images: a folder or zip, or a folder with train/ and val/."
)
@click.option("--validation", type=_PATH, help="Images that top-1 is measured on.  [default: --data's val/]")
@click.option(
    "--recipe",
    type=_PATH,
    metavar="FILE.toml",
    help="Settings as key = value, from --epochs to --seed; a flag overrides one.",
)
@click.option("--epochs", type=int, help="Times every image is seen.  [required without --recipe]")
@click.option("--batch", type=int, help="Images an update, over all processes.  [default: 256]")
@click.option("--size", type=int, help="Side of the input in pixels.  [default: 64]")
@click.option("--first-size", type=int, help="Side at the start; it grows to --size.")
@click.option("--growing", type=float, help="The share of the training in which it grows.  [default: 0.6]")
@click.option("--learning-rate", type=float, help="At its highest.  [default: 0.0015]")
@click.option("--weight-decay", type=float, help="[default: 0.05]")
@click.option("--crop", type=float, help="Smallest share of an image that a random crop keeps.  [default: 0.35]")
@click.option("--mixup", type=float, help="0 is off.  [default: 0.2]")
@click.option("--cutmix", type=float, help="0 is off.  [default: 1]")
@click.option("--label-smoothing", type=float, help="[default: 0.1]")
@click.option("--drop-path", type=float, help="[default: 0]")
@click.option("--warm-up", type=float, help="The share in which the learning rate rises.  [default: 0.04]")
@click.option("--ema", type=float, help="Decay of the averaged weights, which are saved; 0 is off.  [default: 0.9995]")
@click.option("--no-flip", "flip", flag_value=False, default=None, help="For images whose mirror means another thing.")
@click.option("--seed", type=click.IntRange(0, 2**63 - 1))
@click.option("--device", type=click.Choice(("auto", "cpu", "cuda")), default="auto", show_default=True)
@click.option("--strict", is_flag=True, help="A broken image is fatal instead of left out and counted.")
@click.option("--output", type=_PATH, required=True, metavar="NAME.safetensors")
@click.option("--force", is_flag=True, help="Replace a file that is there.")
@click.option("--json", "as_json", is_flag=True, help="The curve as JSON on standard output.")
def train(data: Path, output: Path, device: str, as_json: bool, **flags: Any) -> None:
    """Train a VAN, from scratch or from a checkpoint. The same command goes on where it was stopped."""
    keep_freed_memory()
    from dataclasses import fields

    import edge_van
    from edge_van.errors import MissingRuntimeError

    if device == "cuda":
        import torch

        if not torch.cuda.is_available():
            raise MissingRuntimeError("there is no GPU that torch can use here: leave --device out, or give cpu")
    known = {field.name for field in fields(edge_van.TrainSettings)}
    given = {k: v for k, v in flags.items() if k in known and v is not None}
    settings = edge_van.load_train_settings(flags["recipe"], **given)
    options = edge_van.TrainOptions(
        cpu=device == "cpu", **{k: flags[k] for k in ("variant", "checkpoint", "validation", "force")}
    )
    first = os.environ.get("RANK", "0") == "0"  # of the processes that torchrun starts
    reporter = Terminal() if first else SILENT
    result = edge_van.train(data, output, settings, options=options, work=Work(reporter, flags["strict"]))
    if not first:
        return
    if as_json:
        print_json({"path": str(result.path), "curve": result.curve})
        return
    last = result.curve[-1]
    curve = output.with_suffix(".csv")
    click.echo(f"{result.path}: {last.epoch} epochs, {last.in_words}; its curve: {curve}")
    words = ["edge-van", "quantize", "--checkpoint", str(result.path), "--data"]
    if flags["validation"] is not None:
        words += [str(flags["validation"]), "--calibration", str(data)]
    elif last.top1_percent is not None:
        words.append(str(data))
    else:
        words += ["OTHER_IMAGES", "--calibration", str(data)]
    click.echo(f"Next:   {shlex.join(words)}")
