"""An ARM "device" on this machine: Debian's Python and the runtimes' wheels for aarch64, run by qemu's user emulation.

In: a folder. Out: the command of its Python on a CPU. Nothing is installed: packages are unpacked beside each other.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import pytest

QEMU = "qemu-aarch64-static"
PYTHON = "3.11"
"""Debian 12's."""
PACKAGES = (
    *("python3.11-minimal", "libpython3.11-minimal", "libpython3.11-stdlib", "libc6", "libgcc-s1", "libstdc++6"),
    *("libgomp1", "zlib1g", "libexpat1", "libssl3", "libffi8", "libbz2-1.0", "liblzma5", "libsqlite3-0", "libuuid1"),
    *("libcrypt1", "libncursesw6", "libtinfo6", "libreadline8", "libdb5.3", "libnsl2", "libtirpc3"),
)
ONNX_RUNTIME = "1.24.1"
"""Later ones end with a segmentation fault when they are imported under Debian 12's qemu (seen: 1.32.0)."""
GLIBCS = ("2_35", "2_31", "2_28", "2_27", "2_17")


@dataclass(frozen=True)
class AArch64:
    """``root`` is its file system, ``site`` its packages."""

    root: Path
    site: Path

    def python(self, cpu: str) -> tuple[str, ...]:
        """The command of its Python on that CPU; times mean nothing, kernels and results do."""
        words = (QEMU, "-cpu", cpu, "-L", str(self.root), "-E", f"PYTHONPATH={self.site}")
        return (*words, str(self.root / "usr" / "bin" / f"python{PYTHON}"))


def make_aarch64(folder: Path) -> AArch64:
    """Two minutes. Skips where Debian's packages or the index cannot be had."""
    if shutil.which(QEMU) is None:
        pytest.skip("no qemu here: apt-get install qemu-user-static")
    debs, wheels, root, site = (folder / name for name in ("debs", "wheels", "root", "site"))
    for made in (debs, wheels, root, site):
        made.mkdir(parents=True)
    _run("dpkg", "--add-architecture", "arm64")
    _run("apt-get", "update", "-qq")
    _run("apt-get", "download", "-qq", *(f"{name}:arm64" for name in PACKAGES), cwd=debs)
    for package in debs.glob("*.deb"):
        _run("dpkg", "-x", str(package), str(root))
    platforms = [word for glibc in GLIBCS for word in ("--platform", f"manylinux_{glibc}_aarch64")]
    wanted = [f"{name}=={version(name)}" for name in ("openvino", "numpy", "packaging", "flatbuffers")]
    wanted.append(f"onnxruntime=={ONNX_RUNTIME}")
    pip = (sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary", ":all:", "-d", str(wheels))
    _run(*pip, "--python-version", PYTHON, "--implementation", "cp", *platforms, *wanted)
    for wheel in wheels.glob("*.whl"):
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(site)
    return AArch64(root, site)


def _run(*command: str, cwd: Path | None = None) -> None:
    done = subprocess.run(command, capture_output=True, text=True, cwd=cwd, check=False)
    if done.returncode:
        pytest.skip(f"{' '.join(command[:3])} failed: {done.stderr.strip().splitlines()[-1:]}")
