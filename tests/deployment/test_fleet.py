"""A fleet of eight through real Ansible: where it stops, what each host has then, and the way back."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from deployment.sshd import HOST, ssh_server

from edge_van.bundle.bundle import Bundle, open_bundle
from edge_van.bundle.manifest import MANIFEST_NAME, encoded
from edge_van.deployment.fleet import INTERRUPTED, TOO_MANY, FleetOptions, deploy_fleet, hosts_of, roll_back_fleet
from edge_van.deployment.releases import DeviceOptions, list_releases
from edge_van.deployment.rollout_record import LOG_NAME, PAGE_NAME, Rollout, read_rollout
from edge_van.errors import BundleError, UsageError

pytest.importorskip("ansible", reason="no ansible-core here: pip install 'edge-van[fleet]'")

TARGET = """title = "x86 CPU, timed shortly"
runtime = "openvino"
architecture = "x86_64"
candidates = ["openvino"]
python = [{python!r}]
runtime_python = [{python!r}]
rounds = 1
seconds = 0.1
warm_up_s = 0.0
"""
DIES = """#!{python}
# A Python whose machine is switched off once so many bytes have come.
import os, subprocess, sys
child, left = subprocess.Popen([sys.executable, *sys.argv[1:]], stdin=subprocess.PIPE), {bytes}
while left > 0 and (data := os.read(0, min(left, 65536))):
    os.write(child.stdin.fileno(), data)
    left -= len(data)
child.kill()
child.wait()
"""


class Fleet:
    """Hosts that are folders of this machine. ``broken`` ones fail: each in its own way."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.vars = folder, dict[str, dict[str, Any]]()
        folder.mkdir(exist_ok=True)
        (folder / "target.toml").write_text(TARGET.format(python=sys.executable))
        for number in range(8):
            root = str(folder / f"home{number}")
            self.vars[f"host{number}"] = {"ansible_connection": "local", "edge_van_root": root}

    def inventory(self) -> Path:
        path = self.folder / "inventory.yml"
        path.write_text(json.dumps({"all": {"hosts": self.vars}}))  # JSON is YAML
        return path

    def dies_during_upload(self, host: str, at_bytes: int) -> None:
        program = self.folder / f"dies-{host}"
        program.write_text(DIES.format(bytes=at_bytes, python=sys.executable))
        program.chmod(0o755)
        target = self.folder / f"{host}.toml"
        text = TARGET.format(python=sys.executable)
        target.write_text(text.replace(f"python = [{sys.executable!r}]", f"python = [{str(program)!r}]", 1))
        self.vars[host]["edge_van_target"] = str(target)

    def fails_its_check(self, host: str) -> None:
        """An OpenVINO there that computes something else: what the golden check is for."""
        site = self.folder / f"site-{host}"
        (site / "openvino").mkdir(parents=True)
        (site / "openvino" / "__init__.py").write_text(
            "import importlib.util, sys\nplace = __file__.replace(__path__[0], REAL)\n".replace(
                "REAL", repr(str(Path(openvino_folder())))
            )
            + "sys.path = [p for p in sys.path if p != "
            + repr(str(site))
            + "]\n"
            "del sys.modules['openvino']\n"
            "import openvino\n"
            "import numpy\n"
            "real = openvino.InferRequest.infer\n"
            "openvino.InferRequest.infer = lambda *a, **k: {0: -numpy.asarray(real(*a, **k)[0])}\n"
        )
        program = self.folder / f"other-{host}"
        program.write_text(f'#!/bin/sh\nPYTHONPATH={site} exec {sys.executable} "$@"\n')
        program.chmod(0o755)
        self.vars[host]["edge_van_runtime_python"] = str(program)

    def run(self, bundle: Bundle, name: str = "rollout", **more: Any) -> Rollout:
        options = FleetOptions(target=str(self.folder / "target.toml"), folder=self.folder / name, forks=2, **more)
        return deploy_fleet(bundle, self.inventory(), options=options)

    def active(self) -> dict[str, str | None]:
        """By asking each host."""
        found = {}
        for host, values in self.vars.items():
            now = list_releases("local", DeviceOptions(root=values["edge_van_root"])).active
            found[host] = None if now is None else now.name
        return found


def openvino_folder() -> str:
    import openvino

    return str(Path(openvino.__file__).parent)


@pytest.fixture
def fleet(tmp_path: Path) -> Fleet:
    return Fleet(tmp_path / "fleet")


