"""A hundred homes of this machine as a fleet, and twenty devices that pull: how long, how many bytes, how much work.

In: a bundle. Out: a table and a JSON. The homes share this machine's cores, so the seconds of each are those of a busy
device; what scales with their number is this side's work and what goes over the wire.
"""

from __future__ import annotations

import argparse
import functools
import http.server
import json
import resource
import shutil
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from common import RESULTS, write_result

from edge_van.bundle.bundle import Bundle, open_bundle
from edge_van.deployment.fleet import FleetOptions, deploy_fleet
from edge_van.deployment.inventory import Common
from edge_van.deployment.pull import PullOptions, pull
from edge_van.deployment.repository import Repository
from edge_van.deployment.rollout import DeployOptions
from edge_van.deployment.targets import load_target

TARGET = """title = "a home of this machine"
runtime = "openvino"
architecture = "x86_64"
candidates = ["openvino"]
python = [{python}]
runtime_python = [{python}]
rounds = 1
seconds = 0.1
warm_up_s = 0.0
"""


@dataclass
class Served:
    """A static file server's folder: what it was asked for and what it sent."""

    folder: Path
    requests: int = 0
    sent_bytes: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)


class Handler(http.server.SimpleHTTPRequestHandler):
    """Counts what goes out."""

    def __init__(self, served: Served, *args: Any) -> None:
        self.served = served
        super().__init__(*args, directory=str(served.folder))

    def copyfile(self, source: Any, outputfile: Any) -> None:
        content = source.read()
        with self.served.lock:
            self.served.requests += 1
            self.served.sent_bytes += len(content)
        outputfile.write(content)

    def log_message(self, *args: Any) -> None:
        """Nothing on standard error."""


def work_s() -> float:
    """Processor seconds of this process and of those it has waited for."""
    return sum(
        getattr(resource.getrusage(who), name)
        for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
        for name in ("ru_utime", "ru_stime")
    )


def time_fleet(bundle: Bundle, place: Path, hosts: int, forks: int) -> dict[str, Any]:
    """A first rollout, and one more, of which everything is there already."""
    target = place / "target.toml"
    target.write_text(TARGET.format(python=json.dumps(sys.executable)))
    homes = {
        f"host{n:03}": {"ansible_connection": "local", "edge_van_root": str(place / f"home{n}")} for n in range(hosts)
    }
    inventory = place / "inventory.yml"
    inventory.write_text(json.dumps({"all": {"hosts": homes}}))
    found: dict[str, Any] = {"hosts": hosts, "forks": forks}
    for name in ("first", "again"):
        began, worked = time.perf_counter(), work_s()
        options = FleetOptions(Common(str(target)), forks=forks, batches=("10%", "100%"), folder=place / name)
        rollout = deploy_fleet(bundle, inventory, options=options)
        if not rollout.is_whole:
            raise SystemExit(f"{rollout.summary}: see {place / name}")
        found[f"{name}_s"] = time.perf_counter() - began
        found[f"{name}_processor_s_a_host"] = (work_s() - worked) / hosts
    return found


def time_pull(bundle: Bundle, place: Path, devices: int, at_once: int) -> dict[str, Any]:
    """Every device for the first time, then with nothing new; ``at_once`` of them at a time."""
    repository = Repository(place / "repository", place / "keys")
    first = place / "root.json"
    shutil.copyfile(repository.create(), first)
    repository.add(bundle)
    (place / "pull.toml").write_text(TARGET.format(python=json.dumps(sys.executable)))
    target, served = load_target(place / "pull.toml"), Served(repository.folder)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, served))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_address[1]}"

    def one(number: int, root: Path | None) -> float:
        began = time.perf_counter()
        options = PullOptions(root=root, deploy=DeployOptions(root=str(place / f"device{number}")))
        pull(address, target, options=options)
        return time.perf_counter() - began

    found: dict[str, Any] = {"devices": devices, "at_once": at_once}
    for name, root in (("new", first), ("nothing_new", None)):
        served.requests = served.sent_bytes = 0
        began = time.perf_counter()
        with ThreadPoolExecutor(at_once) as pool:
            each = sorted(pool.map(functools.partial(one, root=root), range(devices)))
        found[name] = {
            "s": time.perf_counter() - began,
            "median_s_a_device": each[len(each) // 2],
            "requests_a_device": served.requests / devices,
            "bytes_a_device": served.sent_bytes / devices,
        }
    server.shutdown()
    return found


def main() -> None:
    """Time both, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--hosts", type=int, default=100)
    parser.add_argument("--forks", type=int, default=4)
    parser.add_argument("--devices", type=int, default=20)
    parser.add_argument("--at-once", type=int, default=2)
    parser.add_argument("--results", type=Path, default=RESULTS)
    args = parser.parse_args()
    bundle = open_bundle(args.bundle)
    with tempfile.TemporaryDirectory() as name:
        content = {
            "bundle_bytes": sum(entry.size_bytes for entry in bundle.manifest.files),
            "fleet": time_fleet(bundle, Path(name), args.hosts, args.forks),
            "pull": time_pull(bundle, Path(name), args.devices, args.at_once),
        }
    print(json.dumps(content, indent=1))
    write_result(args, content)


if __name__ == "__main__":
    sys.exit(main())
