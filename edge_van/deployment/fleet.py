"""A bundle to many devices: canaries, then batches, by Ansible; what each host said, in one record.

In: a ``Bundle``, an Ansible inventory. Out: a ``Rollout``, and its folder: ``rollout.json``, ``rollout.md``, the log.

Ansible decides who is next and when to stop, and sees no more than the names of hosts; each gets the very deploy that a
single device gets, from this machine.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from edge_van.assets import ANSIBLE_DEPLOY, ANSIBLE_ROLLBACK
from edge_van.bundle.bundle import Bundle, as_bundle, verify
from edge_van.deployment import one_host
from edge_van.deployment.inventory import Common, FleetHost, hosts_of, last_line
from edge_van.deployment.playbook import PlaybookRun
from edge_van.deployment.rollout_record import (
    LOG_NAME,
    NOT_BACK,
    NOT_KNOWN,
    ROLLOUT_SCHEMA_VERSION,
    HostRow,
    Rollout,
    hosts_in_words,
    rolled_back,
    row_of,
    write_rollout,
)
from edge_van.errors import BundleError, DeviceError, UsageError
from edge_van.progress import UNWATCHED, Work

HOSTS = "hosts"
"""The folder of what each host is to do and has said, in the rollout's."""
CANARY = "a canary failed"
TOO_MANY = "too many of a batch failed"
BROKEN = "Ansible ended early, its log says why"
INTERRUPTED = "it was interrupted, and hosts that were at work then are not known"
CUT = "it has not ended, or was cut"
NO_RELEASE = f"{NOT_BACK}there is no release of before"


@dataclass(frozen=True)
class FleetOptions:
    """How a bundle goes to a fleet.

    common              what holds for hosts of which the inventory says nothing else
    canaries            so many hosts first; one of them that fails stops the rollout
    batches             sizes of the batches after that, numbers or shares of the rest; the last one repeats
    max_failed_percent  more than this share of a batch stops the rollout; a batch that fails whole does in any case
    forks               hosts at a time
    limit               a pattern of Ansible's: only these hosts
    flags               more flags of ``edge-van deploy``, for every host
    roll_back           where the rollout stops, those already changed go back to the release of before
    folder              where the record is written; by default a new ``rollout-TIME`` here
    """

    common: Common = field(default_factory=Common)
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
            is_number = number.isascii() and number.isdigit() and int(number) >= 1
            if not is_number or (number != size and int(number) > 100):
                raise UsageError(f"a batch is a number of hosts or a share up to 100%, 10 or 25%; got {size!r}")

    def split(self, rest: Sequence[str]) -> list[list[str]]:
        """The hosts after the canaries in batches, as Ansible makes them."""
        left, made = list(rest), []
        for number in range(len(left)):
            size = self.batches[min(number, len(self.batches) - 1)]
            share = size.removesuffix("%")
            count = int(share) if share == size else max(int(int(share) / 100.0 * len(rest)), 1)
            made.append(left[:count])
            left = left[count:]
            if not left:
                break
        return made


def deploy_fleet(
    bundle: Bundle | str | Path,
    inventory: str | Path,
    *,
    options: FleetOptions | None = None,
    work: Work = UNWATCHED,
) -> Rollout:
    """Put a bundle on every host of an inventory: canaries first, then batches, until too many of one fail.

    An inventory may say of a host or group ``edge_van_target``, ``edge_van_root``, ``edge_van_runtime_python`` and
    ``edge_van_host``. Hosts that fail do not raise: they are in the record. Raises as ``hosts_of``; ``BundleError`` for
    a damaged bundle, ``DeviceError`` where Ansible fails before any host was tried.
    """
    options, bundle, inventory = options or FleetOptions(), as_bundle(bundle), Path(inventory)
    hosts = hosts_of(inventory, options.common, options.limit)
    with work.reporter.stage("Checking the bundle"):
        if problems := verify(bundle):
            raise BundleError(f"the bundle {bundle.path} is damaged: {problems[0].detail}")
    began = datetime.now(timezone.utc)
    folder = options.folder or default_folder()
    try:
        folder.mkdir(parents=True, exist_ok=False)
    except OSError as error:
        raise UsageError(f"the rollout's folder {folder} cannot be made ({error.strerror}): give another") from None
    names = [host.name for host in hosts]
    canaries, rest = names[: options.canaries], names[options.canaries :]
    run = PlaybookRun(inventory, folder, HOSTS, options.forks)
    run.write({host.name: _deploy_words(bundle, host, options.flags) for host in hosts})
    variables = {
        "edge_van_canaries": canaries,
        "edge_van_rest": rest,
        "edge_van_batches": [int(size) if size.isdigit() else size for size in options.batches],
        "edge_van_max_failed_percent": options.max_failed_percent,
    }
    code, is_interrupted = 0, False
    rollout = Rollout(
        schema_version=ROLLOUT_SCHEMA_VERSION,
        bundle=str(bundle.path.resolve()),
        inventory=str(inventory.resolve()),
        began=began.isoformat(timespec="seconds"),
        seconds=0.0,
        stopped=CUT,
        rows=tuple(row_of(host, None, is_canary=host.name in canaries) for host in hosts),
    )
    write_rollout(folder, rollout)  # of a machine that loses its power, too, it is known which hosts are meant
    try:
        with work.reporter.stage(f"Deploying to {hosts_in_words(len(hosts))}", len(hosts)) as advance:
            code = run.playbook(ANSIBLE_DEPLOY, variables, advance)
    except (KeyboardInterrupt, SystemExit) as stop:
        is_interrupted = True
        vars(stop)["__notes__"] = [*getattr(stop, "__notes__", ()), f"{folder} says what it has changed"]
        raise
    finally:  # an interrupted one, too, says what it has changed
        said = run.answers()
        rows = tuple(row_of(host, said.get(host.name), is_canary=host.name in canaries) for host in hosts)
        stopped = INTERRUPTED if is_interrupted else _stopped(rows, options)
        seconds = (datetime.now(timezone.utc) - began).total_seconds()
        rollout = replace(rollout, rows=rows, stopped=stopped, seconds=seconds)
        write_rollout(folder, rollout)
    if code and not said:
        raise DeviceError(f"Ansible failed before any host was tried: {_error_in(folder / LOG_NAME)}")
    if rollout.stopped and options.roll_back:
        return roll_back_fleet(folder, rollout, forks=options.forks, work=work)
    return rollout