def test_all_of_them(fleet: Fleet, device_bundle: Bundle) -> None:
    done = fleet.run(device_bundle)
    assert done.is_whole
    assert done.summary == "8 active"
    assert [row.host for row in done.rows] == [f"host{number}" for number in range(8)]
    assert [row.is_canary for row in done.rows] == [True] + 7 * [False]
    assert fleet.active() == {row.host: row.release for row in done.rows}
    assert read_rollout(fleet.folder / "rollout") == done
    text = (fleet.folder / "rollout" / PAGE_NAME).read_text()
    assert all(f"| {row.host} | {row.state}" in text for row in done.rows)


def changed(bundle: Bundle, folder: Path, created: str) -> Bundle:
    """As it was made at another time."""
    shutil.copytree(bundle.path, folder)
    (folder / MANIFEST_NAME).write_bytes(encoded(replace(bundle.manifest, created=created)))
    return open_bundle(folder)


@pytest.fixture
def second(device_bundle: Bundle, tmp_path: Path) -> Bundle:
    return changed(device_bundle, tmp_path / "second", "2027-01-01T00:00:00+00:00")


def test_three_that_fail(fleet: Fleet, device_bundle: Bundle, second: Bundle, small_disk: Path) -> None:
    """One dies during the upload, one computes something else, one has no room; what they had stays active."""
    first = fleet.run(device_bundle)
    before = fleet.active()
    fleet.dies_during_upload("host1", 80_000)
    shutil.rmtree(fleet.folder / "home1" / "blobs")  # what is active has its files, and all are sent again
    fleet.fails_its_check("host3")
    fleet.vars["host6"]["edge_van_root"] = str(small_disk)
    before["host6"] = None  # another home

    done = fleet.run(second, "second", batches=("3", "100%"), max_failed_percent=50)
    rows = {row.host: row for row in done.rows}
    assert {host for host, row in rows.items() if row.state == "failed"} == {"host1", "host3"}, done.rows
    assert "the connection broke off" in rows["host1"].error
    assert "failed its check" in rows["host3"].error
    assert {host for host, row in rows.items() if row.state == "not tried"} == {"host4", "host5", "host6", "host7"}
    assert done.stopped == TOO_MANY
    now = fleet.active()
    for host, row in rows.items():
        assert now[host] == (row.release if row.state == "active" else before[host]), host
    assert now["host0"] != before["host0"]

    third = fleet.run(second, "third", batches=("100%",), max_failed_percent=60)
    rows = {row.host: row for row in third.rows}
    assert not third.stopped
    assert {host for host, row in rows.items() if row.state == "failed"} == {"host1", "host3", "host6"}
    assert "MB are free under" in rows["host6"].error
    assert third.summary == "5 active, 3 failed"
    now = fleet.active()
    assert {now[host] for host in ("host4", "host5", "host7")} == {rows["host4"].release}
    assert all(now[host] == before[host] for host in ("host1", "host3", "host6"))
    assert first.is_whole


def test_a_canary_that_fails_is_the_only_one_tried(fleet: Fleet, device_bundle: Bundle, second: Bundle) -> None:
    fleet.run(device_bundle)
    before = fleet.active()
    fleet.fails_its_check("host1")
    done = fleet.run(second, "second", canaries=2, max_failed_percent=100, roll_back=True)
    rows = {row.host: row for row in done.rows}
    assert {row.state for row in done.rows} == {"rolled back", "failed", "not tried"}
    assert rows["host0"].state == "rolled back"
    assert rows["host0"].release == before["host0"]
    assert fleet.active() == before


def test_back_on_request(fleet: Fleet, device_bundle: Bundle, second: Bundle) -> None:
    """But for a host that has got another release meanwhile, and one that had none before."""
    fleet.vars = {host: fleet.vars[host] for host in ("host0", "host1", "host2")}
    late = fleet.vars.pop("host2")
    fleet.run(device_bundle)
    before = fleet.active()
    fleet.vars["host2"] = late
    done = fleet.run(second, "second", batches=("100%",))
    assert done.is_whole
    fleet.vars = {"host1": fleet.vars["host1"]}
    third = changed(second, fleet.folder / "bundle", "2028-01-01T00:00:00+00:00")
    fleet.run(third, "third")
    newest = fleet.active()["host1"]
    fleet.vars = {
        f"host{n}": {"ansible_connection": "local", "edge_van_root": str(fleet.folder / f"home{n}")} for n in range(3)
    }
    fleet.inventory()
    back = roll_back_fleet(
        fleet.folder / "second", done, options=FleetOptions(target=str(fleet.folder / "target.toml"))
    )
    rows = {row.host: row for row in back.rows}
    assert (rows["host0"].state, rows["host0"].release) == ("rolled back", before["host0"])
    assert rows["host1"].error.startswith("not rolled back: ")
    assert "is active here, not" in rows["host1"].error
    assert rows["host2"] == done.rows[2]
    assert fleet.active() == {"host0": before["host0"], "host1": newest, "host2": done.rows[2].release}
    assert read_rollout(fleet.folder / "second") == back


