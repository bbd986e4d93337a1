"""A bundle to many devices: canaries, then batches, by Ansible; what each host said, in one record.

In: a ``Bundle``, an Ansible inventory. Out: a ``Rollout``, and its folder: ``rollout.json``, ``rollout.md``, the log.

Ansible decides who is next and when to stop; each host gets the very deploy that a single device gets, from this
machine.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from edge_van.assets import ANSIBLE_DEPLOY, ANSIBLE_ROLLBACK, asset
from edge_van.bundle.bundle import Bundle, as_bundle, verify
from edge_van.deployment.rollout_record import (
    LOG_NAME,
    ROLLOUT_SCHEMA_VERSION,
    HostRow,
    Rollout,
    row_of,
    write_rollout,
)
from edge_van.errors import BundleError, DeviceError, MissingRuntimeError, UsageError
from edge_van.progress import UNWATCHED, Work
from edge_van.text import first_names, single_line

MISSING = "a fleet is deployed to by ansible-core: pip install 'edge-van[fleet]'"
LOOK_S = 0.5
TOO_MANY, INTERRUPTED = "too many failed", "it was interrupted, and hosts that were at work then are not known"


@dataclass(frozen=True)
class FleetOptions:
    """How a bundle goes to a fleet.

    target              of hosts whose inventory says none in ``edge_van_target``
    canaries            so many hosts first; one of them that fails stops the rollout
    batches             sizes of the batches after that, numbers or shares of the rest; the last one repeats
    max_failed_percent  more than this share of a batch stops the rollout
    forks               hosts at a time
    limit               a pattern of Ansible's: only these hosts
    flags               more flags of ``edge-van deploy``, for every host
    roll_back           where the rollout stops, those already changed go back to the release of before
    folder              where the record is written; by default a new ``rollout-TIME`` here
    """

    target: str | None = None
    canaries: int = 1
    batches: tuple[str, ...] = ("25%", "100%")
    max_failed_percent: float = 0.0
    forks: int = 10
    limit: str | None = None
    flags: tuple[str, ...] = ()
    roll_back: bool = False
    folder: Path | None = None

    def __post_init__(self) -> None:
        for name in ("canaries", "forks"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} is a number from 1 on; got {getattr(self, name)}")
        if not 0 <= self.max_failed_percent <= 100:
            raise UsageError(f"max_failed_percent is 0 to 100; got {self.max_failed_percent:g}")
        for size in self.batches:
            number = size.removesuffix("%")
            if not number.isascii() or not number.isdigit() or int(number) < 1:
                raise UsageError(f"a batch is a number of hosts or a share, 10 or 25%; got {size!r}")


@dataclass
class _Playbook:
    """Runs one playbook on one inventory; what each host said lies in ``said``, a file each."""

    inventory: Path
    folder: Path
    options: FleetOptions
    said: Path = field(init=False)

    def __post_init__(self) -> None:
        self.said = Path(tempfile.mkdtemp(prefix="edge-van-fleet-"))

    def run(self, playbook: str, variables: Mapping[str, Any], heard: Callable[[int], None]) -> int:
        """Ansible's exit code; ``heard`` is told of each host that is done."""
        given = {
            "edge_van_results": str(self.said),
            "edge_van_command": [sys.executable, "-m", "edge_van.deployment.one_host"],
        }
        place = self.said / "variables.json"
        place.write_text(json.dumps({**given, **variables}), encoding="utf-8")
        words = ["-i", str(self.inventory), "--forks", str(self.options.forks), "--extra-vars", f"@{place}"]
        with (self.folder / LOG_NAME).open("ab") as log:
            process = _ansible("ansible-playbook", [*words, str(asset(playbook))], stdout=log, stderr=log)
            done = threading.Event()
            listener = threading.Thread(target=self._listen, args=(done, heard), daemon=True)
            listener.start()
            try:
                return process.wait()
            except BaseException:
                process.terminate()
                process.wait()
                raise
            finally:
                done.set()
                listener.join()

    def _listen(self, done: threading.Event, heard: Callable[[int], None]) -> None:
        known = 0
        while True:
            is_last = done.wait(LOOK_S)
            now = len(list(self.said.glob("[0-9a-f]*.json")))
            if now > known:
                heard(now - known)
                known = now
            if is_last:
                return

    def answers(self) -> dict[str, dict[str, Any]]:
        """What each host's command said, by the host; and it is forgotten."""
        found = {}
        for path in sorted(self.said.glob("[0-9a-f]*.json")):
            answer = json.loads(path.read_text(encoding="utf-8"))
            found[str(answer["host"])] = answer
            path.unlink()
        return found


