"""The command line: verbs and flags. What a verb needs is imported inside it, so that ``--help`` is instant.

In: arguments. Out: results on standard output (one JSON document with ``--json``), everything else on standard error;
the exit code is the error's (see ``edge_van.errors``), 130 for an interrupt.
"""

from __future__ import annotations

import errno
import io
import sys
import warnings

import click

from edge_van.cli.benchmark import benchmark
from edge_van.cli.build import build
from edge_van.cli.deploy import deploy, device
from edge_van.cli.doctor import doctor
from edge_van.cli.export import export
from edge_van.cli.export_server import export_server
from edge_van.cli.fleet import fleet_rollback, pull, repository
from edge_van.cli.info import info
from edge_van.cli.predict import predict
from edge_van.cli.quantize import quantize
from edge_van.cli.report import report
from edge_van.cli.sensitivity import sensitivity
from edge_van.cli.sign import sign
from edge_van.cli.train import train
from edge_van.cli.types import Verbs, verbose_option
from edge_van.cli.validate import validate
from edge_van.errors import (
    EdgeVanError,
    MissingRuntimeError,
)
from edge_van.runtimes.telemetry import switch_off_telemetry
from edge_van.text import one_line, single_line
from edge_van.version import __version__

INTERRUPTED = 130
NOTHING_LEFT = "nothing half-written was left"
_EXTRAS = {
    "psutil": "benchmark",
    "cpuinfo": "benchmark",
    "matplotlib": "report",
    "jinja2": "report",
    "accelerate": "train",
}
"""What to install for a library that is missing; quantize holds all others."""


@click.group(
    cls=Verbs,
    params=[verbose_option()],
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
@click.version_option(__version__, package_name="edge-van")
def cli() -> None:
    """Visual Attention Networks on edge devices, in INT8, with the accuracy and the latency proved."""


for verb in (
    train,
    quantize,
    export,
    validate,
    sensitivity,
    benchmark,
    report,
    predict,
    build,
    export_server,
    sign,
    deploy,
    device,
    fleet_rollback,
    repository,
    pull,
    info,
    doctor,
):
    cli.add_command(verb)


def main() -> None:
    """The console script: runs a verb, turns an error into one line on standard error and its exit code."""
    verbose = "--verbose" in sys.argv
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a name that the terminal has no letters for
    switch_off_telemetry()
    warnings.filterwarnings("ignore", module="PIL")  # what is wrong with an image is said by its name
    try:
        code = cli.main(standalone_mode=False)
    except EdgeVanError as error:
        code = _fail(error, str(error), error.exit_code, verbose)
    except click.exceptions.Exit as stop:
        code = stop.exit_code
    except getattr(click.exceptions, "NoArgsIsHelpError", ()) as error:  # not there before click 8.2
        error.show()
        code = error.exit_code
    except click.ClickException as error:
        command = error.ctx.command_path if isinstance(error, click.UsageError) and error.ctx else "edge-van"
        text = single_line(error.format_message())
        code = _fail(error, f"{text} (see {command} --help)", error.exit_code, verbose)
    except (KeyboardInterrupt, click.exceptions.Abort) as stop:  # click ended the line of the ^C
        click.echo("; ".join(("edge-van: interrupted", NOTHING_LEFT, *_notes(stop))), err=True)
        code = INTERRUPTED
    except SystemExit as stop:  # SIGTERM or SIGHUP, see edge_van.storage.folders
        code = stop.code
        if isinstance(code, int) and code > 128:
            click.echo("; ".join(("edge-van: terminated", NOTHING_LEFT, *_notes(stop))), err=True)
    except BrokenPipeError:
        code = 1
    except ModuleNotFoundError as error:  # the slim install of a device has no torch: said here for every verb at once
        extra = _EXTRAS.get((error.name or "").split(".")[0], "quantize")
        text = f"this needs {error.name}, which is not installed: pip install 'edge-van[{extra}]'"
        code = _fail(error, text, MissingRuntimeError.exit_code, verbose)
    except Exception as error:  # noqa: BLE001  a defect of ours: one line, and the way to the traceback
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):  # most often standard output
            text = f"{error.filename or 'the output'} cannot be written ({error.strerror}): free some space"
        else:
            what = str(error).splitlines()[0] if str(error) else ""
            text = f"unexpected {type(error).__name__}: {what} (run with --verbose for the traceback)"
        code = _fail(error, text, 1, verbose)
    sys.exit(code if isinstance(code, int) else 0)


def _notes(stop: BaseException) -> list[str]:
    """What the verb says of being stopped; click's own exception has ours as its cause."""
    return [note for error in (stop, stop.__cause__) for note in getattr(error, "__notes__", ())]


def _fail(error: BaseException, text: str, code: int, verbose: bool) -> int:
    if verbose:
        import traceback

        traceback.print_exception(error)
    click.echo(f"edge-van: error: {one_line(text)}", err=True)
    return code
