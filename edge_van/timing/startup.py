"""How long a model takes to load and to answer first, and how much memory, in a fresh process of its own.

In: a ``ModelFile``. Out: a ``Startup``. The child process is ``python -m edge_van.timing.startup``; it takes the same
as JSON in its one argument and prints one line with a JSON object.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from edge_van import errors
from edge_van.errors import EdgeVanError
from edge_van.runtimes import open_model, session_class
from edge_van.runtimes.model_file import ModelFile
from edge_van.timing.interference import between, reading
from edge_van.timing.latency import random_feed
from edge_van.timing.record import Startup

CACHE_OPTION = {"openvino": "cache_dir"}
"""The runtime's option that names a folder for compiled models; without it nothing is kept."""
CACHE_VARIABLE = "TORCHINDUCTOR_CACHE_DIR"
"""Where torch.compile looks for that folder; it always keeps what it compiled."""
FURTHER_RUNS = 5
"""After the first, so that what is allocated late is in the peak."""
TRIES = 3
"""How often a start is measured while other work disturbs it."""
TIMEOUT_S = 900.0
ANSWER = "edge-van answers: "
"""Begins the child's line: engines print what they like, also when the process ends."""
STATUS = Path("/proc/self/status")


def measure_startup(model_file: ModelFile, cache: Path, threads: int | None) -> Startup:
    """Load and run in a new process; where the engine keeps what it compiled, again with that. ``cache`` is made.

    Raises what the child raised, by its class: ``MissingRuntimeError``, ``BundleError``.
    """
    cache.mkdir(parents=True)
    if model_file.options.get("compile"):  # minutes: done once, and what it leaves behind is used again
        first, first_disturbed = _child(model_file, threads, {}, cache)
        second, second_disturbed = _quiet(model_file, threads, {}, cache)
    else:
        first, first_disturbed = _quiet(model_file, threads, {}, cache)
        second, second_disturbed = None, False
        if option := CACHE_OPTION.get(model_file.runtime):
            _child(model_file, threads, {option: str(cache)}, cache)  # fills it, which the first should not pay
            second, second_disturbed = _quiet(model_file, threads, {option: str(cache)}, cache)
    return Startup(
        model=model_file.name,
        load_ms=first["load_ms"],
        first_inference_ms=first["first_inference_ms"],
        cached_load_ms=second["load_ms"] if second else None,
        cached_first_inference_ms=second["first_inference_ms"] if second else None,
        peak_memory_mib=first["peak_memory_mib"],
        before_load_mib=first["before_load_mib"],
        disturbed=first_disturbed or second_disturbed,
    )


@contextmanager
def compile_cache(folder: Path | None) -> Iterator[None]:
    """torch.compile finds in ``folder`` what ``measure_startup`` left there; None leaves its cache where it is."""
    before = os.environ.get(CACHE_VARIABLE)
    if folder is not None:
        os.environ[CACHE_VARIABLE] = str(folder)
    try:
        yield
    finally:
        if folder is not None:
            os.environ.pop(CACHE_VARIABLE)
            if before is not None:
                os.environ[CACHE_VARIABLE] = before


def _quiet(
    model_file: ModelFile, threads: int | None, options: dict[str, str], cache: Path
) -> tuple[dict[str, float], bool]:
    """(figures, whether they were disturbed after all)."""
    for _ in range(TRIES):
        measured, disturbed = _child(model_file, threads, options, cache)
        if not disturbed:
            break
    return measured, disturbed


def _child(
    model_file: ModelFile, threads: int | None, options: dict[str, str], cache: Path
) -> tuple[dict[str, float], bool]:
    all_options = {**model_file.options, "threads": threads, **options}
    task = json.dumps({"runtime": model_file.runtime, "path": str(model_file.path.resolve()), "options": all_options})
    before = reading()
    try:
        done = subprocess.run(
            # -P: a numpy.py in the folder one works in is not imported
            [sys.executable, "-P", "-m", "edge_van.timing.startup", task],
            capture_output=True,
            text=True,
            errors="replace",
            env=os.environ | {CACHE_VARIABLE: str(cache)},
            timeout=TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise EdgeVanError(
            f"{model_file.name} did not load and answer within {TIMEOUT_S:.0f} s in a process of its own"
        ) from error
    disturbed = between(before, reading()).disturbed
    answers = [line for line in done.stdout.splitlines() if line.startswith(ANSWER)]
    if done.returncode != 0 or not answers:
        last = (done.stderr.strip() or "no message").splitlines()[-1]
        raise EdgeVanError(f"{model_file.name} cannot be loaded in a process of its own: {last}")
    answer: dict[str, Any] = json.loads(answers[0].removeprefix(ANSWER))
    if "error" in answer:
        kind = getattr(errors, answer["error"], EdgeVanError)
        raise kind(answer["message"])
    return answer, disturbed


def run_task(task: dict[str, Any]) -> dict[str, Any]:
    """In the child: import the engine, then load and run the model; milliseconds and MiB, or the package's error."""
    try:
        return _measure(task["runtime"], Path(task["path"]), task["options"])
    except EdgeVanError as error:
        return {"error": type(error).__name__, "message": str(error)}


def _measure(runtime: str, path: Path, options: dict[str, Any]) -> dict[str, Any]:
    session_class(runtime).preload(**options)
    before = _memory_mib("VmRSS")
    start = time.perf_counter()
    with open_model(runtime, path, **options) as session:
        loaded = time.perf_counter()
        feed = random_feed(session, np.random.default_rng(0))
        ready = time.perf_counter()
        session.run(feed)
        answered = time.perf_counter()
        for _ in range(FURTHER_RUNS):
            session.run(feed)
        peak = _memory_mib("VmHWM")
    return {
        "load_ms": (loaded - start) * 1e3,
        "first_inference_ms": (answered - ready) * 1e3,
        "peak_memory_mib": peak,
        "before_load_mib": before,
    }


def _memory_mib(key: str) -> float:
    """VmRSS (now) or VmHWM (the most so far) of this process alone.

    Not ``getrusage``: its peak begins with that of the process which started this one.
    """
    for line in STATUS.read_text().splitlines():
        if line.startswith(f"{key}:"):
            return int(line.split()[1]) / 1024.0
    raise EdgeVanError(f"{STATUS} does not tell {key}: the memory of a process is read from Linux")


if __name__ == "__main__":
    print(f"\n{ANSWER}{json.dumps(run_task(json.loads(sys.argv[1])))}", flush=True)
