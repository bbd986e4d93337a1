"""torch captures the graph of each structure once a process; a network of a structure that was seen gets a copy of that
graph with its own weights. Capturing takes seconds of each of a hundred tests, and few are about it: those import
``capture`` themselves and get the real one. ``test_a_copied_capture_is_a_capture`` compares both.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator

import pytest
from torch.fx import GraphModule

from edge_van.export import onnx
from edge_van.model.fold import FoldedVAN
from edge_van.quantization import ptq, qat, run

CAPTURE = ptq.capture
_kept: dict[object, GraphModule] = {}


def capture_once(model: FoldedVAN) -> GraphModule:
    """What ``ptq.capture`` gives. Structure is all that a graph depends on but weights: layers with their settings,
    names and shapes, and which of the folded blocks' scales there are."""
    tensors = tuple((name, tensor.shape, tensor.dtype) for name, tensor in model.state_dict().items())
    key = (repr(model), model.input_size, tensors)
    if key not in _kept:
        _kept[key] = CAPTURE(model)
    graph = copy.deepcopy(_kept[key])
    # strict: same names, or an error; assigned, for a capture holds the model's own tensors too
    graph.load_state_dict(model.state_dict(), assign=True)
    return graph


@pytest.fixture(scope="session", autouse=True)
def _captured_once() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for module in (ptq, qat, run, onnx):
            assert module.capture is CAPTURE  # type: ignore[attr-defined]
            patch.setattr(module, "capture", capture_once)
        yield
