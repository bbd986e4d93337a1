"""Grad-CAM: where in an image a network found what speaks for a class, for FP32 and INT8 alike.

In: a bundle, a stage's map (N, C, H, W) as an engine computed it, class indices (N,). Out: heat maps (N, H, W), 0 to 1;
and how alike those of FP32 and INT8 are.

Selvaraju et al., "Grad-CAM: Visual Explanations from Deep Networks via Gradient-based Localization", ICCV 2017,
equations 1 and 2. The map A is a stage's output behind its LayerNorm. Behind stage 4 a VAN has logit_c = W_c mean(A) +
b_c, whose gradient is W_c / (H W): exact for every engine that shows its map, in numpy alone. Behind an earlier stage
it is that of the rest of the float32 network (which needs torch), at the map the engine returned: for INT8 that is the
straight-through estimator (Bengio et al., 2013), with the stages behind the map computed in float.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from edge_van.bundle import Bundle
from edge_van.data import BrokenImage, ImageSet, stream
from edge_van.errors import DataError, UsageError
from edge_van.layout import FP32_IR, FP32_ONNX, INT8_IR, OPENVINO_ONNX
from edge_van.progress import Advance
from edge_van.runtimes import Session, open_model
from edge_van.runtimes.normalized import NormalizedSession
from edge_van.runtimes.onnx_file import head_weights
from edge_van.runtimes.stage_map import STAGE_MAP, STAGES, check_stage, map_size

if TYPE_CHECKING:
    from edge_van.fold import FoldedVAN

Array = NDArray[Any]
Maps = NDArray[np.float64]

MIN_SIDE = 7
"""Positions along a side under which a map shows little: 7 is what the last stage has at 224 px. At the 64 px of the
demo stage 4 has 2 x 2, which tells the image's quarters apart, and of stage 3's 4 x 4 maps nearly half are all zero."""
CONSTANT = 1e-12
"""A heat map whose values spread by no more than this has no shape that another could be like."""
_BATCH = 25


def default_stage(input_size: tuple[int, int]) -> int:
    """The last stage whose map has at least 7 x 7 positions, stage 1 where none has: 4 for 224 px, 2 for 64 px."""
    large = [s for s in STAGES if min(map_size(input_size, s)) >= MIN_SIDE]
    return large[-1] if large else 1


def grad_cam(maps: Array, gradients: Array) -> Maps:
    """(N, H, W): ReLU(sum_k alpha_k A_k), each scaled to 0..1 by its own maximum; one that is all zero stays so.

    ``maps`` A are (N, C, H, W). ``gradients`` of the class's logit by A are of that shape, or (N, C, 1, 1) where they
    are the same at every position; alpha_k is their mean over the positions.
    """
    alpha = gradients.astype(np.float64).mean((2, 3))
    heat = np.maximum(np.einsum("nk,nkhw->nhw", alpha, maps.astype(np.float64)), 0.0)
    highest = heat.max((1, 2), keepdims=True)
    return cast(Maps, np.divide(heat, highest, out=np.zeros_like(heat), where=highest > 0.0))


def similarity(first: Array, second: Array) -> float | None:
    """Pearson's correlation of two heat maps (H, W), -1 to 1; None where one is constant, which has none."""
    a, b = (m.astype(np.float64) - m.mean(dtype=np.float64) for m in (first, second))
    if min(np.ptp(first), np.ptp(second)) <= CONSTANT:
        return None
    return float(np.clip((a * b).sum() / np.sqrt((a * a).sum() * (b * b).sum()), -1.0, 1.0))


