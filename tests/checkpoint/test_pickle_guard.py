"""``pickle_guard``: a pickle that is small and endless is refused, and nothing that a checkpoint holds is."""

from __future__ import annotations

import argparse
import contextlib
import io
import pickle
import zipfile
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from edge_van.checkpoint.file import read_weights, sniff
from edge_van.checkpoint.pickle_guard import MAX_VALUES, check_pickle
from edge_van.errors import CheckpointError

# t = (); sixty times t = (t, t), through the memo; then {t: 1}
HASH_BOMB = b"\x80\x02)q\x00" + b"".join(b"h\x00h\x00\x86q\x00" for _ in range(60)) + b"}h\x00K\x01s."
DUPLICATED = b"\x80\x02)" + b"2\x86" * 60 + b"."


@pytest.mark.parametrize("bomb", [HASH_BOMB, DUPLICATED])
def test_a_tuple_that_doubles_is_refused(bomb: bytes) -> None:
    with pytest.raises(ValueError, match=f"over {MAX_VALUES} values"):
        check_pickle(io.BytesIO(bomb))


@pytest.mark.parametrize("legacy", [False, True])
def test_a_checkpoint_that_would_never_end(tmp_path: Path, legacy: bool) -> None:
    path = tmp_path / "bomb.pth"
    if legacy:
        path.write_bytes(HASH_BOMB)
    else:
        torch.save({"a": torch.zeros(2)}, path)
        with zipfile.ZipFile(path) as archive:
            entries = {name: archive.read(name) for name in archive.namelist()}
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in entries.items():
                archive.writestr(name, HASH_BOMB if name.endswith("data.pkl") else content)
    with pytest.raises(CheckpointError, match=r"one of its tuples holds over .* download it again") as raised:
        read_weights(path, sniff(path))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("legacy", [False, True])
def test_what_training_saves_is_read(tmp_path: Path, legacy: bool) -> None:
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))
    optimizer = torch.optim.AdamW(model.parameters(), betas=(0.9, 0.95))
    model(torch.zeros(2, 3, 8, 8)).sum().backward()
    optimizer.step()
    saved = {
        "state_dict": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "args": argparse.Namespace(lr=1e-3, size=(224, 224), names=["a"] * 5),
        "history": [(i, 0.1) for i in range(2000)],
    }
    path = tmp_path / "c.pth"
    torch.save(saved, path, _use_new_zipfile_serialization=not legacy)
    content, _ = read_weights(path, sniff(path))
    assert torch.equal(content["state_dict"]["0.weight"], model[0].weight)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.binary(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text(max_size=3) | st.tuples(st.integers(), st.text(max_size=2)), inner, max_size=3)
        | st.dictionaries(st.text(max_size=3), inner, max_size=3).map(OrderedDict)
    ),
    max_leaves=30,
)


@given(VALUES, st.integers(0, 5))
def test_every_plain_value_passes_and_the_stream_stands_behind_it(value: object, protocol: int) -> None:
    stream = io.BytesIO(pickle.dumps(value, protocol) + b"rest")
    check_pickle(stream)
    assert stream.read() == b"rest"


@given(st.binary(max_size=60))
def test_no_bytes_bring_it_down(data: bytes) -> None:
    with contextlib.suppress(ValueError):
        check_pickle(io.BytesIO(data))
