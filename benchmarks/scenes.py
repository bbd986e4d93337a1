"""A dense network from nothing to INT8 on synthetic scenes: trained, folded, quantised, run by OpenVINO.

In: a head's kind. Out: a table and a JSON: the metric of both precisions on held-out scenes with its paired interval,
latency of both in turns; a picture of some scenes with both answers. The backbone begins as the demo's; a state is
kept, so that an interrupted training goes on.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import RESULTS, demo, write_result
from numpy.typing import NDArray
from PIL import Image
from scene_tasks import Task, task_of
from torch import Tensor

from edge_van.export.onnx import export_onnx
from edge_van.export.openvino import export_openvino
from edge_van.images.scenes import CLASSES, Scene, scene
from edge_van.input_spec import InputSpec
from edge_van.model.dense.fold import fold_network
from edge_van.model.dense.network import KINDS, DenseVAN
from edge_van.quantization.equalize import equalize
from edge_van.quantization.ptq import calibrate, convert
from edge_van.quantization.scheme import SCHEMES
from edge_van.runtimes import open_model
from edge_van.runtimes.model_file import ModelFile
from edge_van.tasks.base import Tally
from edge_van.timing.latency import RunLength, measure_latency

TRAINING, CALIBRATION = 10_000_000, 20_000_000
"""First seeds of what is trained and calibrated on; held-out scenes have those from 0 on."""
BATCH, WARM_UP, LARGEST_GRADIENT = 16, 50, 10.0


def main() -> None:
    """Train or go on, quantise, measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--head", choices=list(KINDS), default="semantic_fpn")
    parser.add_argument("--size", type=int, default=96, help="pixels of a side")
    parser.add_argument("--steps", type=int, default=600, help=f"of training, of {BATCH} scenes each")
    parser.add_argument("--learning-rate", type=float, default=1e-3, help="highest; less for heads without norms")
    parser.add_argument("--scenes", type=int, default=2000, help="held-out ones")
    parser.add_argument("--samples", type=int, default=64, help="scenes to calibrate on")
    parser.add_argument("--state", type=Path, default=Path("scenes.pth"), help="of the training; gone on with if there")
    parser.add_argument("--picture", type=Path, help="PNG of eight scenes: image, truth, FP32, INT8")
    parser.add_argument("--results", type=Path, default=RESULTS)
    args = parser.parse_args()
    torch.manual_seed(0)
    began = time.perf_counter()
    task = task_of(args.head, args.size)
    network, spec = train(args, task)
    trained_s = time.perf_counter() - began
    with tempfile.TemporaryDirectory() as name:
        files, folding = export(network, spec, args.samples, task, Path(name))
        tally, shown = measure(files, args, task)
        figures = tally.figures(CLASSES)
        models = [ModelFile(k, "openvino", path) for k, path in files.items()]
        latency = measure_latency(models, baseline="fp32", length=RunLength(300, 10.0))
    if args.picture is not None:
        Image.fromarray(shown).save(args.picture)
    metric, interval = figures.metric, figures.metric.drop_interval
    print(
        f"{args.head}: {metric.name} {metric.fp32_percent:.2f} % in FP32, {metric.int8_percent:.2f} % in INT8, "
        f"drop {metric.drop_points:+.2f} ({interval.low:+.2f} to {interval.high:+.2f}) of {tally.images} scenes"
    )
    content = {
        "head": args.head,
        "variant": "b0",
        "size_px": args.size,
        "steps": args.steps,
        "trained_s": trained_s,
        "fold_max_relative_error": folding,
        "metric": metric,
        "others": figures.others,
        "chance_percent": figures.chance_percent,
        "scenes": tally.images,
        "agreement_percent": tally.agreement_percent,
        "logit_sqnr_db": tally.logit_sqnr_db,
        "latency": {row.name: {"median_ms": row.median_ms, "ratio": row.ratio} for row in latency.rows},
    }
    write_result(args, content, args.head)


