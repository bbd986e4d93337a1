"""Files that are damaged, unsafe or something else end in one clear line, and nothing of them is run."""

import argparse
import contextlib
import os
import pathlib
import pickle
import re
import struct
import time
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoint_samples import SPEC, State, assert_same, official_file, refused, saved, small_van
from torch import nn

from edge_van.checkpoint.file import MAX_BYTES, read_weights, sniff
from edge_van.checkpoint.load import load_checkpoint, save_safetensors
from edge_van.checkpoint.stand_ins import Skipped
from edge_van.errors import CheckpointError, UsageError


@pytest.fixture
def state() -> State:
    return dict(small_van().state_dict())


class Bomb:
    """Runs a command when a plain unpickler meets it."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.marker}",)


class EvalBomb(Bomb):
    def __reduce__(self) -> tuple[Any, ...]:
        return eval, (f"open({str(self.marker)!r}, 'w')",)


@pytest.mark.parametrize("bomb", [Bomb, EvalBomb])
@pytest.mark.parametrize("place", ["raw", "raw4", "top", "legacy", "deep", "optimizer", "namespace", "key"])
def test_a_pickle_bomb_is_not_set_off(tmp_path: Path, state: State, place: str, bomb: type[Bomb]):
    marker, path = tmp_path / "marker", tmp_path / "v.pth"
    load = bomb(marker)
    if place.startswith("raw"):
        path.write_bytes(pickle.dumps({"state_dict": load}, protocol=4 if place == "raw4" else 2))
        with path.open("rb") as file:
            pickle.load(file)  # noqa: S301 (it does go off: the test would notice)
        assert marker.exists()
        marker.unlink()
    else:
        content: dict[str, Any] = {
            "top": {"state_dict": state, "bomb": load},
            "legacy": {"state_dict": state, "bomb": load},
            "deep": {"state_dict": {**state, "x": [{"y": (1, {"z": load})}]}},
            "optimizer": {"state_dict": state, "optimizer": {"state": {0: {"step": load}}}},
            "namespace": {"state_dict": state, "args": argparse.Namespace(hook=load)},
            "key": {"state_dict": {**state, ("a", load): torch.zeros(1)}},
        }[place]
        saved(path, content, _use_new_zipfile_serialization=place != "legacy")
    message = refused(path)
    assert "refused" in message
    if place != "raw4":
        assert ("eval" if bomb is EvalBomb else "system") in message
    assert not marker.exists()


@pytest.mark.parametrize(
    ("thing", "name"),
    [(pathlib.PurePosixPath("a"), "pathlib.PurePosixPath"), (nn.ReLU(), "torch.nn.modules.activation.ReLU")],
)
def test_types_beyond_the_allow_list_are_passed_over_or_named(tmp_path: Path, state: State, thing: Any, name: str):
    kept = saved(tmp_path / "v.pth", {"state_dict": state, "args": argparse.Namespace(x=thing)})
    content = read_weights(kept, sniff(kept)).content
    assert isinstance(content["args"].x, Skipped)
    assert_same(load_checkpoint(kept), state)
    message = refused(saved(tmp_path / "w.pth", {"state_dict": {**state, "norm4.weight": thing}}))
    assert f"norm4.weight of the state dict is of type {name}" in message
    message = refused(saved(tmp_path / "x.pth", thing))
    assert f"holds {name}, an object of a program and not its weights" in message
    assert "torch.save(model.state_dict()" in message


def test_what_is_let_in_is_let_in_for_the_reading_alone(tmp_path: Path, state: State):
    before = set(torch.serialization.get_safe_globals())  # torch.distributed has some of its own
    load_checkpoint(saved(tmp_path / "v.pth", official_file(state)))
    refused(saved(tmp_path / "w.pth", {"x": nn.ReLU()}))
    assert set(torch.serialization.get_safe_globals()) == before
    assert argparse.Namespace not in before


def packed(path: Path, source: Path, **changes: bytes) -> Path:
    """``source``'s zip entries written anew, deflated."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as new:
        for entry in old.infolist():
            new.writestr(entry.filename, changes.get(Path(entry.filename).name, old.read(entry)))
    return path


