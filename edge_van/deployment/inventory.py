"""The hosts of an Ansible inventory, and how edge-van reaches each.

In: an inventory's path, what the command line says of all. Out: ``FleetHost``s in the inventory's order.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from edge_van.deployment.targets import load_target
from edge_van.deployment.transport import LOCAL
from edge_van.errors import MissingRuntimeError, UsageError
from edge_van.text import single_line

MISSING = "a fleet is deployed to by ansible-core: pip install 'edge-van[fleet]'"
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@-]*")
"""Of a host, where it is no IPv6 address; Ansible takes others for a pattern of several hosts, or for a template."""
_OURS = ("edge_van_target", "edge_van_root", "edge_van_runtime_python", "edge_van_host")


@dataclass(frozen=True)
class FleetHost:
    """``destination`` is HOST of ``edge-van deploy``; ``reach`` are the flags by which it is reached and found."""

    name: str
    destination: str
    reach: tuple[str, ...]
    runtime_python: str | None = None


@dataclass(frozen=True)
class Common:
    """What holds for hosts of which the inventory says nothing else."""

    target: str | None = None
    root: str | None = None
    runtime_python: str | None = None
    ssh_config: str | None = None


def hosts_of(inventory: Path, common: Common | None = None, limit: str | None = None) -> tuple[FleetHost, ...]:
    """Every host that ``limit``, a pattern of Ansible's, leaves.

    ``UsageError`` for an inventory that Ansible cannot read, one without hosts, a name that is a pattern or a group's,
    a variable that is a template or none of ours, a host without a target or with an unknown one, and two that are the
    same place; ``MissingRuntimeError`` without Ansible.
    """
    common = common or Common()
    if not inventory.exists():
        raise UsageError(f"there is no inventory {inventory}: give a file of hosts, as Ansible has them")
    words = ["-i", str(inventory), "--list", *([] if limit is None else ["--limit", limit])]
    process = ansible("ansible-inventory", words, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    out, err = process.communicate()
    text = err.decode("utf-8", "replace")
    try:
        groups = json.loads(out)
    except ValueError:
        raise UsageError(f"Ansible cannot read the inventory {inventory}: {_why_unread(text)}") from None
    names: list[str] = []

    def gather(name: str) -> None:
        group = groups.get(name, {})
        names.extend(host for host in group.get("hosts", ()) if host not in names)
        for child in group.get("children", ()):
            gather(child)

    gather("all")
    if not names:
        limited = "" if limit is None else f" that {limit!r} fits"
        raise UsageError(f"the inventory {inventory} has no host{limited}: {last_line(text) or 'add some'}")
    variables = groups.get("_meta", {}).get("hostvars", {})
    for name in names:
        if not (_NAME.fullmatch(name) or is_ipv6(name)) or name in groups:
            what = "a group's, too" if name in groups else "a pattern to Ansible"
            raise UsageError(f"the inventory {inventory} has a host {name!r}, whose name is {what}: give it another")
    hosts = tuple(_host(name, variables.get(name, {}), common, inventory) for name in names)
    places: dict[tuple[str, ...], str] = {}
    for host in hosts:
        load_target(host.reach[host.reach.index("--target") + 1])
        root = host.reach[host.reach.index("--root") + 1] if "--root" in host.reach else ""
        if (other := places.setdefault((host.destination, root), host.name)) != host.name:
            raise UsageError(
                f"the hosts {other} and {host.name} of {inventory} are the same place, {host.destination}: give each "
                f"an edge_van_root or an address of its own"
            )
    return hosts


def _host(name: str, given: dict[str, Any], common: Common, inventory: Path) -> FleetHost:
    if unknown := sorted(key for key in given if key.startswith("edge_van_") and key not in _OURS):
        raise UsageError(f"the host {name} of {inventory} has {unknown[0]}, which is none of {', '.join(_OURS)}")
    known = (*_OURS, "ansible_connection", "ansible_host", "ansible_user", "ansible_port")
    said = {key: str(given[key]) for key in known if given.get(key) not in (None, "")}
    for key, value in said.items():
        if "{{" in value or "{%" in value:
            raise UsageError(f"{key} of the host {name} is a template ({value}): write it out in {inventory}")
    target = said.get("edge_van_target", common.target)
    if target is None:
        raise UsageError(f"the host {name} has no target: give --target, or edge_van_target in {inventory}")
    if target.endswith(".toml") and "edge_van_target" in said:
        target = str(inventory.parent / target)  # one of the inventory's own lies beside it
    destination = said.get("edge_van_host") or _destination(name, said)
    root = said.get("edge_van_root", common.root)
    if root is not None and destination == LOCAL:  # whoever runs its command may do so from another folder
        root = str(Path(root).expanduser().absolute())
    flags = {
        "--target": str(Path(target).resolve()) if target.endswith(".toml") else target,
        "--root": root,
        "--ssh-config": None if common.ssh_config is None else str(Path(common.ssh_config).resolve()),
    }
    reach = tuple(word for flag, value in flags.items() if value is not None for word in (flag, value))
    runtime = said.get("edge_van_runtime_python", common.runtime_python)
    return FleetHost(name, destination, reach, runtime)


def _destination(name: str, said: dict[str, str]) -> str:
    """As ssh takes it: the name itself where the inventory says no more, so that ~/.ssh/config has it."""
    if said.get("ansible_connection") == "local":
        return LOCAL
    address = said.get("ansible_host", name)
    user, port = said.get("ansible_user"), said.get("ansible_port")
    if user is None and port is None and ":" not in address:
        return address
    if ":" in address:  # OpenSSH has no address of IPv6 in an ssh://
        if port is not None:
            raise UsageError(
                f"the host {name} has an IPv6 address and a port: give it a Host in ~/.ssh/config, and name that in "
                f"edge_van_host"
            )
        return address if user is None else f"{user}@{address}"
    return f"ssh://{'' if user is None else f'{user}@'}{address}{'' if port is None else f':{port}'}"


def is_ipv6(name: str) -> bool:
    """An address as it is written, without a scope or a port."""
    try:
        return ip_address(name).version == 6 and "%" not in name
    except ValueError:
        return False


def ansible(program: str, words: Sequence[str], *, more: dict[str, str] | None = None, **how: Any) -> Any:
    """One of Ansible's programs, that which lies beside this Python; ``more`` goes into its environment."""
    path = Path(sys.executable).with_name(program)
    settings = {
        "ANSIBLE_NOCOLOR": "1",
        "ANSIBLE_RETRY_FILES_ENABLED": "0",
        "ANSIBLE_LOCALHOST_WARNING": "0",
        "ANSIBLE_INVENTORY_UNPARSED_FAILED": "1",
        "ANSIBLE_PYTHON_INTERPRETER": sys.executable,  # what runs here runs by this one
        "LC_ALL": "C.UTF-8",
    }
    environment = {**os.environ, **settings, **(more or {})}
    try:
        return subprocess.Popen([str(path), *words], env=environment, stdin=subprocess.DEVNULL, **how)
    except OSError:
        raise MissingRuntimeError(MISSING) from None


def _why_unread(text: str) -> str:
    """Of what Ansible said: the first of its plugins that tried, and where in the file."""
    why = re.search(r"Failed to parse inventory with '\w+' plugin: (.+)", text)
    place = re.search(r"Origin: \S+?:(\d+):\d+", text)
    said = last_line(text) if why is None else single_line(why[1], 300)
    return said if place is None else f"{said} (line {place[1]})"


def last_line(text: str) -> str:
    """Of what a program said; "" where it said nothing."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return single_line(lines[-1], 300) if lines else ""
