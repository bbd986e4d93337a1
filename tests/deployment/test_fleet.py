"""A fleet of eight through real Ansible: where it stops, what each host has then, and the way back."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from deployment.sshd import HOST, ssh_server

from edge_van.bundle.bundle import Bundle, open_bundle
from edge_van.bundle.manifest import MANIFEST_NAME, encoded
from edge_van.deployment.connection import IN_DOUBT
from edge_van.deployment.fleet import (
    CANARY,
    CUT,
    INTERRUPTED,
    NO_RELEASE,
    TOO_MANY,
    FleetOptions,
    deploy_fleet,
    roll_back_fleet,
)
from edge_van.deployment.inventory import Common, hosts_of
from edge_van.deployment.one_host import (
    HELD_NAME,
    PLAN_NAME,
    answer_path,
    answers,
    at_work,
    is_at_work,
    write_plan,
)
from edge_van.deployment.releases import DeviceOptions, list_releases
from edge_van.deployment.rollout_record import (
    LOG_NAME,
    NOT_BACK,
    NOT_KNOWN,
    PAGE_NAME,
    Rollout,
    read_rollout,
    rolled_back,
    row_of,
)
from edge_van.errors import BundleError, UsageError
from edge_van.storage.folders import try_lock

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

DIES_LATE = """#!{python}
# A Python whose connection is lost when another release becomes active: what is said from then on does not arrive.
import os, subprocess, sys
lost, current = {root!r} + ".lost", {root!r} + "/current"
if os.path.exists(lost) and not {comes_back}:
    sys.exit("no route to host")
before = os.path.realpath(current)
child = subprocess.Popen([sys.executable, *sys.argv[1:]], stdout=subprocess.PIPE)
for line in child.stdout:
    if os.path.realpath(current) != before and not os.path.exists(lost):
        open(lost, "w").close()
        child.kill()
        break
    sys.stdout.buffer.write(line)
    sys.stdout.buffer.flush()
sys.exit(child.wait())
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

    def dies_at_activation(self, host: str, *, comes_back: bool) -> None:
        """Its agent is killed once ``current`` is another link, before it can say so."""
        root = self.vars[host]["edge_van_root"]
        program = self.folder / f"dies-{host}"
        program.write_text(DIES_LATE.format(python=sys.executable, root=root, comes_back=comes_back))
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
        common = Common(str(self.folder / "target.toml"), ssh_config=more.pop("ssh_config", None))
        options = FleetOptions(common=common, folder=self.folder / name, forks=2, **more)
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
    back = roll_back_fleet(fleet.folder / "second", done)
    rows = {row.host: row for row in back.rows}
    assert (rows["host0"].state, rows["host0"].release) == ("rolled back", before["host0"])
    assert rows["host1"].error.startswith("not rolled back: ")
    assert "is active here, not" in rows["host1"].error
    assert rows["host2"] == replace(done.rows[2], error=NO_RELEASE)
    assert fleet.active() == {"host0": before["host0"], "host1": newest, "host2": done.rows[2].release}
    assert read_rollout(fleet.folder / "second") == back


def test_what_was_active_already_is_no_change(fleet: Fleet, device_bundle: Bundle) -> None:
    """Nor an error: there is nothing to take back."""
    fleet.vars = {"host0": fleet.vars["host0"]}
    assert [row.is_new for row in fleet.run(device_bundle).rows] == [True]
    again = fleet.run(device_bundle, "again")
    assert [row.is_new for row in again.rows] == [False]
    assert roll_back_fleet(fleet.folder / "again", again).rows == again.rows