def bad_files(folder: Path, state: State) -> dict[str, tuple[bytes, str]]:
    good = saved(folder / "good.pth", state).read_bytes()
    legacy = saved(folder / "old.pth", state, _use_new_zipfile_serialization=False).read_bytes()
    save_safetensors(folder / "good.safetensors", state, SPEC, None, half=False)
    tensors = (folder / "good.safetensors").read_bytes()
    torch.jit.script(nn.Linear(2, 2)).save(folder / "script.pt")
    with zipfile.ZipFile(folder / "photos.zip", "w") as archive:
        archive.writestr("a.jpg", b"x")
    saved(folder / "zeros.pth", {"a": torch.zeros(2_000_000)})
    generator = torch.Generator().manual_seed(9)
    noise = torch.randint(0, 256, (4096,), dtype=torch.uint8, generator=generator).numpy().tobytes()
    lfs = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 16440000\n"
    return {
        "empty.pth": (b"", "is empty"),
        "one_byte.pth": (b"\x08", "no file of a known kind"),
        "noise.pth": (b"\xf0" + noise, "no file of a known kind .it begins with f0"),
        "noise.pkl": (b"\x80" + noise, "damaged or cut off|refused"),
        "noise.zip": (b"PK\x03\x04" + noise, "zip directory cannot be read"),
        "noise.safetensors": (struct.pack("<Q", 100) + b"{" + noise, "damaged or cut off .safetensors"),
        "cut.pth": (good[: len(good) // 2], "zip directory cannot be read"),
        "cut_end.pth": (good[:-10], "zip directory cannot be read"),
        "cut_legacy.pth": (legacy[: len(legacy) // 2], "damaged or cut off|refused"),
        "cut.safetensors": (tensors[: len(tensors) // 2], "damaged or cut off .safetensors"),
        "cut_header.safetensors": (tensors[:100], "damaged or cut off .safetensors"),
        "long.safetensors": (tensors + b"x" * 8, "damaged or cut off .safetensors"),
        "lfs.pth.tar": (lfs, "Git LFS pointer, not the file itself.*git lfs pull"),
        "lfs.safetensors": (lfs, "Git LFS pointer"),
        "page.tar": (b"\n <!DOCTYPE html><html><body>Sign in</body></html>", "HTML or XML page"),
        "real.pth.tar": (b"v/w\0".ljust(257, b"\0") + b"ustar\x0000" + b"\0" * 800, "is a tar archive"),
        "v.pth.gz": (b"\x1f\x8b\x08" + noise, "gzip archive.*unpack"),
        "graph.onnx": (b"\x08\x0a\x12\x07pytorch", "ONNX file"),
        "graph.bin": (b"\x08\x0a\x12\x07pytorch", "ONNX file"),
        "config.json": (b'{"model_type": "van"}', "JSON file.*weights beside"),
        "keras.h5": (b"\x89HDF\r\n\x1a\n", "HDF5"),
        "script.pt": ((folder / "script.pt").read_bytes(), "TorchScript archive"),
        "photos.zip": ((folder / "photos.zip").read_bytes(), "zip archive that torch.save did not write"),
        "bomb.pth": (packed(folder / "b.pth", folder / "zeros.pth").read_bytes(), "bytes unpack to 80"),
        "packed.pth": (packed(folder / "p.pth", folder / "good.pth").read_bytes(), "stores them uncompressed"),
        "text.pth": (b"just some words", "no file of a known kind"),
    }


def test_a_safetensors_header_of_any_length_is_one(tmp_path: Path, state: State):
    """The first byte of the file is the last of the header's length, and 0x80 begins a pickle."""
    begins = set()
    for length in range(0, 257, 4):
        path = tmp_path / "v.safetensors"
        save_safetensors(path, state, SPEC, None, half=False, extra={"note": "x" * length})
        begins.add(path.read_bytes()[0])
        assert sniff(path) == "safetensors"
    assert 0x80 in begins


def test_a_bit_that_turned_over_is_seen(tmp_path: Path, state: State):
    path = saved(tmp_path / "v.pth", state)
    data = bytearray(path.read_bytes())
    weight = next(t for t in state.values() if t.numel() > 8).numpy().tobytes()
    data[data.find(weight) + 3] ^= 0x40
    path.write_bytes(data)
    assert re.search(r"damaged or cut off \(the checksum of \S+ does not fit\)", refused(path))


def test_bad_files_each_get_one_line(tmp_path: Path, state: State):
    (made := tmp_path / "made").mkdir()
    for name, (content, said) in bad_files(made, state).items():
        path = tmp_path / name
        path.write_bytes(content)
        with pytest.raises(CheckpointError, match=said):
            load_checkpoint(path)
        assert name in refused(path)
        path.unlink()


@pytest.mark.parametrize("kind", ["zip", "legacy", "safetensors"])
def test_files_cut_or_changed_anywhere_never_end_in_another_error(tmp_path: Path, state: State, kind: str):
    path = tmp_path / "v.bin"
    if kind == "safetensors":
        save_safetensors(path, state, SPEC, None, half=True)
    else:
        saved(path, official_file(state), _use_new_zipfile_serialization=kind == "zip")
    content = path.read_bytes()
    generator = torch.Generator().manual_seed(4)
    for i in range(40):
        # Half the changes go where the structure is, the first kilobytes.
        reach = len(content) if i % 2 else 8000
        at = int(torch.randint(0, reach, (), generator=generator))
        if i % 3 == 0:
            path.write_bytes(content[:at])
        else:
            flipped = bytes(b ^ 0x5A for b in content[at : at + 4])
            path.write_bytes(content[:at] + flipped + content[at + 4 :])
        with contextlib.suppress(CheckpointError):  # a changed weight may go unseen: only a sha256 can tell
            load_checkpoint(path)


def test_a_storage_that_claims_more_than_it_has_is_refused(tmp_path: Path):
    source, path = saved(tmp_path / "s.pth", {"a": torch.ones(1000)}), tmp_path / "v.pth"
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(path, "w") as new:
        for entry in old.infolist():
            data = old.read(entry)
            new.writestr(entry.filename, data[:100] if entry.filename.endswith("data/0") else data)
    assert "damaged or cut off" in refused(path)


def test_a_file_over_the_limit_is_not_read(tmp_path: Path):
    path = tmp_path / "v.pth"
    path.write_bytes(b"PK\x03\x04")
    os.truncate(path, MAX_BYTES + 1)  # sparse: it takes no room
    started = time.monotonic()
    assert "4.0 GiB" in refused(path)
    assert time.monotonic() - started < 1.0


def test_paths_that_lead_nowhere(tmp_path: Path):
    assert "does not exist" in refused(tmp_path / "no.pth", UsageError)
    assert "imagenet1k" in refused("imagenet1K", UsageError)
    assert "does not exist" in refused("a\0b", UsageError)
    os.mkfifo(tmp_path / "pipe")
    assert "not a regular file" in refused(tmp_path / "pipe", UsageError)
    assert "cannot be looked at" in refused("x" * 5000, UsageError)
    assert "is a URL, and files are read: download it" in refused("https://a.b/van.pth", UsageError)
    assert "a hub's name of a model is not read, its folder is" in refused("org/van-base", UsageError)
    (tmp_path / "ring").symlink_to(tmp_path / "ring")
    assert "a link that leads nowhere, or in a ring" in refused(tmp_path / "ring", UsageError)
    assert "cannot be looked at" in refused("~nobody-of-that-name/v.pth", UsageError)


def test_folders_without_weights(tmp_path: Path, state: State):
    assert "folder without model.safetensors or pytorch_model.bin" in refused(tmp_path)
    assert "give one of its files: b0.pth.tar" in refused(saved(tmp_path / "b0.pth.tar", state).parent)


@pytest.mark.usefixtures("ordinary_user")
def test_a_file_one_may_not_read(tmp_path: Path, state: State):
    path = saved(tmp_path / "v.pth", state)
    path.chmod(0)
    assert "Permission denied" in refused(path)
