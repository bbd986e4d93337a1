"""A device whose disk is full, from the start or while it is sent to, and one whose clock is wrong."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from deployment.sshd import HOST, SSHServer, ssh_server

from edge_van.bundle.bundle import Bundle
from edge_van.deployment import rollout
from edge_van.deployment.rollout import DeployOptions, deploy
from edge_van.deployment.targets import Target, load_target
from edge_van.deployment.transport import SSH
from edge_van.errors import DeviceError, EdgeVanError

DAY_S = 86_400.0
SKEWED = "import time\n_time = time.time\ntime.time = lambda: _time() {shift:+}\n"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SSHServer]:
    with ssh_server(tmp_path_factory.mktemp("sshd")) as running:
        yield running


@pytest.fixture
def target() -> Target:
    target = replace(load_target("cpu-x86"), python=(sys.executable,), rounds=1, seconds=0.1, warm_up_s=0.0)
    return replace(target, candidates=("openvino", "fp32"))


def size_of(bundle: Bundle) -> int:
    return sum(entry.size_bytes for entry in bundle.manifest.files)


def test_a_disk_that_is_too_small_is_seen_before_anything_is_sent(
    device_bundle: Bundle, server: SSHServer, target: Target, small_disk: Path
) -> None:
    root = small_disk
    assert size_of(device_bundle) > 300 * 1024
    with pytest.raises(DeviceError, match=r"0 MB are free under .*, \d+ are needed: free some, or remove what is not"):
        deploy(device_bundle, HOST, target, options=DeployOptions(ssh_config=server.config, root=str(root)))
    assert list((root / "blobs").iterdir()) == []


@dataclass
class Filling:
    """OpenSSH; another program fills the device's disk before the file with that number is sent."""

    ssh: SSH
    fill: Callable[[], None]
    file: int
    files: int = 0

    @property
    def where(self) -> str:
        return self.ssh.where

    def start(self, command: Sequence[str]) -> subprocess.Popen[bytes]:
        process = self.ssh.start(command)
        pipe: Any = process.stdin

        class Watched:
            def write(_, data: bytes) -> int:  # noqa: N805
                if b'"verb": "receive"' in data:
                    self.files += 1
                    if self.files == self.file:
                        self.fill()
                return int(pipe.write(data))

            def __getattr__(_, name: str) -> Any:  # noqa: N805
                return getattr(pipe, name)

        process.stdin = Watched()  # type: ignore[assignment]
        return process

    def failure(self, code: int, said: str) -> EdgeVanError:
        return self.ssh.failure(code, said)


@pytest.mark.parametrize("file", [1, 2, 3])
def test_a_disk_that_fills_up_meanwhile(
    device_bundle: Bundle,
    server: SSHServer,
    target: Target,
    disk_of: Callable[[int], Path],
    monkeypatch: pytest.MonkeyPatch,
    file: int,
) -> None:
    root = disk_of(4 * size_of(device_bundle) + (1 << 20))
    options = DeployOptions(ssh_config=server.config, root=str(root), candidates=("fp32",))
    first = deploy(device_bundle, HOST, target, options=options)
    blobs = {path.name for path in (root / "blobs").iterdir()}
    filler = root / "filler"

    def fill() -> None:
        with filler.open("wb", buffering=0) as other:
            for block in (1 << 16, 1 << 12):
                try:
                    while other.write(b"\0" * block) == block:
                        pass
                except OSError:
                    continue

    filling = Filling(SSH(HOST, server.config), fill, file)
    both = replace(options, candidates=("openvino", "fp32"), max_drop_points=1.0)
    with monkeypatch.context() as patch:
        patch.setattr(rollout, "transport_to", lambda host, config: filling)
        with pytest.raises(DeviceError, match="No space left on device") as caught:
            deploy(device_bundle, HOST, target, options=both)
    assert "\n" not in str(caught.value)
    assert (root / "current").resolve().name == "fp32"
    assert (root / "current").readlink().name == first.release
    assert blobs <= {path.name for path in (root / "blobs").iterdir()}
    filler.unlink()
    again = deploy(device_bundle, HOST, target, options=both)
    assert again.choice.active in ("openvino", "fp32")
    assert not list((root / "blobs").glob("*.part"))


@pytest.mark.parametrize(("shift", "word"), [(2 * DAY_S, "ahead"), (-4000 * DAY_S, "behind")])
def test_a_clock_that_is_wrong(
    device_bundle: Bundle, server: SSHServer, target: Target, tmp_path: Path, shift: float, word: str
) -> None:
    """Nothing hangs on it: it is said, and a second deploy finds all it needs."""
    site = tmp_path / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(SKEWED.format(shift=shift))
    skewed = replace(target, python=("env", f"PYTHONPATH={site}", sys.executable))
    options = DeployOptions(ssh_config=server.config, root=str(tmp_path / "root"), candidates=("fp32",))
    first = deploy(device_bundle, HOST, skewed, options=options)
    [warning] = [w for w in first.warnings if "clock" in w]
    assert re.search(rf"the device's clock is \d+ s {word}: its logs have other times", warning)
    assert abs(int(re.findall(r"\d+", warning)[0]) - abs(shift)) < 60
    again = deploy(device_bundle, HOST, target, options=options)  # its clock is right again
    assert (again.release, again.sent_bytes, again.warnings) == (first.release, 0, ())
