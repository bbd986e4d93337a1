"""What other commands left with a bundle, beside its benchmark.

In: a ``Bundle``. Out: records, or None.
"""

from __future__ import annotations

import shlex

from edge_van.bundle.bundle import Bundle
from edge_van.bundle.layout import SENSITIVITY_NAME
from edge_van.errors import UsageError
from edge_van.evaluation.sensitivity_record import Sensitivity, read_sensitivity


def sensitivity_of(bundle: Bundle) -> Sensitivity | None:
    """What ``edge-van sensitivity`` left with the bundle; ``UsageError`` where that is of other files."""
    path = bundle.path / SENSITIVITY_NAME
    if not path.exists() and not path.is_symlink():
        return None
    result = read_sensitivity(path)
    listed = {entry.path: entry.sha256 for entry in bundle.manifest.files}
    if listed.get(result.measurement.file) != result.measurement.file_sha256:
        raise UsageError(
            f"{path} was measured on another graph than this bundle's: run edge-van sensitivity "
            f"{shlex.quote(str(bundle.path))} again, or remove that file"
        )
    return result
