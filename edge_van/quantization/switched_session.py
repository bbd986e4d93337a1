"""A switched graph, opened: logits of images for any setting of its switches, and what its tensors hold in float.

In: ModelProtos of a scheme and of the FP32 network, uint8 images (N, H, W, C). Out: logits (N, classes), ranges.
OpenVINO computes both in float32, as they are written: five times as fast as ONNX Runtime with its rewrites off.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edge_van.input_spec import InputSpec
from edge_van.quantization.switched import SWITCHES, Switched, switched
from edge_van.runtimes import open_model
from edge_van.runtimes.base import Session
from edge_van.runtimes.normalized import normalized

if TYPE_CHECKING:
    from typing_extensions import Self

BATCH, OUTPUT = 32, "logits"
Seen = tuple[float, float, float]
"""The lowest and the highest value of a tensor, and the share outside its grid, 0 to 1."""


class SwitchedGraph:
    """A context manager that closes its sessions."""

    def __init__(self, quantized: Any, float_network: Any, spec: InputSpec, folder: Path) -> None:
        """``folder`` is a temporary one, of the caller; ``spec`` says how images are normalised."""
        import onnx

        made = switched(quantized, float_network)
        self.places, self._tensors = made.places, made.tensors
        self._spec = replace(spec, source_size=None)
        self._stack = ExitStack()
        self._sessions: dict[str, Session] = {}
        self._watched = list(dict.fromkeys(name for tensors in made.tensors for name in tensors))
        with self._stack:
            for name, model in (("float", float_network), ("watched", _watched(made)), ("switched", made.model)):
                path = folder / f"{name}.onnx"
                # one image at a time where what is seen of the last batch must not be seen twice
                onnx.save(_of_batch(model, 1 if name == "watched" else BATCH), path)
                self._sessions[name] = open_model("openvino", path, exact=True)
                self._stack.callback(self._sessions[name].close)
            self._stack = self._stack.pop_all()

    def none(self) -> NDArray[np.bool_]:
        """(places,) switches, all off."""
        return np.zeros(len(self.places), np.bool_)

    def logits(self, pixels: NDArray[np.uint8], switches: NDArray[np.bool_]) -> NDArray[np.float32]:
        """(N, classes) with those places quantised whose switch is on."""
        return _joined(self._run("switched", pixels, {SWITCHES: switches}))

    def float_logits(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """(N, classes) of the FP32 graph."""
        return _joined(self._run("float", pixels, {}))

    def ranges(self, pixels: NDArray[np.uint8]) -> list[tuple[Seen, ...]]:
        """Of each place, for each of its ``grids``, what the tensor holds while nothing is quantised."""
        if not self._watched:
            return [() for _ in self.places]
        rows = [
            np.stack([run[f"seen_{i}"] for i in range(len(self._watched))])
            for run in self._run("watched", pixels, {SWITCHES: self.none()})
        ]
        low, high, share = np.stack(rows).transpose(2, 1, 0)  # (3, tensors, images)
        seen = {
            name: (float(low[i].min()), float(high[i].max()), float(share[i].mean()))
            for i, name in enumerate(self._watched)
        }
        return [tuple(seen[name] for name in tensors) for tensors in self._tensors]

    def _run(self, name: str, pixels: NDArray[np.uint8], feed: dict[str, Any]) -> Iterator[dict[str, NDArray[Any]]]:
        session = self._sessions[name]
        images = next(info for info in session.inputs if info.name != SWITCHES)
        batch = images.shape[0] or 1
        for start in range(0, len(pixels), batch):
            part = pixels[start : start + batch]
            padded = np.concatenate([part, np.repeat(part[-1:], batch - len(part), 0)])
            taken = padded if images.dtype == np.uint8 else normalized(padded, self._spec).astype(images.dtype)
            run = session.run({images.name: np.ascontiguousarray(taken), **feed})
            logits = run.pop(session.outputs[0].name)  # an engine may call it by another name of the same tensor
            yield run | {OUTPUT: logits[: len(part)]}

    def close(self) -> None:
        self._stack.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _joined(runs: Iterator[dict[str, NDArray[Any]]]) -> NDArray[np.float32]:
    return np.concatenate([run[OUTPUT] for run in runs]).astype(np.float32, copy=False)


def _of_batch(model: Any, batch: int) -> Any:
    """``model`` for that many images at once: an engine makes better kernels for shapes that it knows."""
    from onnx import ModelProto

    fixed = ModelProto()
    fixed.CopyFrom(model)
    del fixed.graph.value_info[:]
    fixed.graph.input[0].type.tensor_type.shape.dim[0].dim_value = batch
    fixed.graph.output[0].type.tensor_type.shape.dim[0].dim_value = batch
    return fixed


def _watched(made: Switched) -> Any:
    """The switched graph with outputs ``seen_0`` and so on, (3,) each, in the order in which its tensors come."""
    from onnx import ModelProto, TensorProto, helper

    model = ModelProto()
    model.CopyFrom(made.model)
    grids = {
        t: g
        for p, tensors in zip(made.places, made.tensors, strict=True)
        for t, g in zip(tensors, p.grids, strict=True)
    }

    def constant(name: str, values: list[float] | list[int], kind: int, shape: list[int]) -> str:
        model.graph.initializer.append(helper.make_tensor(name, kind, shape, values))
        return name

    everything = constant("seen.shape", [-1], TensorProto.INT64, [1])
    for i, (tensor, (low, high)) in enumerate(grids.items()):
        half_a_step = (high - low) / 510  # what rounds to the last step is not clipped
        ends = [
            constant(f"seen_{i}.{end}", [value], TensorProto.FLOAT, [])
            for end, value in (("low", low - half_a_step), ("high", high + half_a_step))
        ]
        flat, out = f"seen_{i}.flat", f"seen_{i}"
        steps = [
            ("Cast", [tensor], f"{flat}.cast", {"to": TensorProto.FLOAT}),
            ("Reshape", [f"{flat}.cast", everything], flat, {}),
            ("ReduceMin", [flat], f"{out}.min", {"keepdims": 1}),
            ("ReduceMax", [flat], f"{out}.max", {"keepdims": 1}),
            ("Less", [flat, ends[0]], f"{out}.under", {}),
            ("Greater", [flat, ends[1]], f"{out}.over", {}),
            ("Or", [f"{out}.under", f"{out}.over"], f"{out}.either", {}),
            ("Cast", [f"{out}.either"], f"{out}.counted", {"to": TensorProto.FLOAT}),
            ("ReduceMean", [f"{out}.counted"], f"{out}.share", {"keepdims": 1}),
            ("Concat", [f"{out}.min", f"{out}.max", f"{out}.share"], out, {"axis": 0}),
        ]
        model.graph.node.extend(
            helper.make_node(kind, inputs, [result], f"node_{result}", **attributes)
            for kind, inputs, result, attributes in steps
        )
        model.graph.output.append(helper.make_tensor_value_info(out, TensorProto.FLOAT, [3]))
    return model
