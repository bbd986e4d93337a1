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
from deployment.jetsons import TIMES, target_of
from deployment.sshd import HOST, SSHServer, ssh_server
from jetson_stand_in import JETPACKS, jetson

from edge_van.bundle.active import active_model
from edge_van.bundle.bundle import Bundle, open_bundle, verify
from edge_van.deployment import rollout
from edge_van.deployment.device import Device, RefusedError
from edge_van.deployment.rollout import DeployOptions, deploy
from edge_van.deployment.targets import Target, load_target
from edge_van.deployment.transport import SSH, Transport
from edge_van.errors import DeviceError, EdgeVanError

CUTS = 25


@dataclass
class Cutting:
    """OpenSSH, killed once ``after`` bytes have gone to the device, or with the request that holds ``words``."""

    ssh: SSH
    after: int | None = None
    words: bytes | None = None
    share: float = 1.0  # of that request, which still goes
    sent: int = 0

    @property
    def where(self) -> str:
        return self.ssh.where

    def start(self, command: Sequence[str]) -> subprocess.Popen[bytes]:
        process = self.ssh.start(command)
        pipe: Any = process.stdin
        write = pipe.write

        class Counted:
            def write(_, data: bytes) -> int:  # noqa: N805
                goes = len(data)
                if self.after is not None:
                    goes = min(goes, self.after - self.sent)
                if self.words is not None and self.words in data:
                    goes = int(self.share * len(data))
                is_cut = goes < len(data) or (self.words is not None and self.words in data)
                with suppress(OSError):
                    write(data[:goes])
                    pipe.flush()
                self.sent += goes
                if is_cut:
                    time.sleep(0.02)  # some of it is on its way
                    process.kill()
                    raise BrokenPipeError
                return goes

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
    jetson_bundle: Bundle,
    graph_files: dict[str, Path],
    server: SSHServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of 25 cuts most are in the upload, where most bytes are; five are in the request to activate."""
    target = target_of(jetson(tmp_path / "jetson", JETPACKS[1], graph_files, TIMES))
    base, ssh = tmp_path / "base", SSH(HOST, server.config)
    old = DeployOptions(root=str(base), candidates=("fp32",))
    deploy_over(ssh, jetson_bundle, target, old, monkeypatch)
    counted, whole = Cutting(ssh), tmp_path / "whole"
    shutil.copytree(base, whole, symlinks=True)
    new = replace(old, candidates=("int8",))
    second = deploy_over(counted, jetson_bundle, target, replace(new, root=str(whole)), monkeypatch)
    chosen, states = random.Random(0), []
    cuts = [Cutting(ssh, after=chosen.randrange(counted.sent - 2000)) for _ in range(CUTS - 5)]
    cuts += [Cutting(ssh, words=b'"activate"', share=share) for share in (0.0, 0.5, 0.9, 1.0, 1.0)]
    for number, cut in enumerate(cuts):
        root = tmp_path / f"cut {number}"
        shutil.copytree(base, root, symlinks=True)
        options = replace(new, root=str(root))
        with pytest.raises(EdgeVanError) as caught:
            deploy_over(cut, jetson_bundle, target, options, monkeypatch)
        assert "\n" not in str(caught.value)
        is_free(root, server)
        active = (root / "current").resolve()
        states.append(active.name)
        bundle = open_bundle(active)
        assert [p for p in verify(bundle) if p.path in {f.path for f in bundle.manifest.files}] == []
        found = active_model(bundle)
        assert found is not None
        found.bundle.check(*found.model.files)
        if number % 5 == 0 or number >= CUTS - 5:  # after every half-sent activation
            again = deploy_over(ssh, jetson_bundle, target, options, monkeypatch)
            assert again.identity == second.identity
            assert again.sent_bytes <= second.sent_bytes
            assert (root / "current").resolve().name == "int8"
        shutil.rmtree(root)
    assert set(states[:-2]) == {"fp32"}  # what was active; a request that arrived whole may have been followed
    assert set(states) <= {"fp32", "int8"}


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
                    subprocess.run(["pkill", "-KILL", "-f", f"{root} [0-9a-f]+ [0-9]+ .* serve$"], check=False)
                    return
            time.sleep(0.05)

    killer = threading.Thread(target=kill)
    killer.start()
    with pytest.raises(DeviceError, match="the connection broke off"):
        deploy(device_bundle, HOST, slow, options=options)
    killer.join()
    assert not (root / "current").exists()
    done = deploy(device_bundle, HOST, target, options=options)
    assert done.sent_bytes == 0
    assert (root / "current").resolve().name == done.choice.active