def deploy_fleet(
    bundle: Bundle | str | Path,
    inventory: str | Path,
    *,
    options: FleetOptions | None = None,
    work: Work = UNWATCHED,
) -> Rollout:
    """Put a bundle on every host of an inventory: canaries first, then batches, until too many of one fail.

    An inventory may say of a host or group ``edge_van_target``, ``edge_van_root``, ``edge_van_runtime_python`` and
    ``edge_van_host``. Hosts that fail do not raise: they are in the record. Raises ``UsageError`` for an inventory
    without hosts or one that Ansible cannot read, ``BundleError`` for a damaged bundle, ``MissingRuntimeError`` without
    Ansible, ``DeviceError`` where Ansible fails before any host was tried.
    """
    options, bundle, inventory = options or FleetOptions(), as_bundle(bundle), Path(inventory)
    hosts = hosts_of(inventory, options.limit)
    with work.reporter.stage("Checking the bundle"):
        if problems := verify(bundle):
            raise BundleError(f"the bundle {bundle.path} is damaged: {problems[0].detail}")
    began = datetime.now(timezone.utc)
    folder = options.folder or default_folder()
    try:
        folder.mkdir(parents=True, exist_ok=False)
    except OSError as error:
        raise UsageError(f"the rollout's folder {folder} cannot be made ({error.strerror}): give another") from None
    first, rest = hosts[: options.canaries], hosts[options.canaries :]
    variables = {
        "edge_van_bundle": str(bundle.path.resolve()),
        "edge_van_canaries": first,
        "edge_van_rest": rest,
        "edge_van_batches": [int(size) if size.isdigit() else size for size in options.batches],
        "edge_van_max_failed_percent": options.max_failed_percent,
        "edge_van_more_flags": list(options.flags),
        **({} if options.target is None else {"edge_van_default_target": options.target}),
    }
    playbook = _Playbook(inventory, folder, options)
    code, answers, stopped = 0, {}, INTERRUPTED
    try:
        with work.reporter.stage(f"Deploying to {len(hosts)} hosts", len(hosts)) as advance:
            code = playbook.run(ANSIBLE_DEPLOY, variables, advance)
        stopped = TOO_MANY
    except (KeyboardInterrupt, SystemExit) as stop:
        vars(stop)["__notes__"] = [*getattr(stop, "__notes__", ()), f"{folder} says what it has changed"]
        raise
    finally:  # an interrupted one, too, says what it has changed
        answers = playbook.answers()
        rows = tuple(row_of(host, answers.get(host), is_canary=host in first) for host in hosts)
        rollout = Rollout(
            schema_version=ROLLOUT_SCHEMA_VERSION,
            bundle=str(bundle.path.resolve()),
            inventory=str(inventory.resolve()),
            began=began.isoformat(timespec="seconds"),
            seconds=(datetime.now(timezone.utc) - began).total_seconds(),
            stopped=stopped if any(row.state == "not tried" for row in rows) else "",
            rows=rows,
        )
        write_rollout(folder, rollout)
    if code and not answers:
        raise DeviceError(f"Ansible failed before any host was tried: {_last_line(folder / LOG_NAME)}")
    if rollout.stopped and options.roll_back:
        return roll_back_fleet(folder, rollout, options=options, work=work)
    return rollout


