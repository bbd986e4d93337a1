"""How large the CPU image's content is: the install steps of ``deploy/docker/cpu/Dockerfile`` in a bare Debian.

In: a Debian suite, a bundle to try it on. Out: a table, and a JSON with the sizes of the bare system, of each package
and of everything as gzip packs it. Needs root and mmdebstrap. The image itself is Python's own on the same Debian, with
another version of Python: its base is not measured here, what edge-van adds to it is.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from common import HERE, RESULTS, results_folder, write_result
from PIL import Image

VENV, USER = "opt/edge-van", "10001:10001"
NOT_WANTED = ("torch", "onnx", "onnxruntime", "pip")
"""Of these the image has none."""


@dataclass(frozen=True)
class Size:
    """Of regular files below a folder, links not followed."""

    name: str
    bytes: int
    files: int


def size_of(folder: Path, name: str) -> Size:
    """Apparent size, in which no file system's blocks are counted; a file with two names counts once."""
    seen = {}
    for above, _, names in os.walk(folder):
        for path in (Path(above, name) for name in names):
            if not path.is_symlink() and path.is_file():
                info = path.lstat()
                seen[info.st_dev, info.st_ino] = info.st_size
    return Size(name, sum(seen.values()), len(seen))


def packages(site: Path) -> list[Size]:
    """Every folder of site-packages with its size, the largest first."""
    sizes = [size_of(path, path.name) for path in site.iterdir() if path.is_dir()]
    return sorted(sizes, key=lambda size: -size.bytes)


def packed_bytes(root: Path) -> int:
    """Of everything as one gzipped tar, as a registry keeps an image's layers; level 6."""
    with tempfile.TemporaryFile() as archive:
        subprocess.run(["tar", "-C", root, "-c", "--use-compress-program=gzip -6", "."], stdout=archive, check=True)
        return archive.seek(0, os.SEEK_END)


def bare(suite: str, root: Path, *include: str) -> None:
    """The smallest Debian with apt, and the packages to ``include``."""
    command = ["mmdebstrap", "--quiet", "--variant=minbase", f"--include={','.join(include)}", suite, str(root)]
    subprocess.run([*command, *_mirror()], check=True)


def _mirror() -> list[str]:
    """The one that this Debian has its packages from."""
    sources = Path("/etc/apt/sources.list.d/debian.sources")
    lines = sources.read_text().splitlines() if sources.is_file() else []
    return [line.split(":", 1)[1].strip() for line in lines if line.startswith("URIs:")][:1]


def inside(root: Path, *command: str, user: str = "0:0") -> str:
    """Standard output of a command run in ``root`` as if it were the whole system."""
    clean = {"PATH": f"/{VENV}/bin:/usr/bin:/bin:/usr/sbin:/sbin", "LANG": "C.UTF-8", "PYTHONDONTWRITEBYTECODE": "1"}
    # a container has /proc and /sys, without which OpenVINO counts the cores for ever; both are gone with the command
    mounts = 'mount -t proc proc "$1/proc" && mount --rbind /sys "$1/sys" && shift && exec chroot "$@"'
    apart = ["unshare", "--mount", "sh", "-c", mounts, "sh", str(root), f"--userspec={user}", str(root)]
    done = subprocess.run([*apart, *command], env=clean, capture_output=True, text=True, check=False, timeout=300)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()[-2000:]}")
    return done.stdout


def install(suite: str, work: Path) -> Path:
    """The first stage, then the second: a root with Python and the environment alone; pip is left behind."""
    build, final, wheels = work / "build", work / "final", work / "build" / "wheels"
    bare(suite, build, "python3", "python3-venv")
    bare(suite, final, "python3")
    version = inside(build, "python3", "-c", "import sys; print('%d.%d' % sys.version_info[:2])").strip()
    pip = [sys.executable, "-m", "pip", "--quiet"]
    subprocess.run([*pip, "wheel", "--no-deps", "--wheel-dir", wheels, HERE.parent], check=True)
    [wheel] = wheels.glob("edge_van-*.whl")
    wanted = ["--python-version", version, "--only-binary", ":all:", "--dest", str(wheels)]
    subprocess.run([*pip, "download", *wanted, f"{wheel}[openvino]"], check=True)  # the root has no network of its own
    inside(build, "python3", "-m", "venv", "/opt/pip")
    inside(build, "python3", "-m", "venv", "--without-pip", f"/{VENV}")
    target = f"/{(wheels / wheel.name).relative_to(build)}[openvino]"
    python = ["--python", f"/{VENV}/bin/python"]
    inside(build, "/opt/pip/bin/pip", *python, "install", "--no-index", "--find-links", "/wheels", target)
    shutil.copytree(build / VENV, final / VENV, symlinks=True)
    return final


def try_it(root: Path, bundle: Path | None) -> list[str]:
    """Run the entry point as the image's user; the last line of each command's output."""
    site = next((root / VENV / "lib").glob("python3*/site-packages"))
    unwanted = [name for name in NOT_WANTED if (site / name).exists()]
    if unwanted:
        raise RuntimeError(f"{', '.join(unwanted)} came along")
    entry = f"/{VENV}/bin/edge-van"
    ran = [inside(root, entry, "--version", user=USER).strip()]
    if bundle is not None:
        shutil.copytree(bundle, root / "work" / "bundle")
        pixels = np.random.default_rng(0).integers(0, 256, (80, 90, 3), np.uint8)
        Image.fromarray(pixels).save(root / "work" / "image.png")
        classify = ["predict", "/work/bundle", "/work/image.png"]
        serve = ["export-server", "/work/bundle", "--to", "ovms", "--output", "/tmp/served"]
        ran += [inside(root, entry, *verb, user=USER).strip().splitlines()[-1] for verb in (classify, serve)]
        shutil.rmtree(root / "work")
    return ran


def main() -> None:
    """Install, try, measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--suite", default="bookworm", help="of Debian")
    parser.add_argument("--bundle", type=Path, help="one to classify and export an image with, inside")
    parser.add_argument("--results", type=results_folder, default=RESULTS)
    args = parser.parse_args()
    if os.getuid() != 0 or shutil.which("mmdebstrap") is None:
        parser.error("this makes a root file system: run it as root, with mmdebstrap installed")
    with tempfile.TemporaryDirectory() as folder:
        root = install(args.suite, Path(folder))
        site = next((root / VENV / "lib").glob("python3*/site-packages"))
        total, added = size_of(root, "everything"), size_of(root / VENV, "edge-van's environment")
        parts, packed = packages(site), packed_bytes(root)
        ran = try_it(root, args.bundle)
        python = inside(root, "python3", "--version").strip()
    for size in (total, added, *parts[:8]):
        print(f"{size.bytes / 1e6:8.1f} MB  {size.name}")
    print(f"{packed / 1e6:8.1f} MB  everything, gzipped")
    content = {
        "suite": args.suite,
        "python": python,
        "total": total,
        "environment": added,
        "packages": parts,
        "gzip_bytes": packed,
        "ran": ran,
    }
    write_result(args, content)


if __name__ == "__main__":
    main()
