"""What the agent asks of this package where a device has it: of a runtime, and golden logits or times of a model.

In: a request as JSON on standard input. Out: the answer as JSON, the last line on standard output. ``python -m
edge_van.deployment.on_device``; the model is that of a deployed folder.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

from edge_van.bundle.active import ACTIVE_NAME, active_model
from edge_van.bundle.bundle import open_bundle
from edge_van.errors import BundleError, EdgeVanError, UsageError
from edge_van.version import __version__

LEAST_SAMPLES = 10


def answer(request: dict[str, Any]) -> dict[str, Any]:
    """Of ``{"about": runtime}`` its version and GPU; of ``{"folder", "images", "shape"}`` the logits of every image;
    with ``seconds`` and ``warm_up_s``, too, milliseconds of inferences: pixels in, logits out, copies included.

    Raises as ``open_bundle_model``.
    """
    if "about" in request:
        return _about(str(request["about"]))
    import numpy as np

    from edge_van.runtimes.image_model import open_bundle_model

    folder = Path(request["folder"])
    active = active_model(open_bundle(folder))
    if active is None:
        raise BundleError(f"{folder} has no {ACTIVE_NAME}: deploy again")
    images = np.fromfile(request["images"], np.uint8).reshape(-1, 1, *request["shape"])
    with open_bundle_model(active.bundle, active.model, batch=1, **active.options) as model:
        if "seconds" not in request:
            return {"logits": [model.logits(image)[0].astype(float).tolist() for image in images]}
        samples: list[float] = []
        start = time.perf_counter()
        counted_from, until = start + request["warm_up_s"], start + request["warm_up_s"] + request["seconds"]
        while (begun := time.perf_counter()) < until or len(samples) < LEAST_SAMPLES:
            model.logits(images[0])
            if begun >= counted_from:
                samples.append(1000.0 * (time.perf_counter() - begun))
    return {"samples_ms": samples}


def _about(runtime: str) -> dict[str, Any]:
    from edge_van.bundle.engine_record import ENGINE_RUNTIMES
    from edge_van.runtimes.cuda import device
    from edge_van.runtimes.tensorrt import load_tensorrt

    if runtime not in ENGINE_RUNTIMES:
        raise UsageError(f"engines are run by {', '.join(ENGINE_RUNTIMES)}, not by {runtime!r}")
    version, gpu = load_tensorrt(runtime).__version__, device()
    return {
        "version": version,
        "gpu": gpu.name,
        "compute_capability": gpu.compute_capability,
        "edge_van": __version__,
    }


def main() -> int:
    """The exit code; an error is one line on standard error, as the agent quotes it."""
    try:
        found = answer(json.loads(sys.stdin.read()))
    except EdgeVanError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    sys.stdout.write(json.dumps(found) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
