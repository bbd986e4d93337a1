"""Files that take seconds to make: kept in pytest's cache folder until a source they come from changes.

In: a function that fills a folder. Out: a copy of what it filled, now or in an earlier run. Of several workers one
fills it and the others wait. ``pytest --cache-clear`` forgets everything.
"""

from __future__ import annotations

import fcntl
import hashlib
import inspect
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from types import ModuleType

import pytest

import edge_van

PACKAGE = Path(edge_van.__file__).parent
ROOMS = ("bundle", "checkpoint", "export", "images", "model", "quantization", "runtimes", "storage")
"""With the package's ground, all that ``edge_van.export`` may import."""
LIBRARIES = ("torch", "torchao", "onnx", "onnxruntime", "openvino", "numpy", "pillow")
DAYS_KEPT = 7


@dataclass(frozen=True)
class MadeOnce:
    """``kept`` is where every run looks; each process gets copies of its own, so no test can spoil another's files."""

    kept: Path
    copies: pytest.TempPathFactory

    def __call__(self, name: str, make: Callable[[Path], None], *beside: ModuleType) -> Path:
        """A folder filled by ``make``. What that gives is known by the package's rooms and the libraries named above,
        by the module ``make`` stands in, and by those named ``beside`` it."""
        folder = self.kept / f"{name}-{_key(make, beside)}"
        with (self.kept / f"{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not folder.is_dir():
                self._forget_old()
                part = self.kept / f"{name}.part"
                shutil.rmtree(part, ignore_errors=True)  # of a run that was killed
                part.mkdir()
                make(part)
                part.rename(folder)
            folder.touch()
            return Path(shutil.copytree(folder, self.copies.mktemp(name), dirs_exist_ok=True))

    def _forget_old(self) -> None:
        """What no run has used for days: each change of a source leaves another."""
        for folder in self.kept.iterdir():
            if folder.is_dir() and time.time() - folder.stat().st_mtime > DAYS_KEPT * 86400:
                shutil.rmtree(folder)


def _key(make: Callable[[Path], None], beside: tuple[ModuleType, ...]) -> str:
    digest = hashlib.sha256(sys.version.encode())
    for library in LIBRARIES:
        digest.update(f"{library} {version(library)}\n".encode())
    sources = map(inspect.getsourcefile, (make, *beside))
    files = [Path(__file__), Path(__file__).with_name("captured_once.py"), *(Path(str(source)) for source in sources)]
    files += sorted(PACKAGE.glob("*.py"))
    for room in ROOMS:
        found = sorted((PACKAGE / room).rglob("*.py"))
        assert found, f"edge_van has no room {room} any more: name it here as it is called now"
        files += found
    for file in files:
        digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()[:16]
