"""What several tests share: small VANs that run in milliseconds, with norms as far spread as a trained net's."""

import ctypes
import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import hypothesis
import pytest
import torch
from bundle_samples import MANIFEST
from made_once import MadeOnce
from narrow import NARROW, make_graphs, normal_images, spread_norms_
from torch import Tensor, nn

from edge_van.bundle.bundle import Bundle
from edge_van.bundle.layout import FP32_IR, FP32_ONNX, INT8_IR, OPENVINO_ONNX
from edge_van.bundle.writer import BundleWriter
from edge_van.input_spec import InputSpec
from edge_van.model.van import VAN
from edge_van.model.variants import Variant
from edge_van.runtimes.telemetry import switch_off_telemetry

pytest_plugins = ["captured_once", "side_by_side"]

# these nets are too small to gain from threads, and on a shared machine OpenMP's waiting costs far more than it saves
torch.set_num_threads(1)
hypothesis.settings.register_profile("shared machine", deadline=None)  # a slow example is no failure
hypothesis.settings.load_profile("shared machine")
switch_off_telemetry()  # test modules import the engines themselves


@pytest.fixture(scope="session")
def narrow_variant() -> Variant:
    """All four stages, one of them with two blocks; widths that are no multiple of each other."""
    return NARROW


@pytest.fixture(scope="session")
def randomize_bn_() -> Callable[[nn.Module, int], nn.Module]:
    """A function that gives every BatchNorm and LayerScale of a model well-spread values, in place, by a seed."""
    return spread_norms_


@pytest.fixture(scope="session")
def narrow_van(narrow_variant: Variant) -> VAN:
    """A narrow VAN with spread norms, in eval mode; read-only."""
    torch.manual_seed(0)
    van = VAN(narrow_variant, 7)
    spread_norms_(van, 1)
    return van.eval()


@pytest.fixture(scope="session")
def made_once(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> MadeOnce:
    """Gives a copy of the files that a function makes, which runs again only when a source of theirs has changed."""
    cache = getattr(request.config, "cache", None)  # none with -p no:cacheprovider
    kept = tmp_path_factory.mktemp("made_once") if cache is None else cache.mkdir("made_once")
    return MadeOnce(kept, tmp_path_factory)


@pytest.fixture(scope="session")
def graphs(made_once: MadeOnce) -> dict[str, Path]:
    """ONNX files of a narrow VAN: fp32, int8 and int8_pointwise, all in float32 with a float input of 64 px."""
    return {path.stem: path for path in made_once("graphs", make_graphs).glob("*.onnx")}


@pytest.fixture(scope="session")
def timed_bundle(graphs: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A bundle of a narrow VAN at 64 px with both IRs and both ONNX files; read-only."""
    from edge_van.export.openvino import export_openvino

    spec = InputSpec(size=(64, 64))
    with BundleWriter(tmp_path_factory.mktemp("timed") / "narrow_int8") as writer:
        for name, onnx, ir in (("fp32", FP32_ONNX, FP32_IR), ("int8", OPENVINO_ONNX, INT8_IR)):
            writer.path(onnx).write_bytes(graphs[name].read_bytes())
            export_openvino(graphs[name], spec, writer.path(ir))
        return writer.finish(replace(MANIFEST, num_classes=7, input_spec=spec))


@pytest.fixture
def disk_of(tmp_path: Path) -> Iterator[Callable[[int], Path]]:
    """A file system of its own of so many bytes."""
    mounted: list[Path] = []

    def make(size: int) -> Path:
        folder = tmp_path / f"disk of {size}"
        folder.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
        if subprocess.run(command, capture_output=True, check=False).returncode:
            pytest.skip("mounting a small file system needs root")
        mounted.append(folder)
        return folder

    yield make
    for folder in mounted:
        subprocess.run(["umount", folder], check=True)


@pytest.fixture
def small_disk(disk_of: Callable[[int], Path]) -> Path:
    """A file system of 256 KiB."""
    return disk_of(256 * 1024)


@pytest.fixture
def read_only_mount() -> Iterator[Callable[[Path], None]]:
    """A function that makes a folder a file system of its own that nobody can write to, root neither."""
    mounted: list[Path] = []

    def make(folder: Path) -> None:
        for options in (["--bind", str(folder), str(folder)], ["-o", "remount,bind,ro", str(folder)]):
            if subprocess.run(["mount", *options], capture_output=True, check=False).returncode:
                pytest.skip("mounting a folder read-only needs root")
            mounted[:] = [folder]

    yield make
    for folder in mounted:
        subprocess.run(["umount", folder], check=True)


@pytest.fixture
def ordinary_user(tmp_path: Path) -> Iterator[None]:
    """Root may do anything anywhere, so a test that root runs becomes nobody for a while."""
    if os.getuid() != 0:
        yield
        return
    for parent in tmp_path.parents[:3]:  # of workers that run side by side each has a folder of its own
        parent.chmod(0o755)
    os.chown(tmp_path, 65534, -1)
    os.setresuid(65534, 65534, 0)
    yield
    os.setresuid(0, 0, 0)


@pytest.fixture
def permissions_hold() -> Iterator[None]:
    """Also for root, who stays the owner of its files: as ``ordinary_user``, but Python's own files can still be read.

    Without CAP_DAC_OVERRIDE in the effective set of this thread; see capabilities(7), capset(2).
    """
    libc = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    kept, dropped = (ctypes.c_uint32 * 6)(), (ctypes.c_uint32 * 6)()
    if libc.capget(header, kept) or libc.capget(header, dropped):
        pytest.skip("this system has no capabilities to drop")
    dropped[0] &= ~(1 << 1)
    assert libc.capset(header, dropped) == 0, os.strerror(ctypes.get_errno())
    yield
    assert libc.capset(header, kept) == 0


@pytest.fixture(scope="session")
def images() -> Callable[..., Tensor]:
    return normal_images


@pytest.fixture
def hears_sigint() -> Iterator[None]:
    """Also where the tests run in the background, which a shell has ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    signal.signal(signal.SIGINT, before)
