"""What the benchmark scripts share: the arguments, the files made once, the result file with its machine.

In: command-line arguments. Out: a JSON under ``benchmarks/results/`` named by the script and the CPU.
"""

from __future__ import annotations

import argparse
import re
import shlex
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import torch

from edge_van.assets import DEMO_CHECKPOINT, asset
from edge_van.checkpoint.load import LoadedCheckpoint, load_checkpoint
from edge_van.images.sets import open_images
from edge_van.input_spec import InputSpec
from edge_van.machine import describe_machine
from edge_van.model.van import VAN
from edge_van.quantization.calibration import CalibrationImages, load_calibration
from edge_van.runtimes.openvino import load_openvino

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results"


def arguments(description: str, *, train: bool = True, test: bool = True, **defaults: Any) -> argparse.ArgumentParser:
    """--train and --test (image archives) unless set False, --size (pixels), --samples (to calibrate on)."""
    parser = argparse.ArgumentParser(description=description, allow_abbrev=False)
    if train:
        parser.add_argument("--train", type=Path, required=True, help="training images: folder or zip")
    if test:
        parser.add_argument("--test", type=Path, required=True, help="test images: folder or zip")
    parser.add_argument("--size", type=int, default=defaults.get("size", 64))
    parser.add_argument("--samples", type=int, default=defaults.get("samples", 300))
    parser.add_argument("--results", type=results_folder, default=RESULTS)
    return parser


def demo(size: int) -> tuple[LoadedCheckpoint, InputSpec]:
    """The embedded demo and its InputSpec at ``size`` pixels."""
    loaded = load_checkpoint(asset(DEMO_CHECKPOINT))
    return loaded, replace(loaded.spec, size=(size, size))


def checkpoint_or_demo(args: argparse.Namespace) -> tuple[LoadedCheckpoint, InputSpec, str]:
    """The network of ``args.checkpoint``, or the demo, with its InputSpec at ``args.size`` and a name for the result;
    the demo's is ""."""
    if args.checkpoint is None:
        return *demo(args.size), ""
    loaded = load_checkpoint(args.checkpoint)
    return loaded, replace(loaded.spec, size=(args.size, args.size)), args.checkpoint.name.partition(".")[0]


def network(args: argparse.Namespace, size: int) -> tuple[LoadedCheckpoint, InputSpec]:
    """At ``size`` pixels the network of ``args.checkpoint`` or the demo; with ``args.variant`` one of random weights
    (seed 0), which has a VAN's times and no accuracy."""
    path = asset(DEMO_CHECKPOINT) if args.checkpoint is None else args.checkpoint
    loaded = load_checkpoint(path)
    if args.variant is not None:
        torch.manual_seed(0)
        loaded = replace(loaded, van=VAN(args.variant, loaded.van.num_classes).eval())
    return loaded, replace(loaded.spec, size=(size, size))


def calibration(train: Path, spec: InputSpec, samples: int, batch: int = 25, seed: int = 0) -> CalibrationImages:
    """The images ``edge-van quantize`` would draw with ``seed``."""
    with open_images(train, classes=spec.classes) as images:
        return load_calibration(images, spec, samples=samples, seed=seed, batch=batch).images


def nncf_defaults(loaded: LoadedCheckpoint, spec: InputSpec, images: CalibrationImages, folder: Path) -> Path:
    """The IR a user gets from ``nncf.quantize`` with its defaults on the unfolded network: float NCHW in."""
    ov = load_openvino()  # before nncf, which would import it as it comes
    import nncf

    model = ov.convert_model(loaded.van, example_input=torch.zeros(1, 3, *spec.size))
    model.reshape([1, 3, *spec.size])
    batches = [images.normalized(pixels[None]).numpy() for pixels in images.pixels]
    quantized = nncf.quantize(model, nncf.Dataset(batches), subset_size=len(batches))
    path = folder / "nncf_defaults.xml"
    ov.save_model(quantized, path, compress_to_fp16=False)  # as ours
    return path


def script_names(path: Path) -> tuple[str, str]:
    """(name of the result, path in the checkout) of a script here; one called ``run.py`` has its folder's name."""
    inside = path.resolve().relative_to(HERE)
    return (inside.parent.name if inside.stem == "run" else inside.stem), f"{HERE.name}/{inside.as_posix()}"


def told(words: Sequence[str]) -> list[str]:
    """What of a command line says something about the number: of paths the names, and not where the result went."""
    left, skip = [], False
    for word in words:
        name, equals, value = word.partition("=") if word.startswith("--") else ("", "", word)
        if skip or name == "--results":
            skip = word == "--results"
        else:
            left.append(f"{name}{equals}{Path(value).name if '/' in value else value}")
    return left


def results_folder(text: str) -> Path:
    """For argparse: made at once, so that an hour of measuring is not lost to a folder that cannot be."""
    folder = Path(text)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise argparse.ArgumentTypeError(f"{text} cannot be made: {error.strerror}") from error
    return folder


def write_result(args: argparse.Namespace, content: dict[str, Any], label: str = "") -> Path:
    """Write ``content`` with the machine and the command; the file's name holds the CPU's, and a label where a script
    has several results on one.

    What is no model's, so has no ``--size``, has none in its name.
    """
    machine = describe_machine()
    name, script = script_names(Path(sys.argv[0]))
    cpu = re.sub(r"[^a-z0-9]+", "-", machine.cpu.lower()).strip("-")
    command = f"python {script} {shlex.join(told(sys.argv[1:]))}".rstrip()
    settings = {"size_px": args.size, "calibration_images": args.samples} if hasattr(args, "size") else {}
    size = f"{args.size}px-" if settings else ""
    path: Path = args.results / f"{name}-{size}{label and label + '-'}{cpu}.json"
    document = {"command": command, "machine": machine, **settings, **content}
    path.write_bytes(msgspec.json.format(msgspec.json.encode(document)) + b"\n")
    print(f"written: {path}")
    return path
