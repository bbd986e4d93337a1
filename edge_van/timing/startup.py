"""How long a model takes to load and to answer first, and how much memory, in a fresh process of its own.

In: a ``Candidate``. Out: a ``Startup``. The child process is ``python -m edge_van.timing.startup``: it takes the same
as JSON in its one argument and prints one JSON object.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from edge_van.benchmark import Candidate, random_feed
from edge_van.benchmark_record import Startup
from edge_van.errors import EdgeVanError
from edge_van.runtimes import RUNTIMES, open_model

CACHE_OPTION = {"openvino": "cache_dir"}
"""The runtime's option that names a folder for compiled models."""
CACHE_VARIABLE = {"torch": "TORCHINDUCTOR_CACHE_DIR"}
"""The same where a library takes it from the environment."""
FURTHER_RUNS = 5
"""After the first, so that what is allocated late is in the peak."""
TIMEOUT_S = 900.0
STATUS = Path("/proc/self/status")


def measure_startup(candidate: Candidate, cache: Path, threads: int | None) -> Startup:
    """Load and run in a new process, and once more where the engine keeps what it compiled under ``cache``.

    Raises ``EdgeVanError`` with the child's last line if it fails.
    """
    if candidate.runtime in CACHE_OPTION:
        cache = Path(tempfile.mkdtemp(dir=cache))
    keeps = candidate.options.get("compile", candidate.runtime in CACHE_OPTION)
    first = _child(candidate, cache, threads)
    second = _child(candidate, cache, threads) if keeps else None
    return Startup(
        model=candidate.name,
        load_ms=first["load_ms"],
        first_inference_ms=first["first_inference_ms"],
        cached_load_ms=second["load_ms"] if second else None,
        cached_first_inference_ms=second["first_inference_ms"] if second else None,
        peak_memory_mib=first["peak_memory_mib"],
        before_load_mib=first["before_load_mib"],
    )


@contextmanager
def compile_cache(folder: Path) -> Iterator[None]:
    """Libraries that take their cache from the environment find in ``folder`` what ``measure_startup`` left there."""
    before = {variable: os.environ.get(variable) for variable in CACHE_VARIABLE.values()}
    os.environ.update({variable: str(folder) for variable in CACHE_VARIABLE.values()})
    try:
        yield
    finally:
        for variable, value in before.items():
            os.environ.pop(variable, None)
            if value is not None:
                os.environ[variable] = value


def _child(candidate: Candidate, cache: Path, threads: int | None) -> dict[str, float]:
    options = {**candidate.options, "threads": threads}
    environment = dict(os.environ)
    if option := CACHE_OPTION.get(candidate.runtime):
        options[option] = str(cache)
    if variable := CACHE_VARIABLE.get(candidate.runtime):
        environment[variable] = str(cache)
    task = json.dumps({"runtime": candidate.runtime, "path": str(candidate.path), "options": options})
    try:
        done = subprocess.run(
            [sys.executable, "-m", "edge_van.timing.startup", task],
            capture_output=True,
            text=True,
            env=environment,
            timeout=TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise EdgeVanError(
            f"{candidate.name} did not load and answer within {TIMEOUT_S:.0f} s in a process of its own"
        ) from error
    if done.returncode != 0:
        last = (done.stderr.strip() or "no message").splitlines()[-1]
        raise EdgeVanError(f"{candidate.name} cannot be loaded in a process of its own: {last}")
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def run_task(task: dict[str, Any]) -> dict[str, float]:
    """In the child: import the engine, then load and run the model; milliseconds and MiB."""
    import_module(RUNTIMES[task["runtime"]].split(":")[0])
    _import_engine(task["runtime"])
    before = _memory_mib("VmRSS")
    start = time.perf_counter()
    with open_model(task["runtime"], Path(task["path"]), **task["options"]) as session:
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


def _import_engine(runtime: str) -> None:
    """The engine's own import is no part of loading a model: every program pays it once."""
    import_module({"tensorrt_rtx": "tensorrt_rtx", "torch": "torch"}.get(runtime, runtime))


def _memory_mib(key: str) -> float:
    """VmRSS (now) or VmHWM (the most so far) of this process alone.

    Not ``getrusage``: its peak begins with that of the process which started this one.
    """
    for line in STATUS.read_text().splitlines():
        if line.startswith(f"{key}:"):
            return int(line.split()[1]) / 1024.0
    raise EdgeVanError(f"{STATUS} does not tell {key}: the memory of a process is read from Linux")


if __name__ == "__main__":
    print(json.dumps(run_task(json.loads(sys.argv[1]))))