def roll_back_fleet(folder: Path, rollout: Rollout, *, forks: int = 10, work: Work = UNWATCHED) -> Rollout:
    """Take the hosts that a rollout has changed back to the release of before, where its own is still active.

    Those that had none before are left, and their rows say so. Of a rollout that was cut, by a power failure say, it is
    read anew what each host said."""
    if rollout.stopped == CUT:
        if one_host.is_at_work(folder / HOSTS):
            raise UsageError(f"the rollout of {folder} is at work: wait for its end, or end it")
        rollout = _as_they_said(folder, rollout)
    changed = {row.host: row for row in rollout.rows if row.state == "active" and row.before}
    said: dict[str, dict[str, Any]] = {}
    if changed:
        run = PlaybookRun(
            Path(rollout.inventory), folder, f"rollback-{datetime.now(timezone.utc):%Y%m%d-%H%M%S-%f}", forks
        )
        flags = {host: ["--from", str(row.release), "--json"] for host, row in changed.items()}
        run.write({h: ["device", "rollback", r.destination, *r.reach, *flags[h]] for h, r in changed.items()})
        try:
            with work.reporter.stage(f"Rolling back {hosts_in_words(len(changed))}", len(changed)) as advance:
                run.playbook(ANSIBLE_ROLLBACK, {"edge_van_changed": list(changed)}, advance)
        finally:
            said = run.answers()
            rows = tuple(rolled_back(row, said.get(row.host)) if row.host in changed else row for row in rollout.rows)
            rollout = replace(rollout, rows=rows)
            write_rollout(folder, rollout)
    rollout = replace(rollout, rows=tuple(map(_left, rollout.rows)))
    write_rollout(folder, rollout)
    return rollout


def _left(row: HostRow) -> HostRow:
    """Where there is nothing to go back to, its row says so."""
    if row.state == "active" and row.is_new and not row.before:
        return replace(row, error=NO_RELEASE)
    if row.state == NOT_KNOWN and not row.error.startswith(NOT_BACK):
        return replace(row, error=f"{NOT_BACK}{row.error}")
    return row


def _as_they_said(folder: Path, rollout: Rollout) -> Rollout:
    said = one_host.answers(folder / HOSTS)
    rows = tuple(
        row_of(FleetHost(row.host, row.destination, row.reach), said.get(row.host), is_canary=row.is_canary)
        for row in rollout.rows
    )
    return replace(rollout, rows=rows, stopped=INTERRUPTED)


def default_folder() -> Path:
    """Of a rollout that begins now."""
    return Path(f"rollout-{datetime.now(timezone.utc):%Y%m%d-%H%M%S}")


def _deploy_words(bundle: Bundle, host: FleetHost, flags: Sequence[str]) -> list[str]:
    runtime = [] if host.runtime_python is None else ["--runtime-python", host.runtime_python]
    return ["deploy", str(bundle.path.resolve()), host.destination, *host.reach, *runtime, *flags, "--json"]


def _stopped(rows: Sequence[HostRow], options: FleetOptions) -> str:
    """Why the rollout stopped, also where no host was left; "" where it did not."""
    if any(row.is_canary and row.state in ("failed", NOT_KNOWN) for row in rows):
        return CANARY
    failed = {row.host for row in rows if row.state in ("failed", NOT_KNOWN)}
    for batch in options.split([row.host for row in rows if not row.is_canary]):
        share = 100.0 * len(failed.intersection(batch)) / len(batch)
        if share > options.max_failed_percent or share == 100:
            return TOO_MANY
    return BROKEN if any(row.state == "not tried" for row in rows) else ""


def _error_in(log: Path) -> str:
    errors = [line for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if "ERROR" in line]
    return last_line(errors[0]) if errors else f"see {log}"
