"""Whether a bundle is what its manifest says, at a glance: no model is hashed and no engine is needed.

In: a ``Bundle``. Out: nothing, or a ``BundleError``. ``edge_van.bundle.bundle.verify`` looks at every byte.
"""

from __future__ import annotations

from edge_van.bundle.bundle import Bundle
from edge_van.bundle.files import problem_of
from edge_van.errors import BundleError


def require_whole(bundle: Bundle) -> None:
    """``BundleError`` for a listed file that is not there or has another size, and as ``require_fitting``."""
    bundle.require_files()
    for entry in bundle.manifest.files:
        path = bundle.path / entry.path
        try:
            info = path.lstat()
        except (FileNotFoundError, NotADirectoryError):
            info = None
        except OSError as error:
            raise BundleError(f"{path} cannot be read: {error.strerror}; check its permissions") from error
        if problem := problem_of(bundle.path, entry.path, entry, info, hashed=False):
            raise BundleError(f"the bundle {bundle.path} is damaged: {problem.detail}")
    require_fitting(bundle)


def require_fitting(bundle: Bundle) -> None:
    """``BundleError`` for a manifest whose input or classes are not those of its golden images and their logits.

    Their sha256 stands in the manifest, whose own nobody keeps: a size that was changed in it is seen here alone. A
    bundle without golden images, which an older version made, passes.
    """
    if bundle.manifest.golden is not None:
        from edge_van.bundle.golden import read_golden

        read_golden(bundle)