class GradCAM:
    """Heat maps of one bundle at one stage. Holds what the gradient needs, and no engine."""

    def __init__(self, bundle: Bundle, *, stage: int | None = None, graph: str = FP32_ONNX) -> None:
        """``stage`` None is ``default_stage``. ``graph`` is the ONNX file whose head stage 4 takes, dequantised: that
        of the model which computes the maps. Files are hashed before they are read.

        Raises ``UsageError`` for no stage of a VAN, ``BundleError`` for a file that is damaged or not there,
        ``MissingRuntimeError`` without ``onnx``, or without torch where the stage is before the last.
        """
        check_stage(stage)
        self.stage = default_stage(bundle.manifest.input_spec.size) if stage is None else stage
        self._head: Maps | None = None
        self._rest: FoldedVAN | None = None
        file = graph if self.stage == STAGES[-1] else FP32_ONNX
        bundle.check(file)
        if self.stage == STAGES[-1]:
            self._head = head_weights(bundle.file(file))
        else:
            self._rest = _read_rest(bundle, self.stage)

    def gradients(self, maps: Array, classes: NDArray[np.integer[Any]]) -> Array:
        """d logit_c / d A, (N, C, H, W), or (N, C, 1, 1) for stage 4."""
        if self._head is not None:
            rows: Array = self._head[classes]  # (N, C)
            return cast(Array, rows[:, :, None, None] / (maps.shape[2] * maps.shape[3]))
        return _gradients_of_rest(cast("FoldedVAN", self._rest), self.stage, maps, classes)

    def heat_maps(self, maps: Array, classes: NDArray[np.integer[Any]]) -> Maps:
        """(N, H, W) in 0..1 for the maps (N, C, H, W) that a session with ``stage_map`` returned, and a class each."""
        if maps.ndim != 4 or len(maps) != len(classes):
            raise UsageError(f"Grad-CAM takes maps (N, C, H, W) and N classes, got {maps.shape} and {len(classes)}")
        return grad_cam(maps, self.gradients(maps, classes))


def _read_rest(bundle: Bundle, stage: int) -> FoldedVAN:
    try:
        import torch  # noqa: F401  first, so that its absence is said in terms of the stage
    except ImportError as error:
        from edge_van.errors import MissingRuntimeError

        raise MissingRuntimeError(
            f"Grad-CAM at stage {stage} goes back through the rest of the network, which needs torch: "
            f"pip install 'edge-van[quantize]', or take stage 4, which needs none"
        ) from error
    from edge_van.folded_file import read_folded

    return read_folded(bundle.file(FP32_ONNX))


def _gradients_of_rest(model: FoldedVAN, stage: int, maps: Array, classes: NDArray[np.integer[Any]]) -> Array:
    """By autograd; the logits of different images do not touch each other, so that their sum has all gradients."""
    import torch

    from edge_van.runtimes.torch import logits_from

    parts = []
    with torch.enable_grad():
        for start in range(0, len(maps), _BATCH):
            part = np.ascontiguousarray(maps[start : start + _BATCH], np.float32)
            inner = torch.from_numpy(part.copy()).requires_grad_()
            logits = logits_from(model, inner, stage)
            chosen = torch.from_numpy(classes[start : start + _BATCH].astype(np.int64))
            [gradient] = torch.autograd.grad(logits.gather(1, chosen[:, None]).sum(), inner)
            parts.append(gradient.numpy())
    return np.concatenate(parts) if parts else np.zeros(maps.shape, np.float32)


@dataclass(frozen=True)
class CAMSimilarity:
    """How alike the heat maps of FP32 and INT8 are, for the class that FP32 predicts.

    ``correlations`` are Pearson's, one an image, in the images' order; an image where one of the two maps is constant
    (all zero, most often: nothing at that stage speaks for the class) has none and is counted in ``constant_maps``.
    The figures are of ``correlations``, None where there are none.
    """

    stage: int
    images: int
    median: float | None
    p5: float | None
    lowest: float | None
    mean: float | None
    constant_maps: int
    correlations: tuple[float, ...]


