"""``edge-van pull`` and ``edge-van repository``: devices that nobody reaches from outside, and what they pull from.

In: arguments. Out: what was deployed, or the repository's folder.
"""

from __future__ import annotations

import shlex
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import click

from edge_van.cli.types import POINTS, FilePath, Verbs, Word, print_json
from edge_van.errors import DeviceError
from edge_van.progress import Terminal, Work
from edge_van.text import one_line

_PATH = FilePath()
_CHANNEL = click.option("--channel", default="stable", show_default=True, help="Which of the repository's bundles.")
_KEYS = click.option("--keys", type=_PATH, required=True, help="The folder of the roles' private keys.")


@click.command()
@click.argument("address", type=Word(), metavar="URL")
@click.option("--target", required=True, metavar="NAME|FILE.toml", help="What kind of device this is.")
@_CHANNEL
@click.option("--root-file", type=_PATH, metavar="root.json", help="The repository's first root file; needed once.")
@click.option("--runtime-python", metavar="PATH", help="The Python here that has OpenVINO, or edge-van for RTX.")
@click.option("--max-drop", type=POINTS, help="Largest drop of accuracy of what becomes active.  [default: recipe's]")
@click.option("--root", metavar="DIR", help="Where everything is kept.  [default: the target's]")
@click.option("--json", "as_json", is_flag=True, help="The result as JSON on standard output.")
def pull(address: str, target: str, channel: str, root_file: Path | None, as_json: bool, **flags: Any) -> None:
    """On a device: deploy what a repository has for it, where that is new."""
    import edge_van

    deploy = edge_van.DeployOptions(
        max_drop_points=flags["max_drop"], root=flags["root"], runtime_python=flags["runtime_python"]
    )
    options = edge_van.PullOptions(channel=channel, root=root_file, deploy=deploy)
    done = edge_van.pull(address, target, options=options, work=Work(Terminal()))
    if as_json:
        print_json(done)
    elif done.deployed is None:
        click.echo("Nothing new: what was deployed last is what the repository has")
    else:
        from edge_van.cli.tables_deploy import show_deployed

        root = [] if flags["root"] is None else ["--root", flags["root"]]
        show_deployed(done.deployed, ["--target", target, *root])  # the next commands find it there


@click.command("fleet-rollback")
@click.argument("folder", type=_PATH, metavar="ROLLOUT")
@click.option("--forks", type=click.IntRange(1), default=10, show_default=True, help="Hosts at the same time.")
@click.option("--json", "as_json", is_flag=True, help="The record as JSON on standard output.")
def fleet_rollback(folder: Path, forks: int, as_json: bool) -> None:
    """Take the hosts that a rollout has changed back to the release of before."""
    from edge_van.deployment.fleet import roll_back_fleet
    from edge_van.deployment.rollout_record import NOT_BACK, read_rollout

    done = roll_back_fleet(folder, read_rollout(folder), forks=forks, work=Work(Terminal()))
    if as_json:
        print_json(done)
    else:
        from edge_van.cli.tables_fleet import show_rollout

        show_rollout(done, folder)
    if left := [row.host for row in done.rows if row.error.startswith(NOT_BACK)]:
        were = "host was" if len(left) == 1 else "hosts were"
        raise DeviceError(f"{len(left)} {were} not rolled back, the first is {one_line(left[0])}: {folder} says why")


@click.group(cls=Verbs)
def repository() -> None:
    """A TUF repository of bundles, for any static file server, that devices pull from."""


@repository.command("init")
@click.argument("folder", type=_PATH)
@_KEYS
def init(folder: Path, keys: Path) -> None:
    """Make an empty repository, and a key for each role."""
    from edge_van.deployment.repository import Repository

    root = Repository(folder, keys).create()
    click.echo(f"Made: {one_line(str(folder))}, keys in {one_line(str(keys))}")
    add = shlex.join(["edge-van", "repository", "add", str(folder), "BUNDLE", "--keys", str(keys)])
    click.echo(f"Next:  {one_line(add)}")
    click.echo(f"Give every device {one_line(str(root))} once: edge-van pull URL --target NAME --root-file {root.name}")


@repository.command("add")
@click.argument("folder", type=_PATH)
@click.argument("bundle", type=_PATH)
@_KEYS
@_CHANNEL
def add(folder: Path, bundle: Path, keys: Path, channel: str) -> None:
    """Make a bundle what devices of a channel pull next."""
    from edge_van.deployment.repository import Repository

    written = Repository(folder, keys).add(bundle, channel)
    click.echo(f"Added to {channel}: {one_line(str(bundle))}, {written / 1e6:,.1f} MB of files are new")


@repository.command("refresh")
@click.argument("folder", type=_PATH)
@_KEYS
def refresh(folder: Path, keys: Path) -> None:
    """Sign snapshot and timestamp anew, before they expire: every day, by cron say."""
    from edge_van.deployment.repository import LIFE, RENEWED_BEFORE, Repository

    expires = Repository(folder, keys).refresh()
    click.echo(f"Good until {min(expires.values()).isoformat()}")
    now = datetime.now(timezone.utc)
    for role, until in expires.items():
        if LIFE[role] > RENEWED_BEFORE > until - now:
            click.echo(f"warning: {role}.json expires on {until:%Y-%m-%d}, and its key is not in --keys", err=True)


@repository.command("prune")
@click.argument("folder", type=_PATH)
@click.option(
    "--days", type=click.FloatRange(0), default=7, show_default=True, help="So long what was replaced still stays."
)
def prune(folder: Path, days: float) -> None:
    """Remove the files of bundles that devices ask for no more."""
    from edge_van.deployment.prune import prune as remove

    files, size = remove(folder, timedelta(days=days))
    click.echo(f"Removed: {files} files, {size / 1e6:,.1f} MB")


@repository.command("rotate")
@click.argument("folder", type=_PATH)
@click.argument("role", type=Word(), metavar="root|targets|snapshot|timestamp")
@_KEYS
def rotate(folder: Path, role: str, keys: Path) -> None:
    """Give a role a new key; devices follow without being touched."""
    from edge_van.deployment.repository import Repository

    Repository(folder, keys).rotate(role)
    click.echo(f"The {role} role has a new key in {one_line(str(keys))}")