def batch(first: int, count: int, size: int, task: Task) -> list[Scene]:
    """The scenes of the seeds from ``first`` on."""
    return [scene(seed, (size, size), **task.drawing) for seed in range(first, first + count)]


def pixels(scenes: Sequence[Scene]) -> NDArray[np.uint8]:
    """(N, H, W, 3)."""
    return np.stack([s.image for s in scenes])


def normalized(images: NDArray[np.uint8], spec: InputSpec) -> Tensor:
    """(N, C, H, W), channels last in memory."""
    mean, std = (torch.tensor(values).view(1, -1, 1, 1) for values in (spec.mean, spec.std))
    floats = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255.0
    return ((floats - mean) / std).contiguous(memory_format=torch.channels_last)


def train(args: argparse.Namespace, task: Task) -> tuple[DenseVAN, InputSpec]:
    """AdamW, one cycle, the task's loss."""
    loaded, spec = demo(args.size)
    spec = replace(spec, classes=None)
    network: DenseVAN = DenseVAN(args.head, "b0", task.outputs).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    network.backbone.load_state_dict({k: v for k, v in loaded.van.state_dict().items() if not k.startswith("head.")})
    optimizer = torch.optim.AdamW(network.parameters(), args.learning_rate, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, args.learning_rate, total_steps=args.steps, pct_start=min(WARM_UP / args.steps, 0.3)
    )
    done = 0
    if args.state.exists():
        kept = torch.load(args.state, weights_only=True)
        done = kept["done"]
        for part, name in ((network, "network"), (optimizer, "optimizer"), (schedule, "schedule")):
            part.load_state_dict(kept[name])
    network.train()
    for step in range(done, args.steps):
        scenes = batch(TRAINING + step * BATCH, BATCH, args.size, task)
        loss = task.loss(network(normalized(pixels(scenes), spec)), scenes)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), LARGEST_GRADIENT)
        optimizer.step()
        schedule.step()
        if (step + 1) % 50 == 0:
            print(f"step {step + 1} of {args.steps}: loss {float(loss):.3f}", flush=True)
            state: dict[str, Any] = {"done": step + 1, "network": network.state_dict()}
            torch.save({**state, "optimizer": optimizer.state_dict(), "schedule": schedule.state_dict()}, args.state)
    return network.eval(), spec


def export(network: DenseVAN, spec: InputSpec, samples: int, task: Task, folder: Path) -> tuple[dict[str, Path], float]:
    """Both IRs, and how far the fold is from the network."""
    folded, check = fold_network(network, spec.size)
    parts = range(CALIBRATION, CALIBRATION + samples, BATCH)
    batches = [normalized(pixels(batch(first, BATCH, spec.size[0], task)), spec) for first in parts]
    equalized = equalize(folded, batches)
    quantized = convert(calibrate(equalized, batches, SCHEMES["openvino"]))
    files = {}
    for name, model in (("fp32", equalized), ("int8", quantized)):
        onnx = export_onnx(model, folder / f"{name}.onnx", batches[0][:4].contiguous())
        files[name] = export_openvino(onnx, spec, folder / name / "model.xml")
    return files, check.max_relative_error


def measure(files: dict[str, Path], args: argparse.Namespace, task: Task) -> tuple[Tally, NDArray[np.uint8]]:
    """Both models on every held-out scene; and the first eight as a picture."""
    tally, shown = task.tally(), np.zeros((1, 1, 3), np.uint8)
    with open_model("openvino", files["fp32"]) as fp32, open_model("openvino", files["int8"]) as int8:

        def outputs(session: Any, images: NDArray[np.uint8]) -> NDArray[np.float32]:
            return np.concatenate([session.run({"images": image[None]})["logits"] for image in images])

        for first in range(0, args.scenes, BATCH):
            scenes = batch(first, min(BATCH, args.scenes - first), args.size, task)
            answers = [outputs(session, pixels(scenes)) for session in (fp32, int8)]
            task.add(tally, answers[0], answers[1], scenes)
            if first == 0:
                shown = task.picture(scenes[:8], [answer[:8] for answer in answers])
    return tally, shown


if __name__ == "__main__":
    main()