def test_through_ssh(fleet: Fleet, device_bundle: Bundle, tmp_path: Path) -> None:
    """By the client's own configuration, host names and all."""
    with ssh_server(tmp_path / "sshd") as server:
        fleet.vars = {HOST: {"edge_van_root": str(fleet.folder / "there"), "edge_van_host": HOST}}
        done = fleet.run(device_bundle, flags=("--ssh-config", str(server.config)))
        assert done.is_whole, done.rows
        assert (fleet.folder / "there" / "current").exists()


def test_what_is_no_fleet(fleet: Fleet, device_bundle: Bundle, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no inventory"):
        hosts_of(tmp_path / "none")
    (tmp_path / "broken.yml").write_text("all: [\n")
    with pytest.raises(UsageError, match="inventory"):
        hosts_of(tmp_path / "broken.yml")
    (tmp_path / "empty.yml").write_text("all: {hosts: {}}\n")
    with pytest.raises(UsageError, match="has no host"):
        hosts_of(tmp_path / "empty.yml")
    with pytest.raises(UsageError, match="has no host"):
        hosts_of(fleet.inventory(), "nobody")
    assert hosts_of(fleet.inventory(), "host2,host5") == ["host2", "host5"]
    for wrong in ({"batches": ("0",)}, {"batches": ("x",)}, {"canaries": 0}, {"max_failed_percent": 101.0}):
        with pytest.raises(UsageError, match="got"):
            FleetOptions(**wrong)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="give another"):
        fleet.run(device_bundle, "../fleet")
    (tmp_path / "damaged").mkdir()
    shutil.copytree(device_bundle.path, tmp_path / "damaged", dirs_exist_ok=True)
    (tmp_path / "damaged" / "openvino" / "model.bin").write_bytes(b"")
    with pytest.raises(BundleError, match="damaged"):
        fleet.run(open_bundle(tmp_path / "damaged"))
    assert not (fleet.folder / "rollout").exists()


def test_the_command_line(fleet: Fleet, device_bundle: Bundle) -> None:
    fleet.vars = {host: fleet.vars[host] for host in ("host0", "host1")}
    fleet.vars["host1"]["edge_van_target"] = "cpu-arm"
    command = [
        sys.executable,
        "-m",
        "edge_van",
        "deploy",
        str(device_bundle.path),
        "--inventory",
        str(fleet.inventory()),
    ]
    command += ["--target", str(fleet.folder / "target.toml"), "--rollout", str(fleet.folder / "rollout")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, "COLUMNS": "200"})
    assert done.returncode == 1
    assert "1 active, 1 failed" in done.stdout
    assert "host1" in done.stdout
    assert done.stderr.strip().splitlines()[-1].startswith("edge-van: error: not every host has the bundle")
    assert (fleet.folder / "rollout" / LOG_NAME).exists()
    for words, text in ((["local"], "give one of the two"), (["--forks", "0"], "0")):
        wrong = subprocess.run([*command, *words], capture_output=True, text=True, check=False)
        assert wrong.returncode == 2
        assert text in wrong.stderr
    alone = subprocess.run(
        [*command[:5], "local", "--target", "cpu-x86", "--roll-back"], capture_output=True, text=True, check=False
    )
    assert alone.returncode == 2
    assert "--roll-back is of a fleet" in alone.stderr


def test_an_interrupted_rollout_says_what_it_changed(fleet: Fleet, device_bundle: Bundle) -> None:
    """Ctrl-C, as a terminal sends it to everything that runs there."""
    place = fleet.folder / "rollout"
    command = [sys.executable, "-m", "edge_van", "deploy", str(device_bundle.path), "--forks", "1", "--batches", "1"]
    command += ["--inventory", str(fleet.inventory()), "--target", str(fleet.folder / "target.toml")]
    process = subprocess.Popen([*command, "--rollout", str(place)], start_new_session=True, stderr=subprocess.PIPE)
    until = time.monotonic() + 120
    while time.monotonic() < until and not (fleet.folder / "home1" / "current").exists():
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)
    assert process.stderr is not None
    said = process.stderr.read().decode()
    assert process.wait(60) == 130, said
    found = read_rollout(place)
    rows = {row.host: row for row in found.rows}
    assert found.stopped == INTERRUPTED
    assert rows["host0"].state == "active"
    assert rows["host7"].state == "not tried"
    assert fleet.active()["host0"] == rows["host0"].release
    assert str(place) in said.splitlines()[-1]