def compare_grad_cams(
    bundle: Bundle,
    images: ImageSet,
    *,
    limit: int = 100,
    stage: int | None = None,
    scheme: str | None = None,
    threads: int | None = None,
    progress: Advance | None = None,
    on_broken: Callable[[BrokenImage], None] | None = None,
) -> CAMSimilarity:
    """Grad-CAM by FP32 and by INT8 on up to ``limit`` images, spread evenly over all; labels are not needed.

    OpenVINO runs both, or with ``scheme`` ONNX Runtime the float32 graph and that of a TensorRT scheme, exactly. Broken
    images are left out. Raises ``DataError`` where none can be read, ``UsageError`` for an unknown scheme or a limit
    under 1, and as ``GradCAM`` does.
    """
    if limit < 1:
        raise UsageError(f"Grad-CAM is compared on at least 1 image, got a limit of {limit}")
    spec = bundle.manifest.input_spec
    files, graph = _pair(bundle, scheme)
    float_cam = GradCAM(bundle, stage=stage)
    int8_cam = GradCAM(bundle, stage=float_cam.stage, graph=graph) if float_cam.stage == STAGES[-1] else float_cam
    bundle.check(*files, *(f"{f[:-4]}.bin" for f in files if f.endswith(".xml")))
    chosen = np.unique(np.linspace(0, len(images) - 1, min(limit, len(images))).round().astype(int))
    correlations: list[float | None] = []
    with ExitStack() as stack:
        sessions: list[Session] = []
        for file in files:
            runtime = "openvino" if file.endswith(".xml") else "onnxruntime"
            session = open_model(runtime, bundle.file(file), threads=threads, stage_map=float_cam.stage)
            if runtime == "onnxruntime":
                spec = replace(spec, source_size=None)
                session = NormalizedSession(session, spec)
            sessions.append(stack.enter_context(session))
        for batch in stream(images, spec, batch_size=_BATCH, indices=chosen.tolist(), on_broken=on_broken):
            (logits, float_maps), (_, int8_maps) = (_run_each(s, batch.images) for s in sessions)
            classes = logits.argmax(1)
            pairs = zip(float_cam.heat_maps(float_maps, classes), int8_cam.heat_maps(int8_maps, classes), strict=True)
            correlations += [similarity(a, b) for a, b in pairs]
            if progress is not None:
                progress(len(batch.images))
    if not correlations:
        raise DataError(f"{images.source}: none of {len(chosen)} images could be read")
    return _summary(float_cam.stage, correlations)


def _pair(bundle: Bundle, scheme: str | None) -> tuple[tuple[str, str], str]:
    """(FP32's file, INT8's file), and the ONNX file that INT8's head is in."""
    if scheme is None:
        return (FP32_IR, INT8_IR), OPENVINO_ONNX
    there = {s.name: s.file for s in bundle.manifest.schemes}
    if scheme not in there:
        raise UsageError(f"{bundle.path} has no scheme {scheme!r}; it has {', '.join(there) or 'none'}")
    return (FP32_ONNX, there[scheme]), there[scheme]


def _run_each(session: Session, pixels: NDArray[np.uint8]) -> tuple[Array, Array]:
    """Logits (N, classes) and maps (N, C, H, W), one image at a time: the IR is written for batch 1."""
    [name] = [info.name for info in session.inputs]
    results = [session.run({name: image[None]}) for image in pixels]
    logits = next(info.name for info in session.outputs if info.name != STAGE_MAP)
    return np.concatenate([r[logits] for r in results]), np.concatenate([r[STAGE_MAP] for r in results])


def _summary(stage: int, correlations: list[float | None]) -> CAMSimilarity:
    known = [c for c in correlations if c is not None]
    return CAMSimilarity(
        stage=stage,
        images=len(correlations),
        median=float(np.median(known)) if known else None,
        p5=float(np.percentile(known, 5)) if known else None,
        lowest=min(known, default=None),
        mean=float(np.mean(known)) if known else None,
        constant_maps=len(correlations) - len(known),
        correlations=tuple(known),
    )
