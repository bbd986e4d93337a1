"""Grad-CAM: where in an image a network found what speaks for a class, for FP32 and INT8 alike.

In: a bundle, a stage's map (N, C, H, W) as an engine computed it, class indices (N,). Out: heat maps (N, H, W), 0 to 1;
and how alike two of them are.

Selvaraju et al., "Grad-CAM: Visual Explanations from Deep Networks via Gradient-based Localization", ICCV 2017,
equations 1 and 2. The map A is a stage's output behind its LayerNorm. Behind stage 4 a VAN has logit_c = W_c mean(A) +
b_c, whose gradient is W_c / (H W), in numpy alone: exact for FP32; an INT8 head quantises mean(A) first, and the
gradient passes straight through that quantiser (Bengio et al., 2013). Behind an earlier stage it is that of the rest of
the float32 network (which needs torch), at the map the engine returned: for INT8 that is the straight-through estimator
too, with the stages behind the map computed in float, and with GELU where the INT8 network was made with hard-swish.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from edge_van.bundle.bundle import Bundle
from edge_van.bundle.layout import FP32_ONNX
from edge_van.errors import UsageError, VerificationError
from edge_van.prediction.scores import is_binary
from edge_van.runtimes.onnx_file import head_weights
from edge_van.runtimes.stage_map import STAGES, check_stage, map_size

if TYPE_CHECKING:
    from edge_van.model.fold import FoldedVAN

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
    """Heat maps of one bundle at one stage. Holds what the gradient needs, and no engine.

    ``stage`` is the one that was taken, ``gradient_file`` the ONNX file whose weights the gradient is of.
    """

    def __init__(self, bundle: Bundle, *, stage: int | None = None, graph: str = FP32_ONNX) -> None:
        """``stage`` None is ``default_stage``. ``graph`` is the ONNX file whose head stage 4 takes, dequantised: that
        of the model which computes the maps. Files are hashed before they are read.

        Raises ``UsageError`` for no stage of a VAN, ``BundleError`` for a file that is damaged or not there,
        ``MissingRuntimeError`` without ``onnx``, or without torch where the stage is before the last.
        """
        check_stage(stage)
        self.stage = default_stage(bundle.manifest.input_spec.size) if stage is None else stage
        self.gradient_file = graph if self.stage == STAGES[-1] else FP32_ONNX
        self._is_binary = is_binary(bundle)
        self._head: Maps | None = None
        self._rest: FoldedVAN | None = None
        bundle.check(self.gradient_file)
        if self.stage == STAGES[-1]:
            self._head = head_weights(bundle.file(self.gradient_file))
        else:
            self._rest = _read_rest(bundle, self.stage)

    def gradients(self, maps: Array, classes: NDArray[np.integer[Any]]) -> Array:
        """d logit_c / d A, (N, C, H, W), or (N, C, 1, 1) for stage 4.

        Where a single output tells two classes apart, its logit is that of class 1 and its negative that of class 0.
        """
        if self._is_binary:
            signs = np.where(classes > 0, 1.0, -1.0)[:, None, None, None]
            turned: Array = signs * self._of_outputs(maps, np.zeros_like(classes))
            return turned
        return self._of_outputs(maps, classes)

    def _of_outputs(self, maps: Array, classes: NDArray[np.integer[Any]]) -> Array:
        if self._head is not None:
            rows: Array = self._head[classes]  # (N, C)
            return cast(Array, rows[:, :, None, None] / (maps.shape[2] * maps.shape[3]))
        return _gradients_of_rest(cast("FoldedVAN", self._rest), self.stage, maps, classes)

    def heat_maps(self, maps: Array, classes: NDArray[np.integer[Any]]) -> Maps:
        """(N, H, W) in 0..1 for the maps (N, C, H, W) that a session with ``stage_map`` returned, and a class each.

        ``VerificationError`` for maps that are not finite.
        """
        if maps.ndim != 4 or len(maps) != len(classes):
            raise UsageError(f"Grad-CAM takes maps (N, C, H, W) and N classes, got {maps.shape} and {len(classes)}")
        if not np.isfinite(maps).all():
            raise VerificationError(
                f"the map of stage {self.stage} holds values that are not finite: run edge-van doctor BUNDLE, and make "
                f"the bundle again"
            )
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
    from edge_van.runtimes.torch_network import read_folded

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
