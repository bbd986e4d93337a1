"""A connection that is cut at any point of a deploy: what was active works, and the next deploy goes on."""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from deployment.sshd import HOST, SSHServer, ssh_server

from edge_van.bundle.bundle import Bundle, open_bundle, verify
from edge_van.deployment import rollout
from edge_van.deployment.device import Device, RefusedError
from edge_van.deployment.rollout import DeployOptions, deploy
from edge_van.deployment.targets import Target, load_target
from edge_van.deployment.transport import SSH, Transport
from edge_van.errors import DeviceError, EdgeVanError

CUTS = 25


@dataclass(frozen=True)
class Cutting:
    """OpenSSH, killed once so many bytes have gone to the device: ``sent`` counts them."""

    ssh: SSH
    after: int | None
    sent: list[int]

    @property
    def where(self) -> str:
        return self.ssh.where

    def start(self, command: Sequence[str]) -> subprocess.Popen[bytes]:
        process = self.ssh.start(command)
        pipe: Any = process.stdin
        write = pipe.write

        class Counted:
            def write(_, data: bytes) -> int:  # noqa: N805
                if self.after is not None and self.sent[0] + len(data) > self.after:
                    with suppress(OSError):
                        write(data[: self.after - self.sent[0]])
                        pipe.flush()
                    time.sleep(0.02)  # some of it is on its way
                    process.kill()
                    raise BrokenPipeError
                self.sent[0] += len(data)
                return int(write(data))

            def __getattr__(_, name: str) -> Any:  # noqa: N805
                return getattr(pipe, name)

        process.stdin = Counted()  # type: ignore[assignment]
        return process

    def failure(self, code: int, said: str) -> EdgeVanError:
        return self.ssh.failure(255 if code < 0 else code, said)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SSHServer]:
    with ssh_server(tmp_path_factory.mktemp("sshd")) as running:
        yield running


@pytest.fixture(scope="module")
def target() -> Target:
    return replace(load_target("cpu-x86"), python=(sys.executable,), rounds=1, seconds=0.1, warm_up_s=0.0)


def deploy_over(
    transport: Transport, bundle: Bundle, target: Target, options: DeployOptions, monkeypatch: pytest.MonkeyPatch
) -> rollout.Deployed:
    with monkeypatch.context() as patch:
        patch.setattr(rollout, "transport_to", lambda host, config: transport)
        return deploy(bundle, HOST, target, options=options)


def is_free(root: Path, server: SSHServer) -> None:
    """Wait until the agent of a connection that was cut has ended."""
    until = time.monotonic() + 60
    while True:
        try:
            Device(SSH(HOST, server.config), root=str(root), python=(sys.executable,), paths={}).close()
        except RefusedError as error:
            if error.kind != "busy" or time.monotonic() > until:
                raise
            time.sleep(0.1)
        else:
            return


def test_whatever_is_cut_what_is_active_is_whole(
    device_bundle: Bundle, server: SSHServer, target: Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base, ssh = tmp_path / "base", SSH(HOST, server.config)
    old = DeployOptions(root=str(base), candidates=("fp32",))
    first = deploy_over(ssh, device_bundle, target, old, monkeypatch)
    whole = tmp_path / "whole"
    shutil.copytree(base, whole, symlinks=True)
    counted = Cutting(ssh, None, [0])
    new = replace(old, candidates=("openvino",))
    second = deploy_over(counted, device_bundle, target, replace(new, root=str(whole)), monkeypatch)
    total = counted.sent[0]
    chosen = random.Random(0)
    points = sorted([*(chosen.randrange(total) for _ in range(CUTS - 3)), total - 1, total - 60, total - 200])
    states = set()
    for number, point in enumerate(points):
        root = tmp_path / f"cut {number}"
        shutil.copytree(base, root, symlinks=True)
        options = replace(new, root=str(root))
        with pytest.raises(EdgeVanError) as caught:
            deploy_over(Cutting(ssh, point, [0]), device_bundle, target, options, monkeypatch)
        assert "\n" not in str(caught.value)
        is_free(root, server)
        active = (root / "current").resolve()
        states.add(active.name)
        assert active.name in ("fp32", "openvino")
        bundle = open_bundle(active)
        assert [p for p in verify(bundle) if p.path in {f.path for f in bundle.manifest.files}] == []
        if number % 5 == 0:
            again = deploy_over(ssh, device_bundle, target, options, monkeypatch)
            assert again.identity == second.identity
            assert again.sent_bytes <= second.sent_bytes
            assert (root / "current").resolve().name == "openvino"
        shutil.rmtree(root)
    assert "fp32" in states
    assert first.choice.active == "fp32"


def test_an_agent_that_is_killed_while_it_times(
    device_bundle: Bundle, server: SSHServer, target: Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "root"
    options = DeployOptions(root=str(root), ssh_config=server.config)
    slow = replace(target, seconds=20.0)

    def kill() -> None:
        until = time.monotonic() + 60
        while time.monotonic() < until:
            listed = subprocess.run(["pgrep", "-f", f"{root}.*openvino$"], capture_output=True, text=True, check=False)
            if listed.stdout and list(root.glob("deployments/*/state.json")):
                state = next(root.glob("deployments/*/state.json")).read_text()
                if state.count('"check"') == 2:
                    subprocess.run(["pkill", "-KILL", "-f", f"root {root}.* serve$"], check=False)
                    return
            time.sleep(0.05)

    killer = threading.Thread(target=kill)
    killer.start()
    with pytest.raises(DeviceError):
        deploy(device_bundle, HOST, slow, options=options)
    killer.join()
    assert not (root / "current").exists()
    done = deploy(device_bundle, HOST, target, options=options)
    assert done.sent_bytes == 0
    assert (root / "current").resolve().name == done.choice.active