def test_a_root_of_this_machine_is_of_this_folder(
    fleet: Fleet, device_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of ``edge-van deploy BUNDLE local``, though Ansible works in another folder."""
    monkeypatch.chdir(tmp_path)
    fleet.vars = {"host0": {"ansible_connection": "local", "edge_van_root": "here/devices"}}
    assert fleet.run(device_bundle).is_whole
    assert (tmp_path / "here" / "devices" / "current").exists()


def test_through_ssh(fleet: Fleet, device_bundle: Bundle, tmp_path: Path) -> None:
    """By the client's own configuration, host names and all."""
    with ssh_server(tmp_path / "sshd") as server:
        fleet.vars = {HOST: {"edge_van_root": str(fleet.folder / "there"), "edge_van_host": HOST}}
        done = fleet.run(device_bundle, ssh_config=str(server.config))
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
    common = Common("cpu-x86")
    with pytest.raises(UsageError, match="has no host"):
        hosts_of(fleet.inventory(), common, "nobody")
    assert [host.name for host in hosts_of(fleet.inventory(), common, "host2,host5")] == ["host2", "host5"]
    for wrong in (
        {"batches": ("0",)},
        {"batches": ("x",)},
        {"batches": ("150%",)},
        {"canaries": 0},
        {"max_failed_percent": 101.0},
    ):
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


def test_a_rollout_that_is_killed_begins_no_other_host(fleet: Fleet, device_bundle: Bundle, second: Bundle) -> None:
    """And what was changed can be taken back: by the power supply nobody is asked."""
    fleet.vars = {f"host{n}": fleet.vars[f"host{n}"] for n in range(4)}
    fleet.run(device_bundle)
    before = fleet.active()
    place = fleet.folder / "second"
    command = [sys.executable, "-m", "edge_van", "deploy", str(second.path), "--forks", "1", "--batches", "1"]
    command += ["--inventory", str(fleet.inventory()), "--target", str(fleet.folder / "target.toml")]
    process = subprocess.Popen([*command, "--rollout", str(place)], stderr=subprocess.DEVNULL)
    canary = answer_path(place / "hosts", "host0")
    wait_for(canary.exists)
    with pytest.raises(UsageError, match="is at work: wait for its end"):
        roll_back_fleet(place, read_rollout(place))
    process.kill()
    process.wait()
    wait_for(lambda: "PLAY RECAP" in (place / LOG_NAME).read_text())  # of Ansible, which nobody ended
    assert "the rollout that this host belongs to has ended" in (place / LOG_NAME).read_text()
    begun = {path.stem for path in (place / "hosts").glob("*.begun")}
    assert len(begun) <= 2, "the canary, and at most the one that was at work when it was killed"
    assert all((place / "hosts" / f"{name}.json").exists() for name in begun)  # that one has gone on
    found = read_rollout(place)
    assert found.stopped == CUT
    back = roll_back_fleet(place, found)
    assert back.stopped == INTERRUPTED
    assert {row.state for row in back.rows} == {"rolled back", "not tried"}
    assert fleet.active() == before


def test_hosts_that_ask_at_once_do_not_take_each_other_for_the_rollout(tmp_path: Path) -> None:
    """Each asks by the lock that a rollout holds while it lives."""
    write_plan(tmp_path / "hosts", {"a": ["deploy"], "b": ["deploy"]})
    with (tmp_path / "hosts" / PLAN_NAME).open("rb") as other:
        assert try_lock(other.fileno(), shared=True)
        assert not is_at_work(tmp_path / "hosts")
    with at_work(tmp_path / "hosts"):
        assert is_at_work(tmp_path / "hosts")
    with (tmp_path / "hosts" / HELD_NAME).open("rb") as host:
        assert try_lock(host.fileno(), shared=True)
        assert is_at_work(tmp_path / "hosts"), "a host is, though nobody waits for it"
    assert not is_at_work(tmp_path / "hosts")


def wait_for(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.05)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupted_rollout_says_what_it_changed(fleet: Fleet, device_bundle: Bundle, number: int) -> None:
    """By a terminal, by whoever ends a job, by a connection that is gone: nothing goes on behind its back."""
    place = fleet.folder / "rollout"
    command = [sys.executable, "-m", "edge_van", "deploy", str(device_bundle.path), "--forks", "1", "--batches", "1"]
    command += ["--inventory", str(fleet.inventory()), "--target", str(fleet.folder / "target.toml")]
    process = subprocess.Popen([*command, "--rollout", str(place)], stderr=subprocess.PIPE, preexec_fn=hears)
    until = time.monotonic() + 120
    while time.monotonic() < until and not (fleet.folder / "home1" / "current").exists():
        time.sleep(0.05)
    process.send_signal(number)
    assert process.stderr is not None
    said = process.stderr.read().decode()
    assert process.wait(60) == 128 + number, said
    found = read_rollout(place)
    rows = {row.host: row for row in found.rows}
    assert found.stopped == INTERRUPTED
    assert rows["host0"].state == "active"
    assert rows["host7"].state == "not tried"
    assert fleet.active()["host0"] == rows["host0"].release
    assert str(place) in said.splitlines()[-1]
    before = fleet.active()
    time.sleep(3)
    assert fleet.active() == before


def hears() -> None:
    """Of a shell's background job, which is deaf to Ctrl-C."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


def test_how_hosts_are_reached(tmp_path: Path) -> None:
    """As the inventory says, each from here: what is said of a host wins over the command line."""
    (tmp_path / "mine.toml").write_text(TARGET.format(python=sys.executable))
    (tmp_path / "hosts.yml").write_text(
        """
all:
  children:
    kiosks:
      vars: {edge_van_target: cpu-arm, ansible_user: me}
      hosts:
        kiosk1:
        kiosk2: {ansible_host: 10.0.0.2, ansible_port: 2222, edge_van_runtime_python: ~/ov/bin/python}
        kiosk3: {ansible_host: "2001:db8::1", edge_van_root: /data/edge van}
    robots:
      vars: {edge_van_target: mine.toml}
      hosts:
        robot: {}
        here: {ansible_connection: local}
        "2001:db8::2":
        named: {edge_van_host: "ssh://other", edge_van_target: jetson-orin-nano}
"""
    )
    hosts = {host.name: host for host in hosts_of(tmp_path / "hosts.yml", Common("cpu-x86", root="/r", ssh_config="c"))}
    assert {name: host.destination for name, host in hosts.items()} == {
        "kiosk1": "ssh://me@kiosk1",
        "kiosk2": "ssh://me@10.0.0.2:2222",
        "kiosk3": "me@2001:db8::1",
        "robot": "robot",
        "2001:db8::2": "2001:db8::2",
        "here": "local",
        "named": "ssh://other",
    }
    config = ("--ssh-config", str(Path("c").resolve()))
    assert hosts["kiosk3"].reach == ("--target", "cpu-arm", "--root", "/data/edge van", *config)
    assert hosts["robot"].reach == ("--target", str(tmp_path / "mine.toml"), "--root", "/r", *config)
    assert hosts["kiosk2"].runtime_python == "~/ov/bin/python"
    for host in hosts.values():  # OpenSSH takes each
        if host.destination != "local":
            subprocess.run(["ssh", "-G", "--", host.destination], check=True, capture_output=True)


@pytest.mark.parametrize(
    ("hosts", "words"),
    [
        ({"a*": {}}, "a pattern to Ansible"),
        ({"a b": {}}, "a pattern to Ansible"),
        ({"a:b": {}, "a": {}, "b": {}}, "a pattern to Ansible"),
        ({"{{ 1 }}": {}}, "a pattern to Ansible"),
        ({"a": {"ansible_host": "::1", "ansible_port": 22, "edge_van_target": "cpu-arm"}}, "give it a Host in"),
        ({"a": {"edge_van_root": "{{ lookup('pipe', 'touch owned') }}"}}, "is a template"),
        ({"a": {"edge_van_target": ""}}, "has no target"),
        ({"a": {"edge_van_target": "cpu-x87"}}, "cpu-x87.*cpu-x86"),
        ({"a": {"edge_van_target": "cpu-x86", "edge_van_rot": "/r"}}, "edge_van_rot, which is none of edge_van_target"),
        ({name: {"edge_van_target": "cpu-x86", "edge_van_host": "me@orin"} for name in "ab"}, "a and b .*same place"),
    ],
)
def test_hosts_that_are_refused(tmp_path: Path, hosts: dict[str, Any], words: str) -> None:
    (tmp_path / "hosts.yml").write_text(json.dumps({"all": {"hosts": hosts}}))
    with pytest.raises(UsageError, match=words):
        hosts_of(tmp_path / "hosts.yml")


def test_a_host_that_is_a_group_too(tmp_path: Path) -> None:
    (tmp_path / "hosts.yml").write_text("all: {children: {web: {hosts: {web: {}, other: {}}}}}\n")
    with pytest.raises(UsageError, match="whose name is a group's, too"):
        hosts_of(tmp_path / "hosts.yml", Common("cpu-x86"))


def test_words_that_are_templates(fleet: Fleet, device_bundle: Bundle, tmp_path: Path) -> None:
    """A bundle's folder, a flag: Ansible never sees them."""
    folder = tmp_path / "b {{ 40 + 2 }}"
    shutil.copytree(device_bundle.path, folder)
    fleet.vars = {"host0": fleet.vars["host0"]}
    assert fleet.run(open_bundle(folder)).is_whole


def test_the_users_own_settings_of_ansible(
    fleet: Fleet, device_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They do not switch off what stops a rollout."""
    monkeypatch.setenv("ANSIBLE_STRATEGY", "free")
    monkeypatch.setenv("ANSIBLE_BECOME", "true")
    fleet.fails_its_check("host0")
    done = fleet.run(device_bundle, roll_back=True)
    assert [row.state for row in done.rows] == ["failed", *7 * ["not tried"]]
    assert done.stopped == CANARY


def test_a_host_that_is_lost_while_it_becomes_active(fleet: Fleet, device_bundle: Bundle, second: Bundle) -> None:
    """It is asked again. One that is gone for good is nobody's to take back, and that is said."""
    fleet.vars = {host: fleet.vars[host] for host in ("host0", "host1", "host2")}
    fleet.run(device_bundle)
    before = fleet.active()
    fleet.dies_at_activation("host1", comes_back=True)
    fleet.dies_at_activation("host2", comes_back=False)
    done = fleet.run(second, "second", batches=("100%",), roll_back=True)
    rows = {row.host: row for row in done.rows}
    assert [rows[f"host{n}"].state for n in range(3)] == ["rolled back", "rolled back", NOT_KNOWN]
    assert rows["host2"].error.startswith(NOT_BACK)
    assert IN_DOUBT in rows["host2"].error
    assert done.stopped == TOO_MANY
    now = fleet.active()
    assert (now["host0"], now["host1"]) == (before["host0"], before["host1"])
    again = subprocess.run(
        [sys.executable, "-m", "edge_van", "fleet-rollback", str(fleet.folder / "second")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert again.returncode == 1
    assert "1 host was not rolled back, the first is host2" in again.stderr


def test_what_an_inventory_says_of_all_hosts(fleet: Fleet, device_bundle: Bundle) -> None:
    """How Ansible itself would reach a host, and as whom it would run there, is not said of this machine."""
    traps = {"ansible_become": True, "ansible_become_user": "nobody", "ansible_become_exe": "/bin/false"}
    for name, real in (("localhost", "host0"), ("device.example.com", "host1")):
        values = {"edge_van_root": fleet.vars[real]["edge_van_root"], "edge_van_host": "local"}
        fleet.vars[name] = {**values, **traps, "ansible_connection": "ssh", "ansible_host": "192.0.2.1"}
    fleet.vars = {name: fleet.vars[name] for name in ("localhost", "device.example.com")}
    done = fleet.run(device_bundle)
    assert done.is_whole, done.rows


def test_the_last_batch_counts_too(fleet: Fleet, device_bundle: Bundle, second: Bundle) -> None:
    fleet.vars = {host: fleet.vars[host] for host in ("host0", "host1", "host2")}
    fleet.run(device_bundle)
    before = fleet.active()
    fleet.fails_its_check("host2")
    done = fleet.run(second, "second", batches=("100%",), roll_back=True)
    assert done.stopped == TOO_MANY
    assert {row.host: row.state for row in done.rows} == {
        "host0": "rolled back",
        "host1": "rolled back",
        "host2": "failed",
    }
    assert fleet.active() == before


def test_an_answer_that_is_none(tmp_path: Path) -> None:
    """The others count all the same."""
    host = hosts_of(Fleet(tmp_path / "f").inventory(), Common("cpu-x86"))[0]
    write_plan(tmp_path / "said", {"a": ["deploy"], "b": ["deploy"], "c": ["deploy"]})
    answer_path(tmp_path / "said", "a").write_text("{")
    answer_path(tmp_path / "said", "c").with_suffix(".begun").touch()
    answer_path(tmp_path / "said", "b").write_text(json.dumps({"code": 0, "out": "no JSON", "err": ""}))
    said = answers(tmp_path / "said")
    assert said.keys() == {"a", "b", "c"}
    for name in said:
        row = row_of(host, said[name], is_canary=False)
        assert row.state == ("failed" if name == "b" else NOT_KNOWN)
        assert ("not known" if name == "c" else "cannot be read") in row.error
        assert rolled_back(row, said[name]).error.startswith("not rolled back: ")
    assert rolled_back(row, {"code": -9, "out": "", "err": ""}).error == "not rolled back: exit code -9"


@pytest.mark.parametrize(
    ("batches", "sizes"),
    [(("25%", "100%"), [1, 6]), (("3",), [3, 3, 1]), (("10%", "2"), [1, 2, 2, 2]), (("1%",), 7 * [1])],
)
def test_sizes_of_batches(batches: tuple[str, ...], sizes: list[int]) -> None:
    assert [len(batch) for batch in FleetOptions(batches=batches).split(list("abcdefg"))] == sizes


def test_batches_are_ansibles() -> None:
    """Also where a share of hosts is not quite a whole number of them."""
    from ansible.utils.helpers import pct_to_int

    for share in range(1, 101):
        options = FleetOptions(batches=(f"{share}%",))
        for hosts in (1, 7, 50, 51, 90, 100, 199):
            first = options.split([str(number) for number in range(hosts)])[0]
            assert len(first) == pct_to_int(f"{share}%", hosts), (share, hosts)
