"""``pickle_guard``: a pickle that is small and endless is refused, and nothing that a checkpoint holds is."""

from __future__ import annotations

import argparse
import collections
import contextlib
import io
import pathlib
import pickle
import zipfile
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from edge_van.checkpoint.file import read_weights, sniff
from edge_van.checkpoint.pickle_guard import MAX_INSTRUCTIONS, MAX_VALUES, check_pickle
from edge_van.errors import CheckpointError

# t = (); sixty times t = (t, t), through the memo; then {t: 1}
HASH_BOMB = b"\x80\x02)q\x00" + b"".join(b"h\x00h\x00\x86q\x00" for _ in range(60)) + b"}h\x00K\x01s."
DUPLICATED = b"\x80\x02)" + b"2\x86" * 60 + b"."


@pytest.mark.parametrize("bomb", [HASH_BOMB, DUPLICATED])
def test_a_tuple_that_doubles_is_refused(bomb: bytes) -> None:
    with pytest.raises(ValueError, match=f"over {MAX_VALUES} values"):
        check_pickle(io.BytesIO(bomb))


def test_a_pickle_of_endless_instructions_is_refused_early() -> None:
    endless = b"\x80\x02" + b"N0" * (10 * MAX_INSTRUCTIONS) + b"N."  # 40 MB
    stream = io.BytesIO(endless)
    with pytest.raises(ValueError, match=f"over {MAX_INSTRUCTIONS:,} pickle instructions"):
        check_pickle(stream)
    assert stream.tell() < len(endless) / 10


@pytest.mark.parametrize(
    "claim",
    [
        b"\x8d" + (2**40).to_bytes(8, "little"),
        b"\x8e" + (2**40).to_bytes(8, "little"),
        b"X" + (2**31).to_bytes(4, "little"),
    ],
)
def test_a_value_that_claims_more_than_there_is(tmp_path: Path, claim: bytes) -> None:
    path = tmp_path / "v.pth"
    path.write_bytes(b"\x80\x04" + claim + b".")
    with pytest.raises(CheckpointError, match=r"claims \d+ bytes where 1 are left"):
        read_weights(path, sniff(path))


def raw(*parts: bytes) -> bytes:
    return b"\x80\x02" + b"".join(parts) + b"."


DOUBLED_LIST = b"]q\x00" + b"".join(b"]q%c(h%ch%ce" % (i, i - 1, i - 1) for i in range(1, 60))
BYTEARRAY = b"cbuiltins\nbytearray\n"
LARGE = b"\x8a\x05\x00\x00\x00\x00\x01"  # 2**32


@pytest.mark.parametrize(
    "bomb",
    [
        raw(DOUBLED_LIST, b")R"),  # a message would show what is called
        raw(DOUBLED_LIST),
        raw(BYTEARRAY, LARGE, b"\x85R"),
        raw(b"c__builtin__\nbytearray\n", LARGE, b"\x85R"),
        raw(b"c_codecs\nencode\n", b"X\x01\x00\x00\x00aX\x03\x00\x00\x00hex\x86R"),
        raw(b"ctorch\nFloatTensor\n", LARGE, b"\x85R"),
        raw(b"ctorch.storage\nUntypedStorage\n", LARGE, b"\x85\x81"),
        raw(b"".join(b"cm\nn%d\n0" % i for i in range(5000)), b"N"),
    ],
    ids=["called list", "list", "bytearray", "old bytearray", "hex", "tensor", "storage", "names"],
)
def test_what_would_fill_the_memory_is_refused(bomb: bytes) -> None:
    with pytest.raises(ValueError, match=r"it calls|over|classes"):
        check_pickle(io.BytesIO(bomb))


def test_an_entry_by_the_same_name_in_capitals_is_refused(tmp_path: Path) -> None:
    """torch finds its pickle in any case, and the first of two."""
    path = tmp_path / "v.pth"
    torch.save({"a": torch.zeros(2)}, path)
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    folder = next(iter(entries)).split("/")[0]
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{folder}/DATA.PKL", HASH_BOMB)
        for name, content in entries.items():
            archive.writestr(name, content)
    with pytest.raises(CheckpointError, match="two entries of one name"):
        read_weights(path, sniff(path))


def test_what_a_pickle_would_build_is_listed(tmp_path: Path) -> None:
    things = [pathlib.PurePosixPath("a"), collections.deque([1]), collections.defaultdict(list, a=1), np.float64(1)]
    for protocol in range(6):
        kinds = check_pickle(io.BytesIO(pickle.dumps(things, protocol))).kinds
        assert kinds["pathlib.PurePosixPath"] == "object"
        assert kinds["collections.deque"] == "list"
        assert kinds["collections.defaultdict"] == "dict"
        assert kinds["numpy.dtype"] == "object"


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
    with pytest.raises(
        CheckpointError, match=r"more than is read \(one of its tuples holds over .* save the weights alone"
    ) as raised:
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
    content = read_weights(path, sniff(path)).content
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
