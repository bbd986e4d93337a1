"""``edge_van.deployment`` through real OpenSSH servers: reached, refused, and the whole way to an active model."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from deployment.sshd import HOST, SSHServer, ssh_server, start, stop

from edge_van.bundle.bundle import Bundle
from edge_van.deployment.device import Device, RefusedError
from edge_van.deployment.releases import DeviceOptions, list_releases, probe_device, prune, rollback
from edge_van.deployment.rollout import DeployOptions, deploy
from edge_van.deployment.targets import Target, load_target
from edge_van.deployment.transport import SSH
from edge_van.errors import (
    AccuracyGateError,
    BundleError,
    DeviceError,
    MissingRuntimeError,
    UsageError,
    VerificationError,
)
from edge_van.prediction.classifier import open_classifier


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SSHServer]:
    with ssh_server(tmp_path_factory.mktemp("sshd")) as running:
        yield running


@pytest.fixture(scope="module")
def target() -> Target:
    return replace(load_target("cpu-x86"), python=(sys.executable,), seconds=0.1, warm_up_s=0.0)


def connect(server: SSHServer, root: str, host: str = HOST) -> Device:
    return Device(SSH(host, server.config), root=root, python=(sys.executable,), paths={"python": [sys.executable]})


def test_a_command_is_quoted_once(server: SSHServer) -> None:
    hostile = ["; touch owned", "$(touch owned)", "`touch owned`", "a'b\"c", "~", "*", "", "new\nline", "-e"]
    command = [sys.executable, "-c", "import json, os, sys; print(json.dumps([sys.argv[1:], os.getcwd()]))", *hostile]
    process = SSH(HOST, server.config).start(command)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    words, folder = json.loads(out)
    assert words == hostile
    assert not (Path(folder) / "owned").exists()


def test_the_usual_root_is_under_the_users_home(server: SSHServer) -> None:
    with connect(server, "~/.local/share/edge-van") as device:
        assert device.ask("list") == {"active": None, "releases": []}
    assert (server.home / ".local" / "share" / "edge-van" / "lock").exists()


@pytest.mark.parametrize("host", ["-oProxyCommand=touch owned", "a b", "a;b", "a\nb", "$(x)", "", "a'b", "user@-o;x"])
def test_what_is_no_host(host: str) -> None:
    with pytest.raises(UsageError, match="is no host"):
        SSH(host)


def test_an_unknown_host_key(server: SSHServer, tmp_path: Path) -> None:
    empty, config = tmp_path / "known_hosts", tmp_path / "config"
    empty.touch()
    config.write_text(server.config.read_text().replace(str(server.folder / "known_hosts"), str(empty)))
    config.write_text(config.read_text() + "  StrictHostKeyChecking no\n")  # whatever the user's config says
    with pytest.raises(MissingRuntimeError, match="its key is unknown"):
        Device(SSH(HOST, config), root=str(tmp_path / "root"), python=(sys.executable,), paths={})
    assert empty.read_text() == ""
    assert not (tmp_path / "root").exists()


def test_a_changed_host_key(tmp_path: Path) -> None:
    with ssh_server(tmp_path) as server:
        server.new_host_key()
        process = start(server.folder, server.port)
        try:
            with pytest.raises(MissingRuntimeError, match="its key is changed"):
                connect(server, str(tmp_path / "root"))
        finally:
            stop(process)


def test_a_wrong_password(server: SSHServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = tmp_path / "askpass"
    answer.write_text("#!/bin/sh\necho wrong\n")
    answer.chmod(0o755)
    monkeypatch.setenv("SSH_ASKPASS", str(answer))
    monkeypatch.setenv("SSH_ASKPASS_REQUIRE", "force")
    config = tmp_path / "config"
    config.write_text(server.config.read_text() + "  PubkeyAuthentication no\n")
    with pytest.raises(MissingRuntimeError, match=r"Permission denied.*neither your key nor your password"):
        Device(SSH(HOST, config), root=str(tmp_path / "root"), python=(sys.executable,), paths={})


def test_a_host_that_is_not_there(server: SSHServer, tmp_path: Path) -> None:
    config = tmp_path / "config"
    config.write_text(f"Host {HOST}\n  HostName 127.0.0.1\n  Port 1\n")
    with pytest.raises(MissingRuntimeError, match="cannot be reached"):
        Device(SSH(HOST, config), root=str(tmp_path), python=("python3",), paths={})


def test_a_device_without_that_python(server: SSHServer, tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match=r"exit code 127.*not found"):
        Device(SSH(HOST, server.config), root=str(tmp_path), python=("python3.99",), paths={})


# --- the whole way ---


@pytest.fixture(scope="module")
def options(server: SSHServer) -> DeployOptions:
    return DeployOptions(ssh_config=server.config)


def test_a_bundle_becomes_active_and_can_be_taken_back(
    device_bundle: Bundle, server: SSHServer, target: Target, options: DeployOptions
) -> None:
    root = server.home / ".local" / "share" / "edge-van"
    reach = DeviceOptions(ssh_config=server.config)
    first = deploy(device_bundle, HOST, target, options=options)
    assert first.before is None
    assert first.sent_bytes > 0
    rows = {row.name: row for row in first.rows}
    assert rows.keys() >= {"openvino", "fp32"}
    assert all(row.passed_check and row.median_ms is not None for row in first.rows), rows
    current = root / "current"
    assert current.resolve().name == first.choice.active
    model = json.loads((current / "active.json").read_text())
    assert (current / model["file"]).read_bytes() == device_bundle.file(model["file"]).read_bytes()

    image = np.full((64, 64, 3), 90, np.uint8)
    with (
        open_classifier(current) as there,
        open_classifier(device_bundle, precision="fp32" if first.choice.active == "fp32" else "int8") as here,
    ):
        assert there(image).logits.tolist() == here(image).logits.tolist()

    again = deploy(device_bundle, HOST, target, options=options)
    assert (again.release, again.sent_bytes, again.before) == (first.release, 0, None)

    slower = replace(options, candidates=("fp32",))
    other = deploy(device_bundle, HOST, target, options=slower)
    assert other.before == first.release
    assert other.choice.active == "fp32"
    found = list_releases(HOST, reach)
    assert found.active is not None
    assert found.active.name == other.release
    assert rollback(HOST, reach).name == first.release
    assert current.resolve().name == first.choice.active
    assert other.identity in prune(HOST, 0, reach)
    assert [r.name for r in list_releases(HOST, reach).releases] == [first.release]


def test_the_command_line(device_bundle: Bundle, server: SSHServer, tmp_path: Path) -> None:
    target = tmp_path / "mine.toml"
    target.write_text(
        f'title = "mine"\nruntime = "openvino"\narchitecture = "{os.uname().machine}"\ncandidates = ["fp32"]\n'
        f'python = ["{sys.executable}"]\nseconds = 0.1\nwarm_up_s = 0\n'
    )
    reach = ["--ssh-config", str(server.config), "--root", str(tmp_path / "root")]

    def run(*words: str) -> tuple[int, str, str]:
        command = [sys.executable, "-m", "edge_van", *words, *reach]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout, done.stderr

    code, out, err = run("deploy", str(device_bundle.path), HOST, "--target", str(target), "--json")
    assert code == 0, err
    done: dict[str, Any] = json.loads(out)
    assert done["release"].startswith("1-")
    code, out, err = run("deploy", str(device_bundle.path), HOST, "--target", str(target))
    assert (code, done["release"] in out, "Uploading" in err) == (0, True, False)
    code, out, err = run("device", "rollback", HOST)
    assert code == 1
    assert "nothing to go back to" in err
    code, out, _ = run("device", "list", HOST)
    assert (code, "active" in out) == (0, True)


def test_a_device_of_another_kind(device_bundle: Bundle, server: SSHServer, options: DeployOptions) -> None:
    arm = replace(load_target("cpu-arm"), python=(sys.executable,))
    with pytest.raises(UsageError, match="does not fit the target ARM CPU: it is x86_64"):
        deploy(device_bundle, HOST, arm, options=options)
    bare = replace(load_target("cpu-x86"), python=(sys.executable,), runtime_python=("/bin/false",))
    with pytest.raises(UsageError, match=r"has no OpenVINO that runs \(.*\): install it there"):
        deploy(device_bundle, HOST, bare, options=options)
    there = replace(options, runtime_python=str(Path(sys.executable)))
    assert deploy(device_bundle, HOST, bare, options=there).choice.active is not None
    old = replace(load_target("cpu-x86"), python=(sys.executable,), versions={"openvino": "<2000"})
    with pytest.raises(UsageError, match=r"it has OpenVINO 20\d\d.* takes <2000"):
        deploy(device_bundle, HOST, old, options=options)


def test_two_deploys_at_once(device_bundle: Bundle, server: SSHServer, target: Target, options: DeployOptions) -> None:
    with connect(server, "~/.local/share/edge-van"), pytest.raises(RefusedError, match="another deploy") as caught:
        deploy(device_bundle, HOST, target, options=options)
    assert caught.value.kind == "busy"


def test_a_failed_check_leaves_what_is_active(
    device_bundle: Bundle, server: SSHServer, target: Target, tmp_path: Path
) -> None:
    options = DeployOptions(ssh_config=server.config, root=str(tmp_path / "root"), candidates=("fp32",))
    first = deploy(device_bundle, HOST, target, options=options)
    golden = device_bundle.manifest.golden
    assert golden is not None
    strict = replace(golden, floors_db=dict.fromkeys(golden.floors_db, 1e6))
    wrong = Bundle(device_bundle.path, replace(device_bundle.manifest, golden=strict))
    with pytest.raises(VerificationError, match=r"nothing becomes active.*failed its check: its logits are at"):
        deploy(wrong, HOST, target, options=replace(options, candidates=("openvino",)))
    assert (tmp_path / "root" / "current").resolve().name == "fp32"
    assert list_releases(HOST, DeviceOptions(ssh_config=server.config, root=options.root)).releases[-1].name == (
        first.release
    )


def test_a_budget_that_nothing_is_within(device_bundle: Bundle, server: SSHServer, target: Target) -> None:
    options = DeployOptions(ssh_config=server.config, candidates=("openvino",), max_drop_points=0.0)
    assert device_bundle.manifest.accuracy is not None
    with pytest.raises(AccuracyGateError, match=r"what was stays: every engine loses over 0 points, the best 0\.50"):
        deploy(device_bundle, HOST, target, options=options)


def test_a_bundle_that_was_altered(
    device_bundle: Bundle, server: SSHServer, target: Target, options: DeployOptions, tmp_path: Path
) -> None:
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(device_bundle.path, copy)
    path = copy / "openvino" / "model.bin"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(BundleError, match="damaged"):
        deploy(copy, HOST, target, options=options)
    manifest = copy / "manifest.json"
    manifest.write_text(manifest.read_text().replace("openvino/model.bin", "../openvino/model.bin"))
    with pytest.raises(BundleError, match=r"'\.\.'"):
        deploy(copy, HOST, target, options=options)


def test_a_candidate_that_there_is_not(
    device_bundle: Bundle, server: SSHServer, target: Target, options: DeployOptions
) -> None:
    with pytest.raises(UsageError, match="x86 CPU has no candidate int8; it has fp32, bf16"):
        deploy(device_bundle, HOST, target, options=replace(options, candidates=("int8",)))


def test_times_of_other_settings_are_not_taken(
    device_bundle: Bundle, server: SSHServer, target: Target, tmp_path: Path
) -> None:
    options = DeployOptions(ssh_config=server.config, root=str(tmp_path / "root"), candidates=("fp32",))
    first = deploy(device_bundle, HOST, target, options=options)
    assert deploy(device_bundle, HOST, target, options=options).conditions == {}
    longer = deploy(device_bundle, HOST, replace(target, seconds=0.2), options=options)
    assert longer.conditions != {}
    assert (longer.release, longer.sent_bytes) == (first.release, 0)


def test_a_probe(server: SSHServer, tmp_path: Path) -> None:
    found = probe_device(HOST, DeviceOptions(ssh_config=server.config, root=str(tmp_path / "root")))
    assert found["architecture"] == os.uname().machine
