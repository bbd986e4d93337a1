"""What the checkpoint tests share: a small VAN, ways to save it, and the check that a refusal is one clear line."""

import argparse
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from edge_van.checkpoint.layouts import KEY_MAPS
from edge_van.checkpoint.load import LoadedCheckpoint, load_checkpoint
from edge_van.errors import CheckpointError, EdgeVanError
from edge_van.input_spec import InputSpec
from edge_van.model.van import VAN
from edge_van.model.variants import Variant

State = dict[str, Tensor]
SMALL = Variant("small", (8, 16, 24, 32), (1, 2, 1, 1), 0.0, 0.0, None)
SPEC = InputSpec(size=(64, 96), crop=0.8, mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6), classes=tuple("abcde"))
IMAGENET = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}
MAPS = {key_map.name: key_map for key_map in KEY_MAPS}


def lively(van: VAN) -> VAN:
    """``van`` with norms and layer scales that are not at their initial values, as after training."""
    generator = torch.Generator().manual_seed(3)
    for name, tensor in van.state_dict().items():
        if name.endswith("running_var"):
            tensor.uniform_(0.5, 2.0, generator=generator)
        elif name.endswith("num_batches_tracked"):
            tensor.fill_(7)
        elif tensor.ndim == 1:
            tensor.normal_(0.5, 0.3, generator=generator)
    return van.eval()


def renamed(state: State, layout: str, prefix: str = "") -> State:
    return {prefix + str(MAPS[layout].from_official(name)): tensor for name, tensor in state.items()}


def assert_same(loaded: LoadedCheckpoint, state: State) -> None:
    found = loaded.van.state_dict()
    assert list(found) == list(state)
    for name, tensor in state.items():
        assert found[name].dtype == (torch.int64 if name.endswith("tracked") else torch.float32)
        assert torch.equal(found[name], tensor.to(found[name].dtype)), name
    assert not loaded.van.training


def saved(path: Path, content: Any, **kwargs: Any) -> Path:
    torch.save(content, path, **kwargs)
    return path


def refused(source: str | Path, error: type[EdgeVanError] = CheckpointError, **kwargs: Any) -> str:
    """The message a source is refused with: one line, not endless, with no torch advice to go unsafe."""
    with pytest.raises(error) as caught:
        load_checkpoint(source, **kwargs)
    message = str(caught.value)
    assert type(caught.value) is error
    assert message.isprintable()
    assert len(message) < 700
    assert "weights_only" not in message
    assert "documentation" not in message
    return message


def small_van() -> VAN:
    torch.manual_seed(0)
    return lively(VAN(SMALL, 5))


def official_file(state: State) -> dict[str, Any]:
    """The shape of the official .pth.tar: timm's training loop wrote it."""
    weight = nn.Parameter(torch.ones(3))
    optimizer = torch.optim.AdamW([weight])
    weight.sum().backward()
    optimizer.step()
    return {
        "epoch": 309,
        "arch": "van_tiny",
        "state_dict": state,
        "optimizer": optimizer.state_dict(),
        "args": argparse.Namespace(model="van_tiny", lr=1e-3, opt_betas=None, aa="rand-m9-mstd0.5-inc1"),
        "version": 2,
        "metric": 75.4,
    }