def roll_back_fleet(
    folder: Path, rollout: Rollout, *, options: FleetOptions | None = None, work: Work = UNWATCHED
) -> Rollout:
    """Take the hosts that a rollout has changed back to the release of before, where its own is still active.

    Raises ``UsageError`` where it changed none."""
    options = options or FleetOptions()
    changed = {row.host: str(row.release) for row in rollout.rows if row.state == "active" and row.before}
    if not changed:
        raise UsageError(f"{folder} has changed no host that has a release of before")
    playbook = _Playbook(Path(rollout.inventory), folder, options)
    variables = {
        "edge_van_changed": list(changed),
        "edge_van_releases": changed,
        "edge_van_more_flags": _reaching(options.flags),
        **({} if options.target is None else {"edge_van_default_target": options.target}),
    }
    with work.reporter.stage(f"Rolling back {len(changed)} hosts", len(changed)) as advance:
        playbook.run(ANSIBLE_ROLLBACK, variables, advance)
    answers = playbook.answers()
    rows = tuple(_rolled_back(row, answers.get(row.host)) if row.host in changed else row for row in rollout.rows)
    rollout = replace(rollout, rows=rows)
    write_rollout(folder, rollout)
    return rollout


def default_folder() -> Path:
    """Of a rollout that begins now."""
    return Path(f"rollout-{datetime.now(timezone.utc):%Y%m%d-%H%M%S}")


def _rolled_back(row: HostRow, answer: dict[str, Any] | None) -> HostRow:
    if answer is None:
        return replace(row, error="not rolled back: Ansible did not come to it")
    if answer["code"]:
        return replace(row, error=f"not rolled back: {single_line(answer['err'].strip().splitlines()[-1])}")
    return replace(row, state="rolled back", release=json.loads(answer["out"])["name"], before=row.release)


def _reaching(flags: Sequence[str]) -> list[str]:
    """Of a deploy's flags those by which a host is reached."""
    at = [number for number, flag in enumerate(flags) if flag == "--ssh-config"]
    return [word for number in at for word in flags[number : number + 2]]


def hosts_of(inventory: Path, limit: str | None = None) -> list[str]:
    """Every host, in the inventory's order; raises as ``deploy_fleet``."""
    if not inventory.exists():
        raise UsageError(f"there is no inventory {inventory}: give a file of hosts, as Ansible has them")
    words = ["-i", str(inventory), "--list", *([] if limit is None else ["--limit", limit])]
    out, err = _ansible("ansible-inventory", words, stdout=subprocess.PIPE, stderr=subprocess.PIPE).communicate()
    text = err.decode("utf-8", "replace")
    try:
        groups = json.loads(out)
    except ValueError:
        raise UsageError(f"Ansible cannot read the inventory {inventory}: {_last(text)}") from None
    hosts: list[str] = []

    def gather(name: str) -> None:
        group = groups.get(name, {})
        hosts.extend(host for host in group.get("hosts", ()) if host not in hosts)
        for child in group.get("children", ()):
            gather(child)

    gather("all")
    if not hosts:
        limited = "" if limit is None else f" that {limit!r} fits"
        raise UsageError(f"the inventory {inventory} has no host{limited}: {_last(text) or 'add some'}")
    return hosts


def _ansible(program: str, words: Sequence[str], **pipes: Any) -> subprocess.Popen[bytes]:
    """The one that lies beside this Python; its own output stays plain."""
    path = Path(sys.executable).with_name(program)
    settings = {
        "ANSIBLE_NOCOLOR": "1",
        "ANSIBLE_RETRY_FILES_ENABLED": "0",
        "ANSIBLE_LOCALHOST_WARNING": "0",
        "ANSIBLE_INVENTORY_UNPARSED_FAILED": "1",
        "ANSIBLE_PYTHON_INTERPRETER": sys.executable,  # what runs here runs by this one
        "LC_ALL": "C.UTF-8",
    }
    try:
        return subprocess.Popen([str(path), *words], env={**os.environ, **settings}, stdin=subprocess.DEVNULL, **pipes)
    except OSError:
        raise MissingRuntimeError(MISSING) from None


def _last(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return single_line(lines[-1], 300) if lines else ""


def _last_line(log: Path) -> str:
    errors = [line for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if "ERROR" in line]
    return single_line(first_names(errors, 1), 300) if errors else f"see {log}"
