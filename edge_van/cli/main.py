"""The command line: verbs and flags. What a verb needs is imported inside it, so that ``--help`` is instant.

In: arguments. Out: results on standard output (one JSON document with ``--json``), everything else on standard error;
the exit code is the error's (see ``edge_van.errors``), 130 for an interrupt.
"""

from __future__ import annotations

import errno
import io
import sys
import warnings
from pathlib import Path
from typing import Any

import click

from edge_van import __version__
from edge_van.cli.benchmark import benchmark
from edge_van.cli.predict import predict
from edge_van.cli.quantize import quantize
from edge_van.cli.report import report
from edge_van.cli.types import POINTS, Sizes, Verbs, print_json, verbose_option
from edge_van.errors import (
    AccuracyGateError,
    BundleError,
    EdgeVanError,
    MissingRuntimeError,
    UsageError,
    VerificationError,
)
from edge_van.runtimes.telemetry import switch_off_telemetry
from edge_van.text import one_line, single_line

_PATH = click.Path(path_type=Path)
INTERRUPTED = 130
_EXTRAS = {
    "psutil": "benchmark",
    "cpuinfo": "benchmark",
    "matplotlib": "report",
    "jinja2": "report",
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


@cli.command()
@click.argument("bundle", type=_PATH)
@click.option("--data", type=_PATH, required=True, help="Labelled images: folder or zip, one folder a class.")
@click.option(
    "--max-drop", type=POINTS, help="Largest top-1 drop in points; over it the exit code is 3.  [default: no limit]"
)
@click.option(
    "--scheme", help="A TensorRT graph (int8, int8_pointwise, fp16), computed exactly, instead of OpenVINO's."
)
@click.option(
    "--engine", metavar="TARGET", help="A target of edge-van build, on its GPU: the active engine, or --scheme's."
)
@click.option("--limit", type=int, help="Use so many images, spread evenly over all.")
@click.option("--batch", type=click.IntRange(1, 1024), default=32, show_default=True)
@click.option("--strict", is_flag=True, help="A broken image is fatal instead of left out and counted.")
@click.option("--json", "as_json", is_flag=True, help="The accuracy record as JSON on standard output.")
def validate(bundle: Path, data: Path, max_drop: float | None, as_json: bool, **flags: Any) -> None:
    """Measure a bundle's accuracy: FP32 against INT8 on the same images."""
    from edge_van.bundle.bundle import open_bundle
    from edge_van.evaluation.bundle import validate_bundle
    from edge_van.evaluation.gates import accuracy_gate, doubts
    from edge_van.images.stream import BrokenImage
    from edge_van.progress import Terminal

    reporter = Terminal()

    def on_broken(image: BrokenImage) -> None:
        reporter.note(f"warning: {image.name} is broken and left out: {image.reason}")

    accuracy = validate_bundle(open_bundle(bundle), data, reporter, on_broken=on_broken, **flags)
    if as_json:
        print_json(accuracy)
    else:
        from edge_van.cli.tables import show_accuracy

        show_accuracy(accuracy)
    if max_drop is not None:
        if doubt := doubts(accuracy, max_drop):
            reporter.note(f"warning: {doubt}")
        accuracy_gate(accuracy, max_drop)


@cli.command()
@click.argument("bundle", type=_PATH)
@click.option(
    "--runtime",
    type=click.Choice(("tensorrt", "trtexec", "tensorrt_rtx")),
    help="The GPU's own TensorRT, JetPack's trtexec, or TensorRT for RTX, which builds ahead of time without a GPU.",
)
@click.option(
    "--compute-capability",
    "capabilities",
    multiple=True,
    metavar="SM86|8.6",
    help="For tensorrt_rtx: a card to build for; give it again for more in one engine.",
)
@click.option("--scheme", "schemes", multiple=True, help="Build this scheme only; may be given again.")
@click.option("--max-drop", type=POINTS, help="Largest top-1 drop of the engine that is chosen.  [default: recipe's]")
@click.option("--max-batch", type=click.IntRange(1, 1024), default=1, show_default=True)
@click.option("--timing-cache", type=_PATH, help="A file the builder's timings are read from and written to.")
@click.option("--allow-fallback", is_flag=True, help="A layer in another datatype than its scheme says is a warning.")
@click.option("--json", "as_json", is_flag=True, help="The engines' records as JSON on standard output.")
def build(bundle: Path, capabilities: tuple[str, ...], as_json: bool, max_drop: float | None, **flags: Any) -> None:
    """Build TensorRT engines of every scheme, prove their precision, time them where a GPU is, choose the fastest."""
    from edge_van.bundle.bundle import open_bundle
    from edge_van.engines.build import build_engines
    from edge_van.engines.target import EnginesOptions
    from edge_van.progress import Terminal

    opened = open_bundle(bundle)
    limit = float(opened.manifest.recipe.get("max_drop_points", 1.0)) if max_drop is None else max_drop
    options = EnginesOptions(compute_capabilities=capabilities, max_drop_points=limit, **flags)
    built = build_engines(opened, options, Terminal())
    updated, tag = built.bundle, built.target
    if as_json:
        found = updated.manifest.engines[tag]
        print_json({"target": tag, "engines": found.engines, "choice": found.choice})
    else:
        from edge_van.cli.tables import show_engines

        show_engines(updated, tag)
    from edge_van.engines.choice import over_the_limit

    choice = updated.manifest.engines[tag].choice
    if over_the_limit(choice):
        raise AccuracyGateError(f"no engine is active: {choice.reason}")
    if built.failed:
        raise VerificationError(f"not built: {'; '.join(f'{name}: {why}' for name, why in built.failed.items())}")


@cli.command()
@click.argument("bundle", type=_PATH, required=False)
@click.option("--variant", metavar="b0..b6", help="One variant only.")
@click.option("--input-size", type=Sizes(), help="What the network sees.  [default: 224]")
@click.option("--kernel-size", type=click.IntRange(1, 255), help="Of the LKA table.  [default: 21]")
@click.option("--dla", is_flag=True, help="What a Jetson's DLA would take of the network, layer by layer, instead.")
@click.option("--json", "as_json", is_flag=True)
def info(
    bundle: Path | None,
    variant: str | None,
    input_size: tuple[int, int] | None,
    kernel_size: int | None,
    dla: bool,
    as_json: bool,
) -> None:
    """Parameters and MACs of every variant beside the paper's; with BUNDLE, what was measured of it."""
    if bundle is not None:
        if dla or (variant, input_size, kernel_size) != (None, None, None):
            raise UsageError("info tells of a BUNDLE or of the variants: leave the other flags out")
        from edge_van.bundle.bundle import open_bundle
        from edge_van.cli.tables import show_bundle

        opened = open_bundle(bundle)
        print_json(opened.manifest) if as_json else show_bundle(opened)
        return
    if dla and kernel_size is not None:
        raise UsageError("--dla reports on the network as it is, with the LKA of 21: leave --kernel-size out")
    input_size, kernel_size = input_size or (224, 224), kernel_size or 21
    if dla:
        from edge_van.cli.tables import show_dla
        from edge_van.model.dla import dla_report

        report = dla_report(variant or "b0", input_size)
        print_json(report) if as_json else show_dla(report)
        return
    from edge_van.model.complexity import best_dilation, complexity_table, variant_table

    variants = variant_table([variant] if variant else None, input_size)
    complexity = complexity_table(kernel_size)
    best = best_dilation(kernel_size)
    if as_json:
        print_json({"variants": variants, "complexity": complexity, "best_dilation": best})
    else:
        from edge_van.cli.tables import show_info

        show_info(variants, complexity, kernel_size, best)


@cli.command()
@click.argument("bundle", type=_PATH, required=False)
@click.option("--json", "as_json", is_flag=True)
def doctor(bundle: Path | None, as_json: bool) -> None:
    """What is installed and works; with BUNDLE, whether every file of it is whole."""
    from edge_van.doctor import inspect_bundle, inspect_install

    checks = inspect_install() if bundle is None else inspect_bundle(bundle)
    if as_json:
        print_json(checks)
    else:
        from edge_van.cli.tables import show_checks

        show_checks(checks)
    # what is not installed may not be needed, but a bundle needs every file it lists
    failed = [c.name for c in checks if c.status == "broken" or (bundle is not None and c.status != "ok")]
    if failed:
        kind, of = (MissingRuntimeError, "") if bundle is None else (BundleError, f" of {bundle}")
        raise kind(f"{len(failed)} checks{of} failed: {', '.join(failed[:5])}")


for verb in (quantize, benchmark, report, predict):
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
    except (KeyboardInterrupt, click.exceptions.Abort):
        click.echo("edge-van: interrupted; nothing half-written was left", err=True)  # click ended the line of the ^C
        code = INTERRUPTED
    except SystemExit as stop:  # SIGTERM or SIGHUP, see edge_van.storage.folders
        code = stop.code
        if isinstance(code, int) and code > 128:
            click.echo("edge-van: terminated; nothing half-written was left", err=True)
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


def _fail(error: BaseException, text: str, code: int, verbose: bool) -> int:
    if verbose:
        import traceback

        traceback.print_exception(error)
    click.echo(f"edge-van: error: {one_line(text)}", err=True)
    return code
