"""``edge-van deploy`` and ``edge-van device``: a bundle to a device, and what is there.

In: arguments. Out: a table of the candidates, or the record as JSON, on standard output.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from edge_van.cli.types import PERCENT, POINTS, FilePath, Verbs, Word, print_json
from edge_van.errors import DeviceError, UsageError
from edge_van.progress import Terminal, Work
from edge_van.text import one_line

_PATH = FilePath()


def _reached(function: Callable[..., Any]) -> Callable[..., Any]:
    """The flags by which a device is reached."""
    flags = (
        click.option("--ssh-config", type=_PATH, help="Instead of ~/.ssh/config."),
        click.option("--root", metavar="DIR", help="Where everything is kept on the device.  [default: the target's]"),
        click.option("--json", "as_json", is_flag=True, help="The result as JSON on standard output."),
    )
    for flag in reversed(flags):
        function = flag(function)
    return function


_FLEET = ("inventory", "canaries", "batches", "max_failed", "forks", "limit", "roll_back", "rollout")


def _fleet(function: Callable[..., Any]) -> Callable[..., Any]:
    """The flags of a deploy to many devices."""
    flags = (
        click.option("--inventory", type=_PATH, help="Ansible's, in place of HOST: every host in it."),
        click.option("--canaries", type=click.IntRange(1), help="So many hosts first, all of which must hold.  [1]"),
        click.option("--batches", metavar="N|N%,...", help="How many at a time after them.  [25%,100%]"),
        click.option("--max-failed", type=PERCENT, metavar="PERCENT", help="Of a batch; over it, stop.  [0]"),
        click.option("--forks", type=click.IntRange(1), help="Hosts at the same time.  [10]"),
        click.option("--limit", type=Word(), metavar="PATTERN", help="Of Ansible's: only these hosts."),
        click.option("--roll-back", is_flag=True, help="Where it stops, take changed hosts back."),
        click.option("--rollout", type=_PATH, metavar="DIR", help="Where its record goes.  [rollout-TIME]"),
    )
    for flag in reversed(flags):
        function = flag(function)
    return function


def _device(function: Callable[..., Any]) -> Callable[..., Any]:
    """The flags of what is there already: the target says where everything is kept, and by which Python."""
    flag = click.option("--target", metavar="NAME|FILE.toml", help="The one it was deployed with.")
    return flag(_reached(function))


@click.command()
@click.argument("bundle", type=_PATH)
@click.argument("host", metavar="HOST|local", required=False)
@click.option("--target", metavar="NAME|FILE.toml", help="What kind of device it is; see docs/deploy.md.")
@_fleet
@click.option("--candidate", "candidates", multiple=True, help="Try this one instead of the target's; may be repeated.")
@click.option("--runtime-python", metavar="PATH", help="The Python there that has OpenVINO, or edge-van for RTX.")
@click.option("--max-drop", type=POINTS, help="Largest drop of accuracy of what becomes active.  [default: recipe's]")
@click.option("--retime", is_flag=True, help="Time the candidates again, though the device has their times.")
@_reached
def deploy(
    bundle: Path, host: str | None, target: str | None, as_json: bool, max_drop: float | None, **flags: Any
) -> None:
    """Put a bundle on a device: build, check and time what it offers there, and make the fastest good one active.

    With --inventory on many: canaries first, then batches. Each gets the same deploy; see docs/fleet.md.
    """
    fleet = {name: flags.pop(name) for name in _FLEET}
    if fleet["inventory"] is not None:
        if host is not None:
            raise UsageError("HOST is one device, and --inventory names many: give one of the two")
        _deploy_fleet(bundle, target, as_json, fleet, {**flags, "max_drop": max_drop})
        return
    if given := [f"--{name.replace('_', '-')}" for name, value in fleet.items() if value not in (None, False)]:
        raise UsageError(f"{given[0]} is of a fleet: give its hosts with --inventory")
    if host is None or target is None:
        raise UsageError("a deploy takes BUNDLE, HOST and --target, or BUNDLE and --inventory")
    import edge_van

    options = edge_van.DeployOptions(max_drop_points=max_drop, **flags)
    done = edge_van.deploy(bundle, host, target, options=options, work=Work(Terminal()))
    if as_json:
        print_json(done)
        return
    from edge_van.cli.tables_deploy import show_deployed

    show_deployed(done, _given({"--target": target, "--ssh-config": flags["ssh_config"], "--root": flags["root"]}))


def _deploy_fleet(
    bundle: Path, target: str | None, as_json: bool, fleet: dict[str, Any], flags: dict[str, Any]
) -> None:
    """As ``deploy``; ``DeviceError`` where a host is left without the bundle, once that is said."""
    import edge_van
    from edge_van.deployment.fleet import FleetOptions, default_folder
    from edge_van.deployment.inventory import Common

    more = _given({"--max-drop": flags["max_drop"]})
    more += [word for name in flags["candidates"] for word in ("--candidate", name)]
    more += ["--retime"] if flags["retime"] else []
    config = flags["ssh_config"]
    common = Common(target, flags["root"], flags["runtime_python"], None if config is None else str(config))
    batches = fleet["batches"]
    given = {
        "batches": None if batches is None else tuple(size.strip() for size in batches.split(",")),
        "max_failed_percent": fleet["max_failed"],
        **{name: fleet[name] for name in ("canaries", "forks", "limit", "roll_back")},
    }
    folder = fleet["rollout"] or default_folder()
    kept = {name: value for name, value in given.items() if value is not None}
    options = FleetOptions(common=common, flags=tuple(more), folder=folder, **kept)
    done = edge_van.deploy_fleet(bundle, fleet["inventory"], options=options, work=Work(Terminal()))
    if as_json:
        print_json(done)
    else:
        from edge_van.cli.tables_fleet import show_rollout

        show_rollout(done, folder)
    if not done.is_whole:
        raise DeviceError(f"not every host has the bundle: {done.summary}; {folder} says why of each")


def _given(flags: dict[str, Any]) -> list[str]:
    return [str(word) for flag, value in flags.items() if value is not None for word in (flag, value)]


@click.group(cls=Verbs)
def device() -> None:
    """What is on a device: itself, its releases, and back to an earlier one."""


@device.command()
@click.argument("host", metavar="HOST|local")
@_device
def probe(host: str, as_json: bool, **flags: Any) -> None:
    """Module, versions, memory, disk, power mode and temperatures."""
    from edge_van.deployment.releases import DeviceOptions, probe_device

    found = probe_device(host, DeviceOptions(**flags))
    if as_json:
        print_json(found)
        return
    from edge_van.cli.tables_deploy import show_device

    show_device(found, with_errors=flags["target"] is not None)


@device.command("list")
@click.argument("host", metavar="HOST|local")
@_device
def list_(host: str, as_json: bool, **flags: Any) -> None:
    """The releases, and which is active."""
    from edge_van.deployment.releases import DeviceOptions, list_releases

    found = list_releases(host, DeviceOptions(**flags))
    if as_json:
        print_json(found)
        return
    from edge_van.cli.tables_deploy import show_releases

    show_releases(found)


@device.command()
@click.argument("host", metavar="HOST|local")
@click.option("--from", "only_from", metavar="RELEASE", help="Only where this one is active.")
@_device
def rollback(host: str, only_from: str | None, as_json: bool, **flags: Any) -> None:
    """Make the release before the active one active."""
    import edge_van
    from edge_van.deployment.releases import DeviceOptions

    release = edge_van.rollback(host, DeviceOptions(**flags), only_from)
    if as_json:
        print_json(release)
    else:
        click.echo(f"Active: {one_line(release.name)}")


@device.command()
@click.argument("host", metavar="HOST|local")
@click.argument("keys", type=_PATH, nargs=-1, required=True, metavar="KEY.pub...")
@click.option("--by", type=_PATH, metavar="KEY", help="Private key of one it trusts: others are taken from that alone.")
@_device
def trust(host: str, keys: tuple[Path, ...], by: Path | None, as_json: bool, **flags: Any) -> None:
    """Take bundles from now on only where one of these keys signed them."""
    from edge_van.deployment.releases import DeviceOptions
    from edge_van.deployment.releases import trust as trust_keys

    kept = trust_keys(host, keys, by, DeviceOptions(**flags))
    if as_json:
        print_json({"signers": kept})
    else:
        click.echo(f"Trusted: {len(keys)} {'key' if len(keys) == 1 else 'keys'}, in {one_line(kept)}")


@device.command()
@click.argument("host", metavar="HOST|local")
@click.option("--keep", type=click.IntRange(0), default=1, show_default=True, help="Releases before the active one.")
@_device
def prune(host: str, keep: int, as_json: bool, **flags: Any) -> None:
    """Remove all releases but the active one and some before it, and what only they need."""
    from edge_van.deployment.releases import DeviceOptions
    from edge_van.deployment.releases import prune as prune_device

    removed = prune_device(host, keep, DeviceOptions(**flags))
    if as_json:
        print_json({"removed": removed})
    else:
        click.echo(f"Removed: {one_line(', '.join(removed)) or 'nothing'}")
