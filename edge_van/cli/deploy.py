"""``edge-van deploy`` and ``edge-van device``: a bundle to a device, and what is there.

In: arguments. Out: a table of the candidates, or the record as JSON, on standard output.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from edge_van.cli.types import POINTS, FilePath, Verbs, print_json
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


def _device(function: Callable[..., Any]) -> Callable[..., Any]:
    """The flags of what is there already: the target says where everything is kept, and by which Python."""
    flag = click.option("--target", metavar="NAME|FILE.toml", help="The one it was deployed with.")
    return flag(_reached(function))


@click.command()
@click.argument("bundle", type=_PATH)
@click.argument("host", metavar="HOST|local")
@click.option(
    "--target", required=True, metavar="NAME|FILE.toml", help="What kind of device it is; see docs/deploy.md."
)
@click.option("--candidate", "candidates", multiple=True, help="Try this one instead of the target's; may be repeated.")
@click.option("--runtime-python", metavar="PATH", help="The Python there that has OpenVINO, or edge-van for RTX.")
@click.option("--max-drop", type=POINTS, help="Largest drop of accuracy of what becomes active.  [default: recipe's]")
@click.option("--retime", is_flag=True, help="Time the candidates again, though the device has their times.")
@_reached
def deploy(bundle: Path, host: str, target: str, as_json: bool, max_drop: float | None, **flags: Any) -> None:
    """Put a bundle on a device: build, check and time what it offers there, and make the fastest good one active."""
    import edge_van

    options = edge_van.DeployOptions(max_drop_points=max_drop, **flags)
    done = edge_van.deploy(bundle, host, target, options=options, work=Work(Terminal()))
    if as_json:
        print_json(done)
        return
    from edge_van.cli.tables_deploy import show_deployed

    show_deployed(done, _given({"--target": target, "--ssh-config": flags["ssh_config"], "--root": flags["root"]}))


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
@_device
def rollback(host: str, as_json: bool, **flags: Any) -> None:
    """Make the release before the active one active."""
    import edge_van
    from edge_van.deployment.releases import DeviceOptions

    release = edge_van.rollback(host, DeviceOptions(**flags))
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
