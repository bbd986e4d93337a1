"""Times bundles and keeps the result: what ``edge-van benchmark`` does, for programs.

In: bundles, ``BenchmarkOptions``. Out: a ``BenchmarkResult``, also as a file that a report reads.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

from edge_van.bundle.bundle import Bundle, as_bundle
from edge_van.bundle.layout import BENCHMARK_NAME
from edge_van.errors import MissingRuntimeError, UsageError
from edge_van.machine import describe_machine
from edge_van.progress import UNWATCHED, Work
from edge_van.storage.files import replace_file, require_output
from edge_van.storage.folders import raised_on_termination
from edge_van.text import without_folders
from edge_van.timing.gate import require_same_conditions, require_same_models
from edge_van.timing.models import identity, timed_models
from edge_van.timing.record import BenchmarkResult, encode_benchmark
from edge_van.timing.record_file import read_benchmark
from edge_van.timing.run import BenchmarkOptions, run_benchmark


def benchmark(
    bundles: Bundle | str | Path | Sequence[Bundle | str | Path],
    *,
    options: BenchmarkOptions | None = None,
    baseline: BenchmarkResult | None = None,
    output: str | Path | None = None,
    command: str = "",
    work: Work = UNWATCHED,
    on_result: Callable[[BenchmarkResult], None] | None = None,
) -> BenchmarkResult:
    """Time every model of the bundles that runs here, in turns, and write the result to ``output``.

    Without ``output`` that is ``benchmark.json`` in a single bundle, where ``edge_van.report`` finds it; of several
    bundles nothing is written. ``baseline`` is an earlier result that this one will be compared with: what could not
    be is refused before anything is measured. ``command`` goes into the record as it is. ``on_result`` gets the result
    before it is written, so that minutes of work are not lost with a full disk.

    Raises ``UsageError`` for options that contradict each other or ``baseline``, ``MissingRuntimeError`` where nothing
    can run or a runtime that was named is not here, ``BundleError`` for a damaged file or a result that cannot be
    written.
    """
    options = options or BenchmarkOptions()
    check_libraries(options.settings.device)
    given = [bundles] if isinstance(bundles, Bundle | str | Path) else list(bundles)
    opened = [as_bundle(bundle) for bundle in given]
    if output is None and len(opened) == 1:
        output = opened[0].path / BENCHMARK_NAME
    if output is not None:
        check_output(Path(output), force=options.force)
    if baseline is not None:
        options = _compared(baseline, opened, options)
    with raised_on_termination():
        result = run_benchmark(opened, options, work.reporter, command)
    folders = [bundle.path for bundle in opened]
    skipped = tuple(replace(s, reason=without_folders(s.reason, folders)) for s in result.skipped)
    result = replace(result, skipped=skipped)
    if on_result is not None:
        on_result(result)
    if output is not None:
        replace_file(Path(output), encode_benchmark(result))
    return result


def _compared(before: BenchmarkResult, bundles: list[Bundle], options: BenchmarkOptions) -> BenchmarkOptions:
    """``options`` with the baseline model of ``before``; refuses before minutes of work what cannot be compared."""
    require_same_conditions(before, identity(bundles), options.settings, describe_machine(), options.against)
    models, skipped = timed_models(bundles, options.runtimes, options.settings.device)
    require_same_models(before, [model.name for model in models], skipped)
    return replace(options, against=before.baseline)


def check_libraries(device: str = "cpu") -> None:
    """``MissingRuntimeError`` for what timing itself takes; said before anything is measured."""
    if device == "cuda" and find_spec("pynvml") is None:
        raise MissingRuntimeError("a GPU is asked for its name by nvidia-ml-py: pip install 'edge-van[gpu]'")
    missing = [name for name in ("psutil", "cpuinfo") if find_spec(name) is None]
    if missing:
        raise MissingRuntimeError(
            f"timing takes {' and '.join(missing)}, not installed here: pip install 'edge-van[benchmark]'"
        )


def check_output(output: Path, baseline: Path | None = None, *, force: bool = False) -> None:
    """``UsageError``, before minutes of work, for an output that is in the way; ``BundleError`` where it cannot be
    written.

    ``baseline`` is the file of the result that this one will be compared with, which it must not replace; ``force``
    allows to replace a file that is no result.
    """
    require_output(output)
    if baseline is not None and output.exists() and output.samefile(baseline):
        raise UsageError(
            f"the result would replace its own baseline {baseline}, and the next run be compared with this one: give "
            f"another file with --output"
        )
    if output.exists() and not force:
        try:
            read_benchmark(output)
        except UsageError as error:
            raise UsageError(f"{output} is no result of edge-van benchmark: give --force to replace it") from error
